"""What every balance is: from the tasks' gradients and losses, how much each moves the shared weights. Pure torch."""

from typing import Any, ClassVar, Dict, Tuple

from mtl.encoder.gradients import Gramian

FLOOR = 0.1  # a task that starts solved (a trained pipeline) is not blown up
START_STEPS = 10  # losses that the start value is the mean of


class Balance:
    """A subclass says how to weigh. A task that a step lacks is neither in `gradients` nor in `losses`.

    on_parameters: whether it looks at the tasks' gradients on the encoder's parameters, which takes a backward pass for each,
    or at those on the encoder's output. learned: the attributes that training changes, all fit for JSON.
    """

    on_parameters: ClassVar[bool] = False
    learned: ClassVar[Tuple[str, ...]] = ()

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        """losses: task -> loss, where it is known. RETURNS (dict): task -> weight, for those in `gradients`."""
        raise NotImplementedError

    def state(self) -> Dict[str, Any]:
        """What training has changed, for JSON."""
        return {name: getattr(self, name) for name in self.learned}

    def load(self, state: Dict[str, Any]) -> None:
        """Take what `state` gave."""
        for name in self.learned:
            setattr(self, name, state[name])


class Normalized(Balance):
    """One that may first divide each task by its loss at the start, so that tasks of different scale begin level."""

    learned: ClassVar[Tuple[str, ...]] = ("start", "seen")

    def __init__(self, normalize: bool) -> None:
        self.normalize = normalize
        self.start: Dict[str, float] = {}
        self.seen: Dict[str, int] = {}

    def watch(self, losses: Dict[str, float]) -> None:
        """Take a step's losses into the start, while it lasts."""
        for task, loss in losses.items():
            seen = self.seen.get(task, 0)
            if seen < START_STEPS:
                self.start[task] = (self.start.get(task, 0.0) * seen + loss) / (seen + 1)
                self.seen[task] = seen + 1

    def scale(self, task: str) -> float:
        """What the task's loss and gradient are divided by."""
        return max(self.start.get(task, 1.0), FLOOR) if self.normalize else 1.0
