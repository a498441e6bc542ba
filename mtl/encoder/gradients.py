"""Each task's gradient, and how they lie to each other. Pure torch."""

from dataclasses import dataclass
from itertools import combinations
from typing import Dict, Iterable, List, Optional, Tuple

import torch
from torch import Tensor


@dataclass
class Gramian:
    """The inner products of the tasks' gradients: all that a balance asks of them.

    products: (tasks, tasks), float64, on the CPU.
    """

    tasks: List[str]
    products: Tensor

    @property
    def norms(self) -> Dict[str, float]:
        return dict(zip(self.tasks, self.products.diagonal().clamp(min=0).sqrt().tolist()))

    def of(self, tasks: Iterable[str]) -> "Gramian":
        """That of some of the tasks."""
        kept = list(tasks)
        rows = [self.tasks.index(task) for task in kept]
        return Gramian(kept, self.products[rows][:, rows])

    def statistics(self, weights: Dict[str, float]) -> Dict[str, float]:
        """`norm/TASK`, before weighting, `weight/TASK`, and `cosine/A/B` between tasks, where neither is 0."""
        norms = self.norms
        found = {f"norm/{task}": norm for task, norm in norms.items()}
        found |= {f"weight/{task}": weights[task] for task in self.tasks}
        products = self.products.tolist()
        for (i, a), (j, b) in combinations(sorted(enumerate(self.tasks), key=lambda entry: entry[1]), 2):
            if norms[a] > 0 and norms[b] > 0:
                found[f"cosine/{a}/{b}"] = products[i][j] / (norms[a] * norms[b])
        return found


class TaskGradients:
    """For each task its gradient, in parts that have numbers; a part that a task does not touch is not there."""

    def __init__(self) -> None:
        self.parts: Dict[str, Dict[int, Tensor]] = {}

    def add(self, task: str, part: int, gradient: Tensor) -> None:
        own = self.parts.setdefault(task, {})
        own[part] = own[part] + gradient if part in own else gradient

    @property
    def tasks(self) -> List[str]:
        return [task for task, own in self.parts.items() if own]

    def not_finite(self) -> List[str]:
        """The tasks whose gradient is no finite number."""
        return [task for task, own in self.parts.items() if not all(torch.isfinite(part).all() for part in own.values())]

    def gramian(self, tasks: Optional[List[str]] = None) -> Gramian:
        """Of these tasks, some of which may have no gradient; of those that have one, where none are given."""
        tasks = self.tasks if tasks is None else tasks
        own = {task: self.parts.get(task, {}) for task in tasks}
        products = torch.zeros(len(tasks), len(tasks), dtype=torch.float64)
        for i, a in enumerate(tasks):
            for j, b in enumerate(tasks[: i + 1]):
                shared = own[a].keys() & own[b].keys()
                if shared:
                    dots = [torch.dot(own[a][k].flatten(), own[b][k].flatten()) for k in sorted(shared)]
                    products[i, j] = products[j, i] = torch.stack(dots).double().sum().cpu()
        return Gramian(tasks, products)

    def combined(self, weights: Dict[str, float]) -> List[Tuple[int, Tensor]]:
        """The weighted sum over the tasks that have a weight: (part, gradient), by the parts' numbers."""
        total: Dict[int, Tensor] = {}
        for task, weight in weights.items():
            for part, gradient in self.parts.get(task, {}).items():
                total[part] = total[part].add(gradient, alpha=weight) if part in total else weight * gradient
        return sorted(total.items())
