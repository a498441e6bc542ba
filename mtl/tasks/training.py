"""How a head is trained: its loss, a teacher's, and what it leaves at the encoder output."""

import math
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

import torch
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from torch import Tensor

from mtl import distributed
from mtl.encoder.batch import EncoderBatch
from mtl.encoder.component import Transformer
from mtl.tasks.loss import Loss, with_consistency
from mtl.tasks.teacher import Teacher
from mtl.torch_model import training

Rows = List[Tuple[int, Example]]  # index in the batch, example


class HeadUpdate:
    """Mixin of `Head`."""

    name: str
    teacher: Optional[Teacher]
    is_annotated: Callable[[Doc], bool]
    _in_training: bool

    @property
    def transformer(self) -> Transformer:
        raise NotImplementedError

    @property
    def training_module(self) -> Any:
        raise NotImplementedError

    def loss(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Loss]:
        """The loss over annotated examples; None if none of them can be used."""
        raise NotImplementedError

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Any = None,
        losses: Optional[Dict[str, float]] = None,
    ) -> Dict[str, float]:
        """Add the gradient to the head's own weights, and leave that at the encoder output with the transformer."""
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        self._in_training = True
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.update")
        rows = [(i, eg) for i, eg in enumerate(examples) if len(eg.predicted) and self.is_annotated(eg.reference)]
        if not distributed.sum_over_ranks(len(rows)):
            return losses
        try:
            with training():
                self._backward(rows, self.transformer.batch(examples), drop, losses)
        except Exception:
            self.transformer.abandon_update()
            raise
        if sgd not in (None, False):
            self.finish_update(sgd)
        return losses

    def _backward(self, rows: Rows, batch: EncoderBatch, drop: float, losses: Dict[str, float]) -> None:
        module = self.training_module.train()
        try:
            batch_loss = self._loss(rows, batch, drop)
            loss, count = self._rank_share(batch_loss)
            if self.teacher is not None:
                loss = self._taught(self.teacher, batch_loss, loss, rows, batch, drop)
        finally:
            module.eval()
        if loss is None:
            return
        value = distributed.sum_over_ranks(loss.item())
        if not math.isfinite(value):
            came_from_here = not math.isfinite(loss.item())
            self.transformer.report_non_finite_loss(self.name, [eg.predicted for _, eg in rows] if came_from_here else [])
            return
        share = self.transformer.updates.share(self.name, count) if count else 1.0
        if loss.requires_grad:
            if share < 1:  # the head's own gradient is the mean over the parts of a step, too
                for parameter in self.training_module.parameters():
                    if parameter.grad is not None:
                        parameter.grad.mul_(1 - share)
                loss = loss * share
            loss.backward()
        batch.collect(self.name, value, count, 1 / share)
        losses[self.name] += value

    def _loss(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Loss]:
        first = self.loss(rows, batch, drop) if rows else None
        if first is not None and self.transformer.r_drop and batch.train:
            with batch.second_pass():
                second = self.loss(rows, batch, drop)
            assert second is not None
            first = with_consistency(first, second, self.transformer.r_drop)
        return first

    @staticmethod
    def _rank_share(loss: Optional[Loss]) -> Tuple[Optional[Tensor], float]:
        """This rank's part of the mean loss over all ranks, and what that is the mean over.

        The parts sum up to the mean. None if no rank has anything to use.
        """
        count = distributed.sum_over_ranks(loss.count if loss is not None else 0.0)
        if not count:
            return None, 0.0
        return (loss.mean * (loss.count / count) if loss is not None else torch.zeros(())), count

    def _taught(
        self, teacher: Teacher, batch_loss: Optional[Loss], loss: Optional[Tensor], rows: Rows, batch: EncoderBatch, drop: float
    ) -> Optional[Tensor]:
        """The loss, mixed with that against the teacher's predictions."""
        share = teacher.next_share()
        if share == 0:
            return loss
        soft = teacher.soft_loss(batch_loss, rows)
        taught, _ = self._rank_share(soft if soft is not None or not rows else self._loss(teacher.rows(rows), batch, drop))
        if loss is None or taught is None:
            return loss if taught is None else taught
        return (1 - share) * loss + share * taught

    def finish_update(self, sgd: Any) -> None:
        """Request the step of the encoder and all its heads; see `Transformer.finish_update`."""
        self.transformer.request_step(sgd)

    def get_loss(self, examples: Any, scores: Any) -> Any:
        raise NotImplementedError(f"{self.name}: the loss is computed in `update`")
