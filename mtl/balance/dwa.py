"""Dynamic weight average."""

import math
from typing import ClassVar, Dict, List, Tuple

from mtl.balance.balance import Normalized
from mtl.encoder.gradients import Gramian
from mtl.errors import check_range

LEAST = 1e-8


class DWABalance(Normalized):
    """More weight for tasks whose loss falls more slowly: a softmax over the ratios of their last two mean losses.

    Liu, Johns and Davison 2019 (https://arxiv.org/abs/1803.10704), where an epoch is the period. A task's period is over when it
    has had `period` losses; until its second one is, its ratio is 1. The weights of all tasks seen so far have the mean 1.
    """

    learned: ClassVar[Tuple[str, ...]] = (*Normalized.learned, "recent", "means")

    def __init__(self, period: int, temperature: float, normalize: bool) -> None:
        super().__init__(normalize)
        check_range("balance.period", period, 1)
        check_range("balance.temperature", temperature, 0.01)
        self.period, self.temperature = period, temperature
        self.recent: Dict[str, List[float]] = {}
        self.means: Dict[str, List[float]] = {}  # of the last two whole periods

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        self.watch(losses)
        for task, loss in losses.items():
            recent = self.recent.setdefault(task, [])
            recent.append(loss)
            if len(recent) == self.period:
                self.means[task] = [*self.means.get(task, [])[-1:], sum(recent) / self.period]
                recent.clear()
        found = {task: self._ratio(task) / self.temperature for task in sorted({*self.recent, *gradients.tasks})}
        most = max(found.values())
        ratios = {task: math.exp(ratio - most) for task, ratio in found.items()}
        mean = sum(ratios.values()) / len(ratios)
        return {task: ratios[task] / mean / self.scale(task) for task in gradients.tasks}

    def _ratio(self, task: str) -> float:
        means = self.means.get(task, [])
        return means[1] / max(means[0], LEAST) if len(means) == 2 else 1.0


def dwa_balance(period: int = 100, temperature: float = 2.0, normalize: bool = True) -> DWABalance:
    """`mtl.DWABalance.v1`.

    period: losses of a task. temperature: the higher, the more even. normalize: as `mtl.StaticBalance.v1`.
    """
    return DWABalance(period, temperature, normalize)
