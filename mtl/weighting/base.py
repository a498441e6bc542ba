"""What every weighting is: from the tasks' gradients and losses to how much each task moves the shared encoder. Pure torch."""

from typing import Any, ClassVar, Dict, Tuple

from mtl.weighting.gradients import Gramian

MIN_SCALE = 0.1  # a task that starts out solved, as in a trained pipeline, is amplified at most tenfold
INITIAL_STEPS = 10  # losses that the initial loss is the mean of
EPSILON = 1e-8  # the smallest loss, norm or weight in divisions and logarithms


class Weighting:
    """Base class. A subclass says how to weight. A task that a step lacks is in neither `gradients` nor `losses`.

    Attributes:
        on_parameters (bool): Look at the tasks' gradients on the encoder's parameters, which takes a backward pass for each
            task, rather than at the encoder's output.
        state_keys (Tuple[str, ...]): The attributes that training changes, all of them JSON types.
    """

    on_parameters: ClassVar[bool] = False
    state_keys: ClassVar[Tuple[str, ...]] = ()

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        """Weight the tasks of a step.

        Args:
            gradients (Gramian): Inner products of the tasks' gradients.
            losses (Dict[str, float]): Loss of each task, where it is known.

        Returns:
            Dict[str, float]: Weight of each task in `gradients`.
        """
        raise NotImplementedError

    def settings_by_task(self) -> Dict[str, Dict[str, Any]]:
        """Settings whose keys are component names, so that unknown names can be reported."""
        return {}

    def rename(self, old: str, new: str) -> None:
        """Let a component keep its settings and state under another name."""
        for by_task in (*self.settings_by_task().values(), *self.state().values()):
            if isinstance(by_task, dict) and old in by_task and new not in by_task:
                by_task[new] = by_task.pop(old)

    def is_annealed(self, task: str) -> bool:
        """Whether the task's weight has fallen to 0 for good, so that its loss need not be computed."""
        return False

    def state(self) -> Dict[str, Any]:
        """What training has changed, as JSON types."""
        return {name: getattr(self, name) for name in self.state_keys}

    def load(self, state: Dict[str, Any]) -> None:
        """Restore what `state` returned."""
        for name in self.state_keys:
            setattr(self, name, state[name])


class NormalizedWeighting(Weighting):
    """A weighting that can first divide each task by its initial loss, so that tasks of different scale start level.

    Args:
        normalize (bool): Whether to do so.
    """

    state_keys: ClassVar[Tuple[str, ...]] = ("initial_losses", "loss_counts")

    def __init__(self, normalize: bool) -> None:
        self.normalize = normalize
        self.initial_losses: Dict[str, float] = {}  # mean of the first losses
        self.loss_counts: Dict[str, int] = {}  # how many that is the mean of

    def observe(self, losses: Dict[str, float]) -> None:
        """Add a step's losses to the initial losses, during the first steps."""
        for task, loss in losses.items():
            count = self.loss_counts.get(task, 0)
            if count < INITIAL_STEPS:
                self.initial_losses[task] = (self.initial_losses.get(task, 0.0) * count + loss) / (count + 1)
                self.loss_counts[task] = count + 1

    def scale(self, task: str) -> float:
        """What the task's loss and gradient are divided by."""
        return max(self.initial_losses.get(task, 1.0), MIN_SCALE) if self.normalize else 1.0
