"""Dynamic weight average."""

import math
from typing import ClassVar, Dict, List, Tuple

from mtl.errors import check_range
from mtl.weighting.base import EPSILON, NormalizedWeighting
from mtl.weighting.gradients import Gramian


class DWAWeighting(NormalizedWeighting):
    """A softmax over the ratios of each task's last two mean losses, so that tasks whose loss falls more slowly weigh more.

    A task's period is over when the task has had `period` losses. Until its second period is over, its ratio is 1. The weights of
    all tasks seen so far have mean 1. See `dwa_weighting`.

    Args:
        period (int): Losses of a task in a period.
        temperature (float): Temperature of the softmax.
        normalize (bool): Divide each task by its initial loss.
    """

    state_keys: ClassVar[Tuple[str, ...]] = (*NormalizedWeighting.state_keys, "recent_losses", "period_means")

    def __init__(self, period: int, temperature: float, normalize: bool) -> None:
        super().__init__(normalize)
        check_range("weighting.period", period, 1)
        check_range("weighting.temperature", temperature, 0.01)
        self.period, self.temperature = period, temperature
        self.recent_losses: Dict[str, List[float]] = {}  # of the current period
        self.period_means: Dict[str, List[float]] = {}  # of the last two whole periods

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        self.observe(losses)
        for task, loss in losses.items():
            recent = self.recent_losses.setdefault(task, [])
            recent.append(loss)
            if len(recent) == self.period:
                self.period_means[task] = [*self.period_means.get(task, [])[-1:], sum(recent) / self.period]
                recent.clear()
        logits = {task: self._ratio(task) / self.temperature for task in sorted({*self.recent_losses, *gradients.tasks})}
        highest = max(logits.values())
        exponentials = {task: math.exp(logit - highest) for task, logit in logits.items()}
        mean = sum(exponentials.values()) / len(exponentials)
        return {task: exponentials[task] / mean / self.scale(task) for task in gradients.tasks}

    def _ratio(self, task: str) -> float:
        """The mean loss of the task's last period over that of the period before."""
        means = self.period_means.get(task, [])
        return means[1] / max(means[0], EPSILON) if len(means) == 2 else 1.0


def dwa_weighting(period: int = 100, temperature: float = 2.0, normalize: bool = True) -> DWAWeighting:
    """Weighting `mtl.DWAWeighting.v1`: more weight for tasks whose loss falls more slowly.

    Dynamic weight average (Liu, Johns and Davison 2019, https://arxiv.org/abs/1803.10704), where the period is an epoch.

    Args:
        period (int): Number of losses of a task that are averaged before its weight changes.
        temperature (float): The higher, the more even the weights.
        normalize (bool): Divide each task by its initial loss, as in `mtl.StaticWeighting.v1`.

    Raises:
        UserError: A setting is out of range.
    """
    return DWAWeighting(period, temperature, normalize)
