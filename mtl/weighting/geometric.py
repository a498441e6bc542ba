"""The geometric mean of the losses."""

import math
from typing import Dict

from mtl.errors import check_range
from mtl.weighting.base import EPSILON, Weighting
from mtl.weighting.gradients import Gramian


class GeometricWeighting(Weighting):
    """Minimizes the geometric mean of the losses, whose gradient is that of each loss times mean / (tasks * loss).

    The losses are running means, so that a task which the step lacks counts with its last value. The factor 1 / tasks is left
    out. See `geometric_weighting`.

    Args:
        smoothing (float): Fraction of a running mean that stays at each step.
    """

    state_keys = ("mean_losses",)

    def __init__(self, smoothing: float) -> None:
        check_range("weighting.smoothing", smoothing, 0.0, 0.999)
        self.smoothing = smoothing
        self.mean_losses: Dict[str, float] = {}

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        for task, loss in losses.items():
            previous = self.mean_losses.get(task, loss)
            self.mean_losses[task] = max(self.smoothing * previous + (1 - self.smoothing) * loss, EPSILON)
        if not self.mean_losses:
            return dict.fromkeys(gradients.tasks, 1.0)
        mean = math.exp(sum(map(math.log, self.mean_losses.values())) / len(self.mean_losses))
        return {task: mean / self.mean_losses[task] if task in self.mean_losses else 1.0 for task in gradients.tasks}


def geometric_weighting(smoothing: float = 0.9) -> GeometricWeighting:
    """Weighting `mtl.GeometricWeighting.v1`: minimizes the geometric mean of the losses (Chennupati et al. 2019).

    See https://arxiv.org/abs/1904.08492.

    Args:
        smoothing (float): Fraction of a running mean of the losses that stays at each step; 0 for the step's own losses.

    Raises:
        UserError: The smoothing is out of range.
    """
    return GeometricWeighting(smoothing)
