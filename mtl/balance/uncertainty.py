"""Weights from each task's uncertainty."""

import math
from typing import Dict

from mtl.balance.balance import FLOOR, Balance
from mtl.encoder.gradients import Gramian
from mtl.errors import check_range

MOST = 10.0  # times what it is at rest, that a loss may pull at its s in a step


class UncertaintyBalance(Balance):
    """Weight exp(-s) a task, where s is learned beside the network by minimising exp(-s) loss + s / 2.

    Kendall, Gal and Cipolla 2018 (https://arxiv.org/abs/1705.07115), in the form for classification. s starts where the task's
    first loss would have it, log(2 loss), so that scales of any size begin level.
    """

    learned = ("log_variance",)

    def __init__(self, learn_rate: float) -> None:
        check_range("balance.learn_rate", learn_rate, 0.0, 1.0)
        self.learn_rate = learn_rate
        self.log_variance: Dict[str, float] = {}

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        for task, loss in losses.items():
            self.log_variance.setdefault(task, math.log(2 * max(loss, FLOOR)))
        weights = {task: math.exp(-self.log_variance.get(task, 0.0)) for task in gradients.tasks}
        for task, loss in losses.items():
            pull = min(math.exp(-self.log_variance[task]) * loss, MOST)
            self.log_variance[task] -= self.learn_rate * (0.5 - pull)
        return weights


def uncertainty_balance(learn_rate: float = 0.02) -> UncertaintyBalance:
    """`mtl.UncertaintyBalance.v1`. learn_rate: of the log variances, by gradient descent."""
    return UncertaintyBalance(learn_rate)
