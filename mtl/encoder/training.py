"""How a transformer component and its heads are trained together: one backward pass and one step for all of them."""

import logging
from collections import Counter
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from thinc.api import Model

from mtl.encoder import stock
from mtl.encoder.batch import EncoderBatch
from mtl.encoder.links import LinkedHeads
from mtl.encoder.model.encoder import Encoder
from mtl.encoder.texts import tokenized_texts
from mtl.encoder.update import UpdateState
from mtl.errors import UserError
from mtl.optimization import set_run_length
from mtl.torch_model import Parameters, clear_gradients, get_module, training

logger = logging.getLogger(__name__)


class SharedTraining:
    """Mixin of the transformer component. `UpdateState` has the order of events."""

    name: str
    on_non_finite: str
    words_seen: int
    run_steps: Optional[int]
    _checked_weights: bool
    updates: UpdateState
    _docs: List[Doc]
    _losses: Dict[str, float]
    _heads: LinkedHeads
    _stock_listeners: List[Tuple[str, Model]]

    @property
    def _module(self) -> Encoder:
        raise NotImplementedError

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Any = None,
        losses: Optional[Dict[str, float]] = None,
    ) -> Dict[str, float]:
        """Open a batch for the heads; encoding runs when they ask. The encoder's dropout comes from its own config."""
        examples = list(examples)
        validate_examples(examples, "Transformer.update")
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        batch = self._open([eg.predicted for eg in examples], train=True)
        self._losses = losses
        self._warn_of_unknown_weights()
        with training():
            for name, listener in self._stock_listeners:
                stock.send(listener, name, self._docs, batch)
        return losses

    def _warn_of_unknown_weights(self) -> None:
        """Once: a head that was renamed in a saved pipeline would have a weight of 1.0, and nobody would know."""
        unknown = {} if self._checked_weights else self.unknown_in_weighting()
        self._checked_weights = True
        for setting, names in unknown.items():
            logger.warning(
                "%s names %s, which is no head of %r and changes nothing. If a component was renamed, rename it there as well",
                setting, ", ".join(names), self.name,
            )  # fmt: skip

    def unknown_in_weighting(self) -> Dict[str, List[str]]:
        """The names in settings of the weighting that are not those of heads, by setting."""
        heads = {head.name for head in self._heads.values()} | {name for name, _ in self._stock_listeners}
        by_setting = self.updates.weighting.settings_by_task().items()
        unknown = {f"components.{self.name}.weighting.{setting}": sorted(set(names) - heads) for setting, names in by_setting}
        return {setting: names for setting, names in unknown.items() if names}

    def rename_head(self, old: str, new: str) -> None:
        """Let a head that was renamed keep its weight."""
        self.updates.weighting.rename(old, new)

    def _open(self, docs: List[Doc], *, train: bool) -> EncoderBatch:
        self.take_due_step()
        self._end_batch()
        self._docs = docs
        self.words_seen += sum(map(len, docs))
        with training():
            return self.updates.open(self._module, tokenized_texts(docs), train=train)

    def batch(self, examples: Sequence[Example]) -> EncoderBatch:
        """The open batch of these examples, or, where `update` was not called on them, one with the encoder frozen."""
        docs = [eg.predicted for eg in examples]
        is_open = len(docs) == len(self._docs) and all(a is b for a, b in zip(docs, self._docs))
        if self.updates.batch is None or not is_open:
            return self._open(docs, train=False)
        return self.updates.batch

    def announce_run(self, nlp: Language) -> None:
        """Note how long the training of this pipeline is to be, for schedules that do not say it themselves."""
        self.run_steps = nlp.config.interpolate()["training"].get("max_steps")

    def finish_update(self, sgd: Any) -> None:
        """Request the step of the encoder and all its heads; it is taken before the weights are next read.

        spaCy's training loop calls this after every component's update, and then the step is taken at once. `nlp.update` calls
        it on this component before any head has been updated, and on each head afterwards.
        """
        has_gradients = self.updates.batch is not None and self.updates.batch.has_gradients
        if has_gradients or self._stock_listeners:
            self._request(sgd)
        if has_gradients:
            self.take_due_step()

    def request_step(self, sgd: Any) -> None:
        """Called by a head that is done: the step waits, since other heads may follow.

        Without an open batch there is nothing to wait for: in the training loop, the step was taken for all heads already.
        """
        if self.updates.batch is not None:
            self._request(sgd)

    def _request(self, sgd: Any) -> None:
        if self.run_steps is not None:
            set_run_length(sgd, self.run_steps)
        self.updates.request_step(sgd)

    def take_due_step(self) -> None:
        """Take the step that was requested, if any."""
        if self.updates.step_is_due:
            with training():
                self.updates.take_step(self._module, self.parameters())
            self._end_batch()

    def flush(self) -> None:
        """Take the due step, or else run the backward pass of the open batch, so that the gradients are at the parameters."""
        self.take_due_step()
        with training():
            self.updates.close(self._module)
            self.updates.combine(self._module)
        self._end_batch()

    def _end_batch(self) -> None:
        self._losses[self.name] = self._losses.get(self.name, 0.0) + self.updates.pop_loss()
        self._docs = []

    def abandon_update(self) -> None:
        """Forget the current step and all gradients, after an error in a head's update."""
        self.updates.abandon(self.parameters())
        self._docs = []

    def report_non_finite_loss(self, task: str, docs: Sequence[Doc]) -> None:
        """Leave a task out of this batch, because its loss is NaN or infinite.

        Args:
            task (str): The head's name.
            docs (Sequence[Doc]): The documents of this rank that the loss is over; none if it came from another rank.

        Raises:
            UserError: The settings say to stop.
        """
        self._skip_task(task, "loss", docs)

    def _report_non_finite(self, task: str, what: str, on_this_rank: bool) -> None:
        self._skip_task(task, what, self._docs if on_this_rank else [])

    def _skip_task(self, task: str, what: str, docs: Sequence[Doc]) -> None:
        self.updates.leave_out(task)
        for head in self._heads.values():
            if head.name == task:
                clear_gradients(get_module(head.model, task).parameters())
        beginnings = "; ".join(repr(doc.text[:60]) for doc in docs[:3])
        where = f"in a batch of {len(docs)} documents that begins with {beginnings}" if docs else "on another rank"
        message = f"the {what} of {task!r} is NaN or infinite {where}"
        if self.on_non_finite == "stop":
            raise UserError(f'{message}. Lower the learning rate, or set components.{self.name}.on_non_finite = "skip"')
        logger.warning("%s; the task is left out of this batch", message)

    @property
    def statistics(self) -> Dict[str, float]:
        """Gradient norms, weights and cosines of the last step: see `Gramian.statistics`."""
        self.take_due_step()
        return self.updates.statistics

    def parameters(self) -> Parameters:
        """All trainable parameters that are stepped together, the encoder's and the heads'.

        Heads of several pipelines may have the same name; the later ones get a number.
        """
        parameters = {f"{self.name}.{name}": entry for name, entry in self._module.trainable().items()}
        names: Counter = Counter()
        for head in list(self._heads.values()):
            names[head.name] += 1
            number = "" if names[head.name] == 1 else f"#{names[head.name]}"
            parameters |= {f"{head.name}{number}.{name}": entry for name, entry in head.parameters().items()}
        return parameters

    def get_loss(self, examples: Any, scores: Any) -> Any:
        """The encoder has no loss of its own."""
