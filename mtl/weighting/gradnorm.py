"""Gradient normalization."""

from typing import ClassVar, Dict, Tuple

from mtl.errors import check_range
from mtl.weighting.base import EPSILON, NormalizedWeighting
from mtl.weighting.gradients import Gramian


class GradNormWeighting(NormalizedWeighting):
    """Weights that bring the tasks' weighted gradient norms together, larger for tasks that train more slowly than the others.

    The target of a task is the mean norm times r ** alpha, where r is the task's loss over its initial loss, divided by the mean
    of that ratio over tasks; its weight descends along the distance to the target. The norm is that at the encoder's output,
    which is the last layer that all tasks share. The weights of the tasks seen so far are scaled to mean 1. See
    `gradnorm_weighting`.

    Args:
        alpha (float): How strongly slow tasks are favoured.
        learning_rate (float): Learning rate of the weights.
    """

    state_keys: ClassVar[Tuple[str, ...]] = (*NormalizedWeighting.state_keys, "task_weights")

    def __init__(self, alpha: float, learning_rate: float) -> None:
        super().__init__(normalize=True)
        check_range("weighting.alpha", alpha, 0.0)
        check_range("weighting.learning_rate", learning_rate, 0.0)
        self.alpha, self.learning_rate = alpha, learning_rate
        self.task_weights: Dict[str, float] = {}

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        self.observe(losses)
        for task in gradients.tasks:
            self.task_weights.setdefault(task, 1.0)
        weights = {task: self.task_weights[task] / self.scale(task) for task in gradients.tasks}
        self._descend({task: norm for task, norm in gradients.norms.items() if task in losses and norm > 0}, losses)
        return weights

    def _descend(self, norms: Dict[str, float], losses: Dict[str, float]) -> None:
        """Update the weights of this step's tasks, if there are several to bring together."""
        if len(norms) < 2:
            return
        norms = {task: norm / self.scale(task) for task, norm in norms.items()}
        mean_norm = sum(self.task_weights[task] * norm for task, norm in norms.items()) / len(norms)
        loss_ratios = {task: losses[task] / self.scale(task) for task in norms}
        mean_ratio = max(sum(loss_ratios.values()) / len(loss_ratios), EPSILON)
        for task, norm in norms.items():
            distance = self.task_weights[task] * norm - mean_norm * (loss_ratios[task] / mean_ratio) ** self.alpha
            # The gradient of |distance| is norm * sign(distance); divided by the mean norm, so that its scale does not count.
            step = self.learning_rate * norm / max(mean_norm, EPSILON) * ((distance > 0) - (distance < 0))
            self.task_weights[task] = max(self.task_weights[task] - step, EPSILON)
        mean_weight = sum(self.task_weights.values()) / len(self.task_weights)
        self.task_weights = {task: weight / mean_weight for task, weight in self.task_weights.items()}


def gradnorm_weighting(alpha: float = 1.5, learning_rate: float = 0.025) -> GradNormWeighting:
    """Weighting `mtl.GradNormWeighting.v1`: brings the tasks' gradient norms together, favouring tasks that train slowly.

    Gradient normalization (Chen et al. 2018, https://arxiv.org/abs/1711.02257).

    Args:
        alpha (float): How strongly slow tasks are favoured; 0 for equal norms.
        learning_rate (float): Learning rate of the weights.

    Raises:
        UserError: A setting is negative.
    """
    return GradNormWeighting(alpha, learning_rate)
