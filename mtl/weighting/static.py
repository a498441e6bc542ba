"""Static weights."""

from typing import Any, ClassVar, Dict, Tuple

from mtl.errors import check_range
from mtl.settings import ByName, by_name
from mtl.weighting.base import NormalizedWeighting
from mtl.weighting.gradients import Gramian


class StaticWeighting(NormalizedWeighting):
    """A fixed weight for each task, divided by the task's initial loss.

    Kurin et al. 2022 (https://arxiv.org/abs/2201.04122) found no adaptive method that beats tuned static weights.

    Args:
        weights (ByName[float]): By component name; 1.0 for those not named.
        normalize (bool): Divide by the initial loss.
        anneal (ByName[int]): By component name, the number of updates over which its weight falls linearly to 0.
    """

    state_keys: ClassVar[Tuple[str, ...]] = (*NormalizedWeighting.state_keys, "steps")

    def __init__(self, weights: ByName[float], normalize: bool, anneal: ByName[int] = {}) -> None:
        super().__init__(normalize)
        weights, anneal = by_name("weighting.weights", weights), by_name("weighting.anneal", anneal)
        for task, weight in weights.items():
            check_range(f"weighting.weights.{task}", weight, 0.0)
        for task, steps in anneal.items():
            check_range(f"weighting.anneal.{task}", steps, 1)
        self.weights, self.anneal = dict(weights), dict(anneal)
        self.steps = 0

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        self.observe(losses)
        weights = {task: self._remaining(task) * self.weights.get(task, 1.0) / self.scale(task) for task in gradients.tasks}
        self.steps += 1
        return weights

    def settings_by_task(self) -> Dict[str, Dict[str, Any]]:
        return {"weights": self.weights, "anneal": self.anneal}

    def _remaining(self, task: str) -> float:
        """The fraction of its weight that a task still has."""
        return max(0.0, 1 - self.steps / self.anneal[task]) if task in self.anneal else 1.0

    def is_annealed(self, task: str) -> bool:
        return self._remaining(task) == 0.0


def static_weighting(weights: ByName[float] = {}, normalize: bool = True, anneal: ByName[int] = {}) -> StaticWeighting:
    """Weighting `mtl.StaticWeighting.v1`: a fixed weight for each task, divided by the task's initial loss.

    Args:
        weights (ByName[float]): Weight by component name; 1.0 for those not named.
        normalize (bool): Divide each task by its initial loss, so that tasks of different scale start level.
        anneal (ByName[int]): By component name, the number of updates over which its weight falls linearly to 0.

    Raises:
        UserError: A weight is negative, or a number of updates is below 1.
    """
    return StaticWeighting(weights, normalize, anneal)
