"""Random loss weighting."""

import math
import random
from typing import ClassVar, Dict, Tuple

from mtl.weighting.base import NormalizedWeighting
from mtl.weighting.gradients import Gramian


class RandomWeighting(NormalizedWeighting):
    """At each step a softmax over normal draws, times the number of tasks in the step.

    The draws depend on nothing but the seed, the step and the tasks' names. See `random_weighting`.

    Args:
        seed (int): Seed of the draws.
        normalize (bool): Divide each task by its initial loss.
    """

    state_keys: ClassVar[Tuple[str, ...]] = (*NormalizedWeighting.state_keys, "steps")

    def __init__(self, seed: int, normalize: bool) -> None:
        super().__init__(normalize)
        self.seed, self.steps = seed, 0

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        self.observe(losses)
        draws = {task: math.exp(random.Random(f"{self.seed}/{self.steps}/{task}").gauss(0, 1)) for task in gradients.tasks}
        self.steps += 1
        mean = sum(draws.values()) / max(len(draws), 1)
        return {task: draw / mean / self.scale(task) for task, draw in draws.items()}


def random_weighting(seed: int = 0, normalize: bool = True) -> RandomWeighting:
    """Weighting `mtl.RandomWeighting.v1`: random weights at each step, as a baseline for methods that compute theirs.

    Random loss weighting (Lin et al. 2021, https://arxiv.org/abs/2111.10603), which the authors found to be level with them.

    Args:
        seed (int): Seed of the weights.
        normalize (bool): Divide each task by its initial loss, as in `mtl.StaticWeighting.v1`.
    """
    return RandomWeighting(seed, normalize)
