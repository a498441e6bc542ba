"""Random loss weighting."""

import math
import random
from typing import ClassVar, Dict, Tuple

from mtl.balance.balance import Normalized
from mtl.encoder.gradients import Gramian


class RandomBalance(Normalized):
    """At each step a softmax over normal draws, times the number of tasks in the step.

    Lin et al. 2021 (https://arxiv.org/abs/2111.10603), who found it level with the methods that compute their weights: a
    yardstick for them. What is drawn depends on the seed, the step and the tasks' names alone.
    """

    learned: ClassVar[Tuple[str, ...]] = (*Normalized.learned, "steps")

    def __init__(self, seed: int, normalize: bool) -> None:
        super().__init__(normalize)
        self.seed, self.steps = seed, 0

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        self.watch(losses)
        drawn = {task: math.exp(random.Random(f"{self.seed}/{self.steps}/{task}").gauss(0, 1)) for task in gradients.tasks}
        self.steps += 1
        mean = sum(drawn.values()) / max(len(drawn), 1)
        return {task: one / mean / self.scale(task) for task, one in drawn.items()}


def random_balance(seed: int = 0, normalize: bool = True) -> RandomBalance:
    """`mtl.RandomBalance.v1`. normalize: as `mtl.StaticBalance.v1`."""
    return RandomBalance(seed, normalize)
