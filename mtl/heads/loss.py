"""A head's loss on a batch, and how far two predictions of the same batch lie apart. Pure torch."""

from dataclasses import dataclass
from typing import Sequence, Tuple

import torch
from torch import Tensor, nn

LOWEST = -1e4  # for the logit of what cannot be, of which the divergence would be no number


@dataclass
class Loss:
    """mean: of order 1. count: what it is the mean over: documents, tokens, questions, or the sum of their weights.

    logits: what the predictions come from, tables whose last axis is a distribution; none where there is none.
    """

    mean: Tensor
    count: float
    logits: Sequence[Tensor] = ()


def with_consistency(first: Loss, second: Loss, strength: float) -> Loss:
    """The mean of two losses of the same batch under different dropout, plus `strength` times their predictions' divergence.

    Source: R-Drop, Liang et al. 2021 (https://arxiv.org/abs/2106.14448).
    """
    apart = [divergence(a, b) for a, b in zip(first.logits, second.logits)]
    mean = (first.mean + second.mean) / 2
    return Loss(mean + strength * torch.stack(apart).mean() if apart else mean, first.count, first.logits)


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """The mean over rows of the symmetric Kullback-Leibler divergence (nats), half of both directions together."""
    one, two = (logits.float().clamp_min(LOWEST).log_softmax(-1) for logits in (first, second))
    return ((one.exp() - two.exp()) * (one - two)).sum(-1).mean() / 2


def yes_and_no(logits: Tensor) -> Tuple[Tensor]:
    """Logits of labels that each hold or not, as distributions over the two: (..., labels, 2)."""
    return (torch.stack([nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)], -1),)
