"""The links between a transformer component and what reads from it: spaCy's `ListenedToComponent` protocol."""

from typing import Any, Dict, List, Set, Tuple, cast
from weakref import WeakValueDictionary

from thinc.api import Model

from mtl.encoder import stock
from mtl.encoder.listener import EncoderListener
from mtl.encoder.runtime.processes import enter_spawned_worker
from mtl.errors import UserError


class LinkedHeads(WeakValueDictionary):
    """Our heads of all pipelines that share the transformer, by id, in the order in which they were linked.

    Weak, because a component can be shared by several pipelines and must not keep the heads of a deleted one alive. A copy refers
    to the same heads. Pickled, as for the workers of `nlp.pipe(n_process=...)` where processes are spawned, it takes them along.
    """

    def add(self, head: Any) -> None:
        self[id(head)] = head

    def __reduce__(self) -> Tuple[Any, ...]:
        return _unpickled, (list(self.values()),)


def _unpickled(heads: List[Any]) -> LinkedHeads:
    enter_spawned_worker()
    linked = LinkedHeads()
    for head in heads:
        linked.add(head)
    return linked


class ListenerMap(Dict[str, List[Model]]):
    """spaCy's map from components to listeners, which refuses `nlp.replace_listeners`.

    `get` is the first thing that method calls, before it changes a config or a model.
    """

    def get(self, component: str, default: Any = None) -> Any:
        raise UserError(
            f"nlp.replace_listeners: the encoder of an 'mtl_transformer' cannot be copied into {component!r}, which asks the "
            f"transformer component for vectors. To keep {component!r} as it is while the encoder is trained further, source "
            f"both under other names, and set the upstream of [components.{component}.model.encoder] to its transformer"
        )


class ListenerLinks:
    """Mixin of the transformer component. spaCy calls `find_listeners` for each component behind it in a pipeline.

    A transformer can be in several pipelines at once, with other heads in each (`add_pipe(..., source=...)`), and is not told
    from which of them it is called, or which components are disabled. So whatever it does, it does for all heads it was ever
    linked to. Only spaCy's own protocol asks for `listener_map`, which has the listeners of the pipeline that was linked last.
    """

    name: str
    model: Model
    _listener_map: ListenerMap
    _heads: LinkedHeads
    _stock_listeners: List[Tuple[str, Model]]  # component name, listener; of all pipelines

    @property
    def listener_map(self) -> Dict[str, List[Model]]:
        return self._listener_map

    @listener_map.setter
    def listener_map(self, listeners: Dict[str, List[Model]]) -> None:
        self._listener_map = ListenerMap(listeners)

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
            return
        if not any(known is listener for _, known in self._stock_listeners):
            self._stock_listeners.append((component_name, listener))
        if self.model.shims and listener.has_dim("nO") is None:
            listener.set_dim("nO", cast(Any, self).width)

    def remove_listener(self, listener: Model, component_name: str) -> bool:
        listeners = self.listener_map[component_name] if component_name in self.listener_map else []  # noqa: SIM401
        if listener not in listeners:
            return False
        listeners.remove(listener)
        self._stock_listeners = [(name, known) for name, known in self._stock_listeners if known is not listener]
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
                    self._heads.add(component)

    @property
    def _doc_readers(self) -> Set[str]:
        """The heads that read a Doc without a prompt."""
        return {head.name for head in self._heads.values() if head.reads_docs}
