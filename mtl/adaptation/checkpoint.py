"""The state of a run of continued pretraining between two steps: weights, optimizer and progress, and the best weights so far."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Tuple

import torch
from torch import Tensor, nn

from mtl.adaptation.watch import WINDOW
from mtl.checkpoints import CheckpointFolder, load_tensors, read_state, save_tensors
from mtl.files import replacing

WEIGHTS, OPTIMIZER = "model.safetensors", "optimizer.safetensors"


@dataclass
class Progress:
    """How far a run is.

    Args:
        phase (str): "head" while only the head is trained, then "causal" and "encoder".
        step (int): Optimizer steps so far.
        phase_step (int): Steps of this phase.
        phase_seconds (float): Seconds of training in this phase.
        seconds (float): Seconds of training in all.
        head_steps (int): Steps of the phase "head", once it is over.
        losses (List[float]): The losses of the last steps of this phase, as many as `is_plateau` needs.
        path (float): The sum of the learning rates of this phase's steps.
        evaluations (List[Dict[str, Any]]): What `Monitor.evaluate` returned, in order.
        stopped (str): Why the run ended before its budget was spent; empty if it did not.
    """

    phase: str = "head"
    step: int = 0
    phase_step: int = 0
    phase_seconds: float = 0.0
    seconds: float = 0.0
    head_steps: int = 0
    losses: List[float] = field(default_factory=list)
    path: float = 0.0
    evaluations: List[Dict[str, Any]] = field(default_factory=list)
    stopped: str = ""

    def enter(self, phase: str) -> None:
        """Start a phase."""
        self.phase, self.phase_step, self.phase_seconds, self.losses, self.path = phase, 0, 0.0, [], 0.0

    def count(self, seconds: float, loss: float, learning_rate: float) -> None:
        """Count a step that took so many seconds."""
        self.losses = [*self.losses[1 - 2 * WINDOW :], loss]
        self.path += learning_rate
        self.step += 1
        self.phase_step += 1
        self.phase_seconds += seconds
        self.seconds += seconds


class AdaptCheckpoints(CheckpointFolder):
    """The checkpoints of one run: folders with model.safetensors, optimizer.safetensors and state.json; `best` beside them."""

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Write a checkpoint.

        Raises:
            UserError: The disk is full. Older checkpoints stay.
        """
        with self.writing(progress.step, {"progress": asdict(progress)}) as partial:
            save_tensors(dict(model.named_parameters()), partial / WEIGHTS)
            save_tensors(_optimizer_tensors(model, optimizer), partial / OPTIMIZER)

    @property
    def best(self) -> Path:
        """The folder of the weights with the best evaluation."""
        return self.folder / "best"

    def save_best(self, model: nn.Module) -> None:
        """Replace the best weights with the model's.

        Raises:
            UserError: The disk is full. The best weights before stay.
        """
        with replacing(self.best, WEIGHTS) as partial:
            partial.mkdir()
            save_tensors(dict(model.named_parameters()), partial / WEIGHTS)


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Dict[str, Tensor]:
    """The optimizer's state as "key:parameter name" -> tensor."""
    return {
        f"{key}:{name}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_progress(checkpoint: Path) -> Progress:
    """The progress that a checkpoint was written with.

    Raises:
        UserError: The file is damaged.
    """
    return Progress(**read_state(checkpoint)["progress"])


def load_weights(checkpoint: Path, model: nn.Module) -> None:
    """Give the model the weights of a checkpoint, in place.

    Raises:
        UserError: The file is missing or damaged.
    """
    stored = load_tensors(checkpoint / WEIGHTS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(stored[name])


def load_optimizer(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Give the optimizer the state of a checkpoint, by parameter names.

    Raises:
        UserError: The file is missing or damaged.
    """
    parameters = dict(model.named_parameters())
    for entry, value in load_tensors(checkpoint / OPTIMIZER).items():
        key, name = entry.split(":", 1)
        optimizer.state[parameters[name]][key] = value.to(parameters[name].device)  # a fused AdamW keeps its step count there too


def model_identity(model: nn.Module) -> Tuple[str, int]:
    """What tells architectures apart: the class and its number of parameters."""
    return type(model).__name__, sum(parameter.numel() for parameter in model.parameters())
