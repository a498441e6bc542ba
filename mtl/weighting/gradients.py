"""The gradient of each task, and the inner products between them. Pure torch."""

from dataclasses import dataclass
from itertools import combinations
from typing import Dict, Iterable, List, Optional, Tuple

import torch
from torch import Tensor


@dataclass
class Gramian:
    """Inner products of the tasks' gradients: all that a weighting needs to know of them.

    Args:
        tasks (List[str]): Names of the tasks.
        products (Tensor): Shape (tasks, tasks), float64, on the CPU.
    """

    tasks: List[str]
    products: Tensor

    @property
    def norms(self) -> Dict[str, float]:
        """The gradient norm of each task."""
        return dict(zip(self.tasks, self.products.diagonal().clamp(min=0).sqrt().tolist()))

    def of(self, tasks: Iterable[str]) -> "Gramian":
        """The Gramian of a subset of the tasks."""
        names = list(tasks)
        rows = [self.tasks.index(task) for task in names]
        return Gramian(names, self.products[rows][:, rows])

    def statistics(self, weights: Dict[str, float]) -> Dict[str, float]:
        """What is logged: `norm/TASK` before weighting, `weight/TASK`, and `cosine/A/B` where neither norm is 0."""
        norms = self.norms
        statistics = {f"norm/{task}": norm for task, norm in norms.items()}
        statistics |= {f"weight/{task}": weights[task] for task in self.tasks}
        products = self.products.tolist()
        for (i, a), (j, b) in combinations(sorted(enumerate(self.tasks), key=lambda entry: entry[1]), 2):
            if norms[a] > 0 and norms[b] > 0:
                statistics[f"cosine/{a}/{b}"] = products[i][j] / (norms[a] * norms[b])
        return statistics


class TaskGradients:
    """The gradient of each task as numbered parts, such as one for each parameter. Parts a task does not touch are absent."""

    def __init__(self) -> None:
        self.parts: Dict[str, Dict[int, Tensor]] = {}

    def add(self, task: str, part: int, gradient: Tensor) -> None:
        """Add to a part of the task's gradient."""
        gradients = self.parts.setdefault(task, {})
        gradients[part] = gradients[part] + gradient if part in gradients else gradient

    def average(self, task: str, new: Dict[int, Tensor], share: float) -> None:
        """Let the task's gradient be the mean of itself and another one, which has this share of the weight."""
        gradients = self.parts.setdefault(task, {})
        for part in gradients.keys() - new.keys() if share < 1 else ():
            gradients[part] = (1 - share) * gradients[part]
        for part, gradient in new.items():
            gradients[part] = torch.lerp(gradients[part], gradient, share) if part in gradients else share * gradient

    @property
    def tasks(self) -> List[str]:
        """The tasks that have a gradient."""
        return [task for task, gradients in self.parts.items() if gradients]

    def non_finite(self) -> List[str]:
        """The tasks whose gradient is NaN or infinite somewhere."""
        return [
            task for task, gradients in self.parts.items() if not all(torch.isfinite(part).all() for part in gradients.values())
        ]

    def gramian(self, tasks: Optional[List[str]] = None) -> Gramian:
        """The inner products.

        Args:
            tasks (Optional[List[str]]): Of these tasks, some of which may have no gradient. By default of all that have one.
        """
        tasks = self.tasks if tasks is None else tasks
        gradients = {task: self.parts.get(task, {}) for task in tasks}
        products = torch.zeros(len(tasks), len(tasks), dtype=torch.float64)
        for i, a in enumerate(tasks):
            for j, b in enumerate(tasks[: i + 1]):
                shared = gradients[a].keys() & gradients[b].keys()
                if shared:
                    dots = [torch.dot(gradients[a][part].flatten(), gradients[b][part].flatten()) for part in sorted(shared)]
                    products[i, j] = products[j, i] = torch.stack(dots).double().sum().cpu()
        return Gramian(tasks, products)

    def combined(self, weights: Dict[str, float]) -> List[Tuple[int, Tensor]]:
        """The weighted sum over the tasks that have a weight, as (part, gradient) in order of the parts."""
        total: Dict[int, Tensor] = {}
        for task, weight in weights.items():
            for part, gradient in self.parts.get(task, {}).items():
                total[part] = total[part].add(gradient, alpha=weight) if part in total else weight * gradient
        return sorted(total.items())
