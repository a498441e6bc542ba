"""A head's loss on a batch, and R-Drop. Pure torch."""

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from mtl.tasks.outputs import Outputs, divergence


@dataclass
class Loss:
    """A mean loss, and what it takes to combine it with others.

    Args:
        mean (Tensor): The mean, of order 1.
        count (float): What it is the mean over: documents, tokens, questions, or the sum of their weights.
        outputs (Optional[Outputs]): The predictions that it is the loss of; None if nothing else can be compared with them.
    """

    mean: Tensor
    count: float
    outputs: Optional[Outputs] = None


def with_consistency(first: Loss, second: Loss, strength: float) -> Loss:
    """R-Drop (Liang et al. 2021, https://arxiv.org/abs/2106.14448): two losses of a batch under different dropout masks.

    Args:
        first (Loss): The loss of the first pass.
        second (Loss): The loss of the second pass.
        strength (float): Weight of the divergence between the two predictions.

    Returns:
        Loss: The mean of both, plus `strength` times the divergence.
    """
    mean = (first.mean + second.mean) / 2
    if first.outputs is not None and second.outputs is not None and first.outputs.tables:
        pairs = zip(first.outputs.tables, second.outputs.tables)
        mean = mean + strength * torch.stack([divergence(a, b) for a, b in pairs]).mean()
    return Loss(mean, first.count, first.outputs)
