"""Static weights."""

from typing import ClassVar, Dict, Tuple

from mtl.balance.balance import Normalized
from mtl.encoder.gradients import Gramian
from mtl.errors import check_range


class StaticBalance(Normalized):
    """A fixed weight a task, over the task's loss at the start.

    Kurin et al. 2022 (https://arxiv.org/abs/2201.04122) found no adaptive method that beats tuned static weights.
    """

    learned: ClassVar[Tuple[str, ...]] = (*Normalized.learned, "steps")

    def __init__(self, weights: Dict[str, float], normalize: bool, anneal: Dict[str, int] = {}) -> None:
        super().__init__(normalize)
        for task, weight in weights.items():
            check_range(f"balance.weights.{task}", weight, 0.0)
        for task, steps in anneal.items():
            check_range(f"balance.anneal.{task}", steps, 1)
        self.weights, self.anneal = dict(weights), dict(anneal)
        self.steps = 0

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        self.watch(losses)
        weights = {task: self._left(task) * self.weights.get(task, 1.0) / self.scale(task) for task in gradients.tasks}
        self.steps += 1
        return weights

    def _left(self, task: str) -> float:
        """The share of its weight that a task still has."""
        return max(0.0, 1 - self.steps / self.anneal[task]) if task in self.anneal else 1.0

    def is_annealed(self, task: str) -> bool:
        return self._left(task) == 0.0


def static_balance(weights: Dict[str, float] = {}, normalize: bool = True, anneal: Dict[str, int] = {}) -> StaticBalance:
    """`mtl.StaticBalance.v1`.

    weights: by component name, 1.0 where none is given. normalize: divide by the loss at the start. anneal: in how many updates
    a component's weight falls to 0, along a line; it stays where none is given.
    """
    return StaticBalance(weights, normalize, anneal)
