"""Static weights. Pure torch."""

from typing import Dict

from torch import Tensor

from mtl.errors import check_range

FLOOR = 0.1  # a task that starts solved (a trained pipeline) is not blown up
START_STEPS = 10  # losses that the start value is the mean of


class StaticBalance:
    """A fixed weight a task, over the task's loss at the start, so that tasks of different scale begin level.

    Kurin et al. 2022 (https://arxiv.org/abs/2201.04122) found no adaptive method that beats tuned static weights.
    """

    def __init__(self, weights: Dict[str, float], normalize: bool, anneal: Dict[str, int]) -> None:
        for task, weight in weights.items():
            check_range(f"balance.weights.{task}", weight, 0.0)
        for task, steps in anneal.items():
            check_range(f"balance.anneal.{task}", steps, 1)
        self.weights, self.normalize, self.anneal = dict(weights), normalize, dict(anneal)
        self.steps = 0
        self.start: Dict[str, float] = {}
        self.seen: Dict[str, int] = {}

    def __call__(self, gradients: Dict[str, Tensor], losses: Dict[str, float]) -> Dict[str, float]:
        """gradients: task -> its gradient at the encoder output, flat. losses: task -> loss, where it is known.

        RETURNS (dict): task -> weight. A task that the step lacks is in neither.
        """
        for task, loss in losses.items():
            seen = self.seen.get(task, 0)
            if seen < START_STEPS:
                self.start[task] = (self.start.get(task, 0.0) * seen + loss) / (seen + 1)
                self.seen[task] = seen + 1
        weights = {task: self._left(task) * self.weights.get(task, 1.0) / self._scale(task) for task in gradients}
        self.steps += 1
        return weights

    def _left(self, task: str) -> float:
        """The share of its weight that a task still has."""
        return max(0.0, 1 - self.steps / self.anneal[task]) if task in self.anneal else 1.0

    def is_annealed(self, task: str) -> bool:
        return self._left(task) == 0.0

    def _scale(self, task: str) -> float:
        return max(self.start.get(task, 1.0), FLOOR) if self.normalize else 1.0


def static_balance(weights: Dict[str, float] = {}, normalize: bool = True, anneal: Dict[str, int] = {}) -> StaticBalance:
    """`mtl.StaticBalance.v1`.

    weights: by component name, 1.0 where none is given. normalize: divide by the loss at the start. anneal: in how many updates
    a component's weight falls to 0, along a line; it stays where none is given.
    """
    return StaticBalance(weights, normalize, anneal)
