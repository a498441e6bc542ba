"""Weights from each task's uncertainty."""

import math
from typing import Dict

from mtl.errors import check_range
from mtl.weighting.base import MIN_SCALE, Weighting
from mtl.weighting.gradients import Gramian

MAX_PULL = 10.0  # of a loss on its log variance in one step, which is 0.5 at equilibrium


class UncertaintyWeighting(Weighting):
    """Weight exp(-s) for each task, where the log variance s minimizes exp(-s) loss + s / 2 by gradient descent.

    This is the form for classification. s starts at the optimum for the task's first loss, log(2 loss), so that losses of any
    scale start level. See `uncertainty_weighting`.

    Args:
        learning_rate (float): Learning rate of the log variances.
    """

    state_keys = ("log_variances",)

    def __init__(self, learning_rate: float) -> None:
        check_range("weighting.learning_rate", learning_rate, 0.0, 1.0)
        self.learning_rate = learning_rate
        self.log_variances: Dict[str, float] = {}

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        for task, loss in losses.items():
            self.log_variances.setdefault(task, math.log(2 * max(loss, MIN_SCALE)))
        weights = {task: math.exp(-self.log_variances.get(task, 0.0)) for task in gradients.tasks}
        for task, loss in losses.items():
            pull = min(math.exp(-self.log_variances[task]) * loss, MAX_PULL)
            self.log_variances[task] -= self.learning_rate * (0.5 - pull)
        return weights


def uncertainty_weighting(learning_rate: float = 0.02) -> UncertaintyWeighting:
    """Weighting `mtl.UncertaintyWeighting.v1`: less weight for tasks whose loss stays high, learned beside the network.

    Uncertainty weighting (Kendall, Gal and Cipolla 2018, https://arxiv.org/abs/1705.07115).

    Args:
        learning_rate (float): Learning rate of the tasks' log variances, 0 to 1.

    Raises:
        UserError: The learning rate is out of range.
    """
    return UncertaintyWeighting(learning_rate)
