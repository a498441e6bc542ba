"""The links between a transformer component and what reads from it: spaCy's `ListenedToComponent` protocol."""

from typing import Any, Dict, List, Set, Tuple, cast
from weakref import WeakValueDictionary

from thinc.api import Model

from mtl.encoder import stock
from mtl.encoder.listener import EncoderListener
from mtl.encoder.runtime.processes import enter_spawned_worker


class LinkedHeads(WeakValueDictionary):
    """Our heads by name, disabled ones too, since all of them are stepped together.

    Weak, because a component can be shared by several pipelines and must not keep the heads of a deleted one alive. A copy refers
    to the same heads. Pickled, as for the workers of `nlp.pipe(n_process=...)` where processes are spawned, it takes them along.
    """

    def __reduce__(self) -> Tuple[Any, ...]:
        return _unpickled, (dict(self),)


def _unpickled(heads: Dict[str, Any]) -> LinkedHeads:
    enter_spawned_worker()
    return LinkedHeads(heads)


class ListenerLinks:
    """Mixin of the transformer component. spaCy calls `find_listeners` for each component behind it in a pipeline.

    `listener_map` has the listeners of the pipeline that was linked last, in its order, without disabled components; spaCy
    empties it before it links.
    """

    name: str
    model: Model
    listener_map: Dict[str, List[Model]]
    _heads: "WeakValueDictionary[str, Any]"  # `LinkedHeads`

    @property
    def listeners(self) -> List[Model]:
        return [listener for name in self.listening_components for listener in self.listener_map[name]]

    @property
    def listening_components(self) -> List[str]:
        return list(self.listener_map)

    def add_listener(self, listener: Model, component_name: str) -> None:
        listeners = self.listener_map.setdefault(component_name, [])
        if listener not in listeners:
            listeners.append(listener)
        if isinstance(listener, EncoderListener):
            listener.transformer = cast(Any, self)
        elif self.model.shims and listener.has_dim("nO") is None:
            listener.set_dim("nO", cast(Any, self).width)

    def remove_listener(self, listener: Model, component_name: str) -> bool:
        listeners = self.listener_map.get(component_name, [])
        if listener not in listeners:
            return False
        listeners.remove(listener)
        if not listeners:
            del self.listener_map[component_name]
        return True

    def find_listeners(self, component: Any) -> None:
        model = getattr(component, "model", None)
        if not isinstance(model, Model):
            return
        for node in model.walk():
            is_ours = isinstance(node, EncoderListener)
            if (is_ours or stock.is_stock_listener(node)) and node.upstream_name in ("*", self.name):
                self.add_listener(node, component.name)
                if is_ours:
                    self._heads[component.name] = component

    @property
    def _stock_listeners(self) -> List[Tuple[str, Model]]:
        return [
            (name, listener)
            for name, listeners in self.listener_map.items()
            for listener in listeners
            if not isinstance(listener, EncoderListener)
        ]

    @property
    def _doc_readers(self) -> Set[str]:
        """The linked heads that read a Doc without a prompt."""
        return {name for name in self.listener_map if name in self._heads and self._heads[name].reads_docs}
