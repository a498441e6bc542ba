"""Fast adaptive multitask optimization."""

import math
from typing import Dict

from mtl.balance.balance import Balance
from mtl.encoder.gradients import Gramian
from mtl.errors import check_range

LEAST = 1e-8


class FAMOBalance(Balance):
    """Lets all losses fall at a similar rate: z = softmax(xi), weight z / loss, and xi descends by how far each log loss fell.

    Liu, Feng, Stone and Liu 2023 (https://arxiv.org/abs/2306.03792), algorithm 1. How far a loss fell is read off the next step
    that has the task, in place of a second forward pass on the same batch. The weights of the tasks seen so far are scaled to
    mean 1.
    """

    learned = ("xi", "losses")

    def __init__(self, learn_rate: float, decay: float) -> None:
        check_range("balance.learn_rate", learn_rate, 0.0)
        check_range("balance.decay", decay, 0.0)
        self.learn_rate, self.decay = learn_rate, decay
        self.xi: Dict[str, float] = {}
        self.losses: Dict[str, float] = {}  # each task's last

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        fell = {task: math.log(self.losses[task] / max(loss, LEAST)) for task, loss in losses.items() if task in self.losses}
        if fell:
            self._descend(fell)
        for task, loss in losses.items():
            self.xi.setdefault(task, 0.0)
            self.losses[task] = max(loss, LEAST)
        parts = {task: z / self.losses[task] for task, z in self._softmax().items()}
        mean = sum(parts.values()) / len(parts) if parts else 1.0
        return {task: parts[task] / mean if task in parts else 1.0 for task in gradients.tasks}

    def _softmax(self) -> Dict[str, float]:
        most = max(self.xi.values(), default=0.0)
        raised = {task: math.exp(xi - most) for task, xi in self.xi.items()}
        return {task: one / sum(raised.values()) for task, one in raised.items()}

    def _descend(self, fell: Dict[str, float]) -> None:
        z = self._softmax()
        mean = sum(z[task] * by for task, by in fell.items())  # a task that the step lacks fell by nothing
        for task in self.xi:
            gradient = z[task] * (fell.get(task, 0.0) - mean)
            self.xi[task] -= self.learn_rate * (gradient + self.decay * self.xi[task])


def famo_balance(learn_rate: float = 0.025, decay: float = 0.001) -> FAMOBalance:
    """`mtl.FAMOBalance.v1`. learn_rate, decay: of xi (beta and gamma in the paper)."""
    return FAMOBalance(learn_rate, decay)
