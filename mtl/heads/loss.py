"""A head's loss on a batch, and how far two predictions of the same batch lie apart. Pure torch."""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn

LOWEST = -1e4  # for the logit of what cannot be, of which the divergence would be no number


@dataclass
class Loss:
    """mean: of order 1. count: what it is the mean over: documents, tokens, questions, or the sum of their weights.

    logits: what the predictions come from, tables whose last axis is a distribution; none where there is none. owners: for each
    row of a table, the place of its example among those that the loss is of; ascending.
    """

    mean: Tensor
    count: float
    logits: Sequence[Tensor] = ()
    owners: Union[Sequence[int], np.ndarray] = ()

    def by_example(self, count: int) -> List[List[Tensor]]:
        """For each of so many examples its rows of each table."""
        sizes = np.bincount(self.owners, minlength=count).tolist()
        parts = [table.split(sizes) for table in self.logits]
        return [[part[i] for part in parts] for i in range(count)]


def with_consistency(first: Loss, second: Loss, strength: float) -> Loss:
    """The mean of two losses of the same batch under different dropout, plus `strength` times their predictions' divergence.

    Source: R-Drop, Liang et al. 2021 (https://arxiv.org/abs/2106.14448).
    """
    apart = [divergence(a, b) for a, b in zip(first.logits, second.logits)]
    mean = (first.mean + second.mean) / 2
    return Loss(mean + strength * torch.stack(apart).mean() if apart else mean, first.count, first.logits, first.owners)


def taught_by(found: Loss, taught: Sequence[Sequence[Tensor]]) -> Optional[Loss]:
    """The cross-entropy of a head's predictions with another's, the mean over rows and tables; None where none fit together.

    taught: for each example the other's rows, as `by_example` gives them; of another number, they are left out.
    """
    means: List[Tensor] = []
    count = 0
    for table, (own, theirs) in enumerate(zip(zip(*found.by_example(len(taught))), zip(*taught))):
        kept = [(a, b) for a, b in zip(own, theirs) if len(a) and a.shape[:-1] == b.shape[:-1]]
        if kept:
            ours = torch.cat([a for a, _ in kept])
            shares = torch.cat([_fitted(b.to(a), a.shape[-1]) for a, b in kept]).clamp_min(LOWEST).softmax(-1)
            means.append(-(shares * ours.clamp_min(LOWEST).log_softmax(-1)).sum(-1).mean())
            count = len(ours) if table == 0 else count
    return Loss(torch.stack(means).mean(), count) if means else None


def _fitted(logits: Tensor, width: int) -> Tensor:
    """Columns are those of the longest document of a batch; those beyond a document's own cannot be."""
    return nn.functional.pad(logits[..., :width], (0, max(0, width - logits.shape[-1])), value=LOWEST)


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """The mean over rows of the symmetric Kullback-Leibler divergence (nats), half of both directions together."""
    one, two = (logits.float().clamp_min(LOWEST).log_softmax(-1) for logits in (first, second))
    return ((one.exp() - two.exp()) * (one - two)).sum(-1).mean() / 2


def yes_and_no(logits: Tensor) -> Tuple[Tensor]:
    """Logits of labels that each hold or not, as distributions over the two: (..., labels, 2)."""
    return (torch.stack([nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)], -1),)
