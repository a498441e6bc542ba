"""Fast adaptive multitask optimization."""

import math
from typing import Dict

from mtl.errors import check_range
from mtl.weighting.base import EPSILON, Weighting
from mtl.weighting.gradients import Gramian


class FAMOWeighting(Weighting):
    """Lets all losses fall at a similar rate: z = softmax(xi), weight z / loss, and xi descends by the fall of each log loss.

    This is algorithm 1 of the paper, except that the fall of a loss is read from the next step that has the task, rather than
    from a second forward pass on the same batch. The weights of the tasks seen so far are scaled to mean 1. See `famo_weighting`.

    Args:
        learning_rate (float): Learning rate of xi.
        decay (float): Weight decay of xi.
    """

    state_keys = ("xi", "last_losses")

    def __init__(self, learning_rate: float, decay: float) -> None:
        check_range("weighting.learning_rate", learning_rate, 0.0)
        check_range("weighting.decay", decay, 0.0)
        self.learning_rate, self.decay = learning_rate, decay
        self.xi: Dict[str, float] = {}
        self.last_losses: Dict[str, float] = {}

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        falls = {
            task: math.log(self.last_losses[task] / max(loss, EPSILON))
            for task, loss in losses.items()
            if task in self.last_losses
        }
        if falls:
            self._descend(falls)
        for task, loss in losses.items():
            self.xi.setdefault(task, 0.0)
            self.last_losses[task] = max(loss, EPSILON)
        weights = {task: z / self.last_losses[task] for task, z in self._softmax().items()}
        mean = sum(weights.values()) / len(weights) if weights else 1.0
        return {task: weights[task] / mean if task in weights else 1.0 for task in gradients.tasks}

    def _softmax(self) -> Dict[str, float]:
        """The softmax of xi."""
        highest = max(self.xi.values(), default=0.0)
        exponentials = {task: math.exp(xi - highest) for task, xi in self.xi.items()}
        return {task: exponential / sum(exponentials.values()) for task, exponential in exponentials.items()}

    def _descend(self, falls: Dict[str, float]) -> None:
        """Update xi by the fall of each log loss. The loss of a task that the step lacks counts as unchanged."""
        z = self._softmax()
        mean = sum(z[task] * fall for task, fall in falls.items())
        for task in self.xi:
            gradient = z[task] * (falls.get(task, 0.0) - mean)
            self.xi[task] -= self.learning_rate * (gradient + self.decay * self.xi[task])


def famo_weighting(learning_rate: float = 0.025, decay: float = 0.001) -> FAMOWeighting:
    """Weighting `mtl.FAMOWeighting.v1`: lets all losses fall at a similar rate.

    Fast adaptive multitask optimization (Liu, Feng, Stone and Liu 2023, https://arxiv.org/abs/2306.03792).

    Args:
        learning_rate (float): Learning rate of the logits of the weights (beta in the paper).
        decay (float): Weight decay of these logits (gamma in the paper).

    Raises:
        UserError: A setting is negative.
    """
    return FAMOWeighting(learning_rate, decay)
