"""Gradient normalization."""

from typing import ClassVar, Dict, Tuple

from mtl.balance.balance import Normalized
from mtl.encoder.gradients import Gramian
from mtl.errors import check_range

LEAST = 1e-8


class GradNormBalance(Normalized):
    """Weights that bring the tasks' weighted gradient norms together, larger for tasks that train more slowly than the others.

    Chen et al. 2018 (https://arxiv.org/abs/1711.02257): the target of a task is the mean norm times r ** alpha, where r is its
    loss over that at the start, over the mean of these; its weight descends along the distance to it. The norm is that at the
    encoder's output, which is the layer that all tasks share last. The weights of the tasks seen so far are scaled to mean 1.
    """

    learned: ClassVar[Tuple[str, ...]] = (*Normalized.learned, "current")

    def __init__(self, alpha: float, learn_rate: float) -> None:
        super().__init__(normalize=True)
        check_range("balance.alpha", alpha, 0.0)
        check_range("balance.learn_rate", learn_rate, 0.0)
        self.alpha, self.learn_rate = alpha, learn_rate
        self.current: Dict[str, float] = {}

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        self.watch(losses)
        for task in gradients.tasks:
            self.current.setdefault(task, 1.0)
        used = {task: self.current[task] / self.scale(task) for task in gradients.tasks}
        self._descend({task: norm for task, norm in gradients.norms.items() if task in losses and norm > 0}, losses)
        return used

    def _descend(self, norms: Dict[str, float], losses: Dict[str, float]) -> None:
        """Over the tasks of this step, where there are several to bring together."""
        if len(norms) < 2:
            return
        norms = {task: norm / self.scale(task) for task, norm in norms.items()}
        mean = sum(self.current[task] * norm for task, norm in norms.items()) / len(norms)
        slow = {task: losses[task] / self.scale(task) for task in norms}
        mean_slow = max(sum(slow.values()) / len(slow), LEAST)
        for task, norm in norms.items():
            distance = self.current[task] * norm - mean * (slow[task] / mean_slow) ** self.alpha
            # The gradient of |distance| is norm * sign(distance); divided by the mean norm, so that its scale does not count.
            step = self.learn_rate * norm / max(mean, LEAST) * ((distance > 0) - (distance < 0))
            self.current[task] = max(self.current[task] - step, LEAST)
        total = sum(self.current.values()) / len(self.current)
        self.current = {task: weight / total for task, weight in self.current.items()}


def gradnorm_balance(alpha: float = 1.5, learn_rate: float = 0.025) -> GradNormBalance:
    """`mtl.GradNormBalance.v1`. alpha: how strongly slow tasks are favoured. learn_rate: of the weights."""
    return GradNormBalance(alpha, learn_rate)
