"""A head's loss on a batch, and the divergence between two predictions of it. Pure torch."""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn

MIN_LOGIT = -1e4  # for impossible outcomes: with -inf the divergence would be NaN


@dataclass
class Loss:
    """A mean loss, and what it takes to combine it with others.

    Args:
        mean (Tensor): The mean, of order 1.
        count (float): What it is the mean over: documents, tokens, questions, or the sum of their weights.
        logits (Sequence[Tensor]): Tables whose last axis is a distribution, from which the head predicts; none if it has none.
        owners (Union[Sequence[int], np.ndarray]): For each row of a table, the index of its example, ascending.
    """

    mean: Tensor
    count: float
    logits: Sequence[Tensor] = ()
    owners: Union[Sequence[int], np.ndarray] = ()

    def by_example(self, examples: int) -> List[List[Tensor]]:
        """For each example its rows of each table.

        Args:
            examples (int): How many examples there are.
        """
        sizes = np.bincount(self.owners, minlength=examples).tolist()
        tables = [table.split(sizes) for table in self.logits]
        return [[table[i] for table in tables] for i in range(examples)]


def with_consistency(first: Loss, second: Loss, strength: float) -> Loss:
    """R-Drop (Liang et al. 2021, https://arxiv.org/abs/2106.14448): two losses of a batch under different dropout masks.

    Args:
        first (Loss): The loss of the first pass.
        second (Loss): The loss of the second pass.
        strength (float): Weight of the divergence between the two predictions.

    Returns:
        Loss: The mean of both, plus `strength` times the divergence.
    """
    divergences = [divergence(a, b) for a, b in zip(first.logits, second.logits)]
    mean = (first.mean + second.mean) / 2
    if divergences:
        mean = mean + strength * torch.stack(divergences).mean()
    return Loss(mean, first.count, first.logits, first.owners)


def distillation_loss(student: Loss, teacher_rows: Sequence[Sequence[Tensor]]) -> Optional[Loss]:
    """Cross-entropy of a head's predictions with a teacher's, the mean over rows and tables.

    Args:
        student (Loss): The head's loss.
        teacher_rows (Sequence[Sequence[Tensor]]): For each example the teacher's logits, as `Loss.by_example` gives them. An
            example with another number of rows is left out.

    Returns:
        Optional[Loss]: None if no example fits.
    """
    means: List[Tensor] = []
    count = 0
    student_tables = zip(*student.by_example(len(teacher_rows)))
    for i, (student_table, teacher_table) in enumerate(zip(student_tables, zip(*teacher_rows))):
        pairs = [(a, b) for a, b in zip(student_table, teacher_table) if len(a) and a.shape[:-1] == b.shape[:-1]]
        if pairs:
            logits = torch.cat([a for a, _ in pairs])
            targets = torch.cat([_with_width(b.to(a), a.shape[-1]) for a, b in pairs]).clamp_min(MIN_LOGIT).softmax(-1)
            means.append(-(targets * logits.clamp_min(MIN_LOGIT).log_softmax(-1)).sum(-1).mean())
            count = len(logits) if i == 0 else count
    return Loss(torch.stack(means).mean(), count) if means else None


def _with_width(logits: Tensor, width: int) -> Tensor:
    """The logits cut or padded. Columns go up to the longest document of a batch; those beyond a document are impossible."""
    return nn.functional.pad(logits[..., :width], (0, max(0, width - logits.shape[-1])), value=MIN_LOGIT)


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """The symmetric Kullback-Leibler divergence in nats (half the sum of both directions), the mean over rows."""
    log_p, log_q = (logits.float().clamp_min(MIN_LOGIT).log_softmax(-1) for logits in (first, second))
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean() / 2


def binary_logits(logits: Tensor) -> Tuple[Tensor]:
    """Logits of labels that each hold or not, as distributions over the two: (..., labels, 2)."""
    return (torch.stack([nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)], -1),)
