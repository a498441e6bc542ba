"""Checkpoints and exact resume, between spaCy's training loop and the pipeline."""

import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from mtl import distributed
from mtl.checkpoints import CheckpointFolder, read_state
from mtl.encoder.component import Transformer
from mtl.training.checkpoint import restore_checkpoint, save_checkpoint, score_histories_in


class Recorder:
    """Stands in for the pipeline's `update` and `evaluate` while spaCy's loop runs.

    A resumed run goes through its earlier steps once more without computing anything: batches are made, schedules advance,
    evaluations return what they returned. So order, rates, patience and the best score come back by themselves. At the step of
    the checkpoint all weights and states are restored, and from there on the pipeline does the work.

    Args:
        nlp (Language): The pipeline.
        optimizer (Any): Its optimizer.
        checkpoints (CheckpointFolder): Where checkpoints go.
        minutes (float): Minutes between checkpoints; 0: only after Ctrl-C.
        before_update (Optional[Any]): The config's own callback.
    """

    def __init__(
        self, nlp: Language, optimizer: Any, checkpoints: CheckpointFolder, minutes: float, before_update: Optional[Any]
    ) -> None:
        self.nlp, self.optimizer, self.checkpoints, self.minutes = nlp, optimizer, checkpoints, minutes
        self.config_before_update = before_update
        self.update, self.evaluate = nlp.update, nlp.evaluate  # the pipeline's own
        self.scores: List[Dict[str, Any]] = []  # of the evaluations so far
        self.losses: Dict[str, float] = {}  # since the last evaluation
        self.restored_losses: Dict[str, float] = {}  # those of the checkpoint, until the first update after it
        self.score_histories: Dict[str, List[Dict[str, float]]] = {}  # of the heads, during the replay
        self.resumed_at, self.evaluations_replayed, self.saved_at = 0, 0, time.monotonic()
        self.checkpoint: Optional[Path] = None
        self.stop_requested = False

    def resume(self, checkpoint: Path) -> None:
        """Replay up to this checkpoint."""
        state = read_state(checkpoint)
        self.checkpoint, self.resumed_at = checkpoint, state["step"]
        self.scores, self.losses = state["progress"]["scores"], state["progress"]["losses"]
        self.score_histories = score_histories_in(checkpoint)

    @property
    def replaying(self) -> bool:
        """Whether the steps before the checkpoint are being replayed."""
        return self.checkpoint is not None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside the block, the pipeline's `update` and `evaluate` go through here."""
        for name, replacement in (("update", self._update), ("evaluate", self._evaluate)):
            setattr(self.nlp, name, replacement)
        try:
            yield
        finally:
            del self.nlp.update, self.nlp.evaluate

    def before_update(self, nlp: Language, arguments: Dict[str, Any]) -> None:
        """At the start of each step: end the replay, take a checkpoint that is due, stop after Ctrl-C."""
        step = arguments["step"]
        if self.checkpoint is not None and step == self.resumed_at:
            restore_checkpoint(self.checkpoint, nlp, self.optimizer)
            self.checkpoint, self.saved_at = None, time.monotonic()
            self.restored_losses = dict(self.losses)
        if self.replaying:
            return
        take_due_steps(nlp)  # all ranks together, before anything else that they do together
        is_due = bool(self.minutes and time.monotonic() - self.saved_at >= 60 * self.minutes)
        save = distributed.from_rank_zero(is_due)
        stop = distributed.sum_over_ranks(self.stop_requested)
        if step > self.resumed_at and (save or stop):
            self.save(step)
        if stop:
            raise KeyboardInterrupt
        if self.config_before_update is not None:
            self.config_before_update(nlp, arguments)

    def save(self, step: int) -> None:
        """Write a checkpoint."""
        take_due_steps(self.nlp)
        save_checkpoint(self.checkpoints, self.nlp, self.optimizer, step, {"scores": self.scores, "losses": self.losses})
        self.saved_at = time.monotonic()

    def _update(self, examples: Any, *, losses: Optional[Dict[str, float]] = None, **kwargs: Any) -> Dict[str, float]:
        if self.replaying:
            return losses or {}
        losses = {} if losses is None else losses
        losses.update(self.restored_losses)
        self.losses, self.restored_losses = losses, {}
        # A rank without examples must take part in the collectives all the same.
        rank_examples = distributed.shard(examples) or [Example(self.nlp.make_doc(""), Doc(self.nlp.vocab))]
        return self.update(rank_examples, losses=losses, **kwargs)

    def _evaluate(self, examples: Any, **kwargs: Any) -> Dict[str, Any]:
        if self.replaying and self.evaluations_replayed < len(self.scores):
            self.evaluations_replayed += 1
            for name, history in self.score_histories.items():  # sampling may depend on them
                self.nlp.get_pipe(name).score_history = history[: self.evaluations_replayed]  # type: ignore[attr-defined]
            return self.scores[self.evaluations_replayed - 1]
        scores = self.evaluate(examples, **kwargs)
        self.scores.append(scores)
        self.losses = {}  # the loop starts over after each evaluation
        return scores


@contextmanager
def finishing_step_on_interrupt(recorder: Recorder) -> Iterator[None]:
    """Ctrl-C lets the current step finish, so that a checkpoint can be written. A second Ctrl-C does not wait."""

    def stop(number: int, frame: Any) -> None:
        if recorder.stop_requested:
            raise KeyboardInterrupt
        recorder.stop_requested = True

    try:
        previous = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def take_due_steps(nlp: Language) -> None:
    """Take the optimizer steps that are due, on every rank: the one that saves must not do so alone."""
    for _, pipe in nlp.pipeline:
        if isinstance(pipe, Transformer):
            pipe.take_due_step()
