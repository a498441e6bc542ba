"""The geometric mean of the losses."""

import math
from typing import Dict

from mtl.balance.balance import Balance
from mtl.encoder.gradients import Gramian
from mtl.errors import check_range

LEAST = 1e-8


class GeometricBalance(Balance):
    """Minimises the geometric mean of the losses, whose gradient is that of each loss times mean / (tasks * loss).

    Chennupati et al. 2019 (https://arxiv.org/abs/1904.08492). The losses are running means, so that a task which the step lacks
    counts with what it had; the factor 1 / tasks is left out.
    """

    learned = ("losses",)

    def __init__(self, smoothing: float) -> None:
        check_range("balance.smoothing", smoothing, 0.0, 0.999)
        self.smoothing = smoothing
        self.losses: Dict[str, float] = {}

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        for task, loss in losses.items():
            old = self.losses.get(task, loss)
            self.losses[task] = max(self.smoothing * old + (1 - self.smoothing) * loss, LEAST)
        if not self.losses:
            return dict.fromkeys(gradients.tasks, 1.0)
        mean = math.exp(sum(map(math.log, self.losses.values())) / len(self.losses))
        return {task: mean / self.losses[task] if task in self.losses else 1.0 for task in gradients.tasks}


def geometric_balance(smoothing: float = 0.9) -> GeometricBalance:
    """`mtl.GeometricBalance.v1`. smoothing: share of a running mean that stays at each step; 0: the step's own losses."""
    return GeometricBalance(smoothing)
