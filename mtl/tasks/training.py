"""How a head is trained: its loss on gold annotation, its teachers', and what it leaves at the encoder output."""

import math
from typing import Any, Callable, ClassVar, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import torch
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from torch import Tensor

from mtl import distributed
from mtl.encoder.batch import EncoderBatch
from mtl.encoder.component import Transformer
from mtl.tasks.loss import Loss, with_consistency
from mtl.tasks.outputs import Outputs, SoftLoss, Targets, divergence, soft_cross_entropy, soft_targets
from mtl.tasks.teacher import Teacher
from mtl.torch_model import training

Rows = List[Tuple[int, Example]]  # index in the batch, example
Part = Tuple[Optional[Tensor], float]  # a mean loss, and what it is the mean over


class HeadUpdate:
    """Mixin of `Head`."""

    name: str
    teacher: Optional[Teacher]
    is_annotated: Callable[[Doc], bool]
    _in_training: bool
    has_outputs: ClassVar[bool] = True  # whether predictions can be compared with a teacher's, or those of a second pass

    @property
    def transformer(self) -> Transformer:
        raise NotImplementedError

    @property
    def training_module(self) -> Any:
        raise NotImplementedError

    def outputs(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Outputs]:
        """What the head predicts for examples, annotated or not; None if there is nothing to predict."""
        raise NotImplementedError

    def gold_loss(self, outputs: Outputs, rows: Rows) -> Optional[Loss]:
        """The loss of the predictions for annotated examples; None if none of them can be used."""
        raise NotImplementedError

    def loss(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Loss]:
        """The loss over annotated examples; None if none of them can be used."""
        outputs = self.outputs(rows, batch, drop)
        return None if outputs is None else self.gold_loss(outputs, rows)

    def targets(self, outputs: Outputs, example: int, temperature: float) -> Targets:
        """What this head teaches about an example."""
        return soft_targets(outputs, example, temperature)

    def soft_loss(self, outputs: Outputs, targets: Sequence[Sequence[Targets]], temperature: float) -> Optional[SoftLoss]:
        """The loss of the predictions against those of teachers; see `soft_cross_entropy`."""
        return soft_cross_entropy(outputs, targets, temperature)

    def added_to(self, nlp: Any) -> str:
        """Give a teacher's pipeline such a head, for tasks whose `is_taught` says so. Returns its name."""
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
        rows, unlabelled = self._rows(examples)
        if not distributed.sum_over_ranks(len(rows) + len(unlabelled)):
            return losses
        try:
            with training():
                self._backward(rows, unlabelled, self.transformer.batch(examples), drop, losses)
        except Exception:
            self.transformer.abandon_update()
            raise
        if sgd not in (None, False):
            self.finish_update(sgd)
        return losses

    def _rows(self, examples: List[Example]) -> Tuple[Rows, Rows]:
        """The examples that are annotated for this head, and those that it learns from without."""
        rows = [(i, eg) for i, eg in enumerate(examples) if len(eg.predicted)]
        annotated = [(i, eg) for i, eg in rows if self.is_annotated(eg.reference)]
        is_taught = self.teacher is not None and self.teacher.takes_unlabelled
        if not (is_taught or (self.transformer.consistency and self.has_outputs)) or len(annotated) == len(rows):
            return annotated, []
        return annotated, [(i, eg) for i, eg in rows if not self.is_annotated(eg.reference)]

    def _backward(self, rows: Rows, unlabelled: Rows, batch: EncoderBatch, drop: float, losses: Dict[str, float]) -> None:
        module = self.training_module.train()
        try:
            parts = [self._on_labelled(rows, batch, drop)]
            if self.teacher is not None or self.transformer.consistency:
                parts += self._on_unlabelled(unlabelled, batch, drop)
            loss, count = weighted_mean(parts)
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
    def _rank_share(loss: Union[Loss, SoftLoss, None]) -> Part:
        """This rank's part of the mean loss over all ranks, and what that is the mean over.

        The parts sum up to the mean. None if no rank has anything to use.
        """
        count = distributed.sum_over_ranks(loss.count if loss is not None else 0.0)
        if not count:
            return None, 0.0
        return (loss.mean * (loss.count / count) if loss is not None else torch.zeros(())), count

    def _on_labelled(self, rows: Rows, batch: EncoderBatch, drop: float) -> Part:
        """The loss on annotated examples, mixed with that against the teachers' predictions."""
        gold = self._loss(rows, batch, drop)
        loss, count = self._rank_share(gold)
        share = self.teacher.next_share() if self.teacher is not None else 0.0
        if self.teacher is None or not share:
            return loss, count
        soft = self.teacher.loss(gold.outputs, rows) if gold is not None and gold.outputs is not None else None
        taught, _ = self._rank_share(soft)
        if loss is None or taught is None:
            return (loss if taught is None else taught), count
        return (1 - share) * loss + share * taught, count

    def _on_unlabelled(self, rows: Rows, batch: EncoderBatch, drop: float) -> List[Part]:
        """The loss against the teachers' predictions, and the divergence of two passes, by their weights."""
        outputs = self.outputs(rows, batch, drop) if rows else None
        parts = []
        if self.teacher is not None and self.teacher.takes_unlabelled:
            taught = None if outputs is None else self.teacher.loss(outputs, rows, unlabelled=True)
            loss, count = self._rank_share(taught)
            parts.append((loss, count * self.teacher.settings.unlabelled_weight))
        if self.transformer.consistency and batch.train:
            spread = None
            if outputs is not None and outputs.tables:
                with batch.second_pass():
                    second = self.outputs(rows, batch, drop)
                assert second is not None
                divergences = [divergence(a, b) for a, b in zip(outputs.tables, second.tables)]
                spread = SoftLoss(torch.stack(divergences).mean(), len(outputs.owners))
            loss, count = self._rank_share(spread)
            parts.append((loss, count * self.transformer.consistency))
        return parts

    def finish_update(self, sgd: Any) -> None:
        """Request the step of the encoder and all its heads; see `Transformer.finish_update`."""
        self.transformer.request_step(sgd)

    def get_loss(self, examples: Any, scores: Any) -> Any:
        raise NotImplementedError(f"{self.name}: the loss is computed in `update`")


def weighted_mean(parts: Sequence[Part]) -> Part:
    """The mean of losses by what each is the mean over; None if there is none."""
    present = [(loss, count) for loss, count in parts if loss is not None]
    total = sum(count for _, count in present)
    if not total:
        return None, 0.0
    return torch.stack([loss * (count / total) for loss, count in present]).sum(), total
