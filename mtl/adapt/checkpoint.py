"""Checkpoints of a run of continued pretraining: weights, optimizer and progress, each written whole or not at all."""

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mtl.errors import UserError
from mtl.files import read_json, replacing, write_json

AGAIN = "start anew with --no-resume"


@dataclass
class Progress:
    """Where a run stands. phase: "head" while the head alone is trained, then "encoder". seconds: of training."""

    phase: str = "head"
    step: int = 0  # of the run
    phase_step: int = 0
    phase_seconds: float = 0.0
    seconds: float = 0.0
    head_steps: int = 0
    evaluations: List[Dict[str, Any]] = field(default_factory=list)  # as `Watch.evaluate` makes them
    stopped: str = ""  # why the run ended before its budget was spent

    def enter(self, phase: str) -> None:
        self.phase, self.phase_step, self.phase_seconds = phase, 0, 0.0

    def count(self, seconds: float) -> None:
        """One more step, which took so long."""
        self.step += 1
        self.phase_step += 1
        self.phase_seconds += seconds
        self.seconds += seconds


class Checkpoints:
    """The checkpoints of one run in a folder: `step-00000120/` holds model.safetensors, optimizer.safetensors, run.json.

    identity: what must be the same for a run to go on: the model, the text, the settings that are no budget.
    """

    def __init__(self, folder: Path, keep: int, identity: Dict[str, Any]) -> None:
        self.folder, self.keep, self.identity = folder, keep, identity

    def all(self) -> List[Path]:
        """Whole checkpoints, the oldest first."""
        return sorted(self.folder.glob("step-*"))  # what is being written has a dot before its name

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """RAISES (UserError): the disk is full; the checkpoints that there were stay."""
        named = dict(model.named_parameters())
        state: Dict[str, Tensor] = {}
        for name, parameter in named.items():
            state |= {f"{kind}:{name}": value for kind, value in optimizer.state.get(parameter, {}).items()}
        with replacing(self.folder / f"step-{progress.step:08d}", "run.json") as partial:
            partial.mkdir()
            _save_weights(model, partial)
            save_file(state, partial / "optimizer.safetensors")
            write_json(partial / "run.json", {"identity": self.identity, "progress": asdict(progress)})
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old)

    @property
    def best(self) -> Path:
        """The folder of the best evaluation's weights."""
        return self.folder / "best"

    def save_best(self, model: nn.Module, progress: Progress) -> None:
        """RAISES (UserError): the disk is full; the best before stays."""
        with replacing(self.best, "model.safetensors") as partial:
            partial.mkdir()
            _save_weights(model, partial)

    def newest(self) -> Optional[Path]:
        """The newest checkpoint of this run. RAISES (UserError): it is of another one, and what differs."""
        every = self.all()
        if not every:
            return None
        theirs = read_json(every[-1] / "run.json")["identity"]
        differs = [key for key in self.identity if theirs.get(key) != self.identity[key]]
        if differs:
            what = "; ".join(f"{key} was {theirs.get(key)}, is now {self.identity[key]}" for key in differs)
            raise UserError(f"{every[-1]}: a checkpoint of another run ({what}). Give that again to go on with it, or {AGAIN}")
        return every[-1]

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _save_weights(model: nn.Module, folder: Path) -> None:
    weights = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
    save_file(weights, folder / "model.safetensors")


def load_progress(checkpoint: Path) -> Progress:
    return Progress(**read_json(checkpoint / "run.json")["progress"])


def load_weights(checkpoint: Path, model: nn.Module) -> None:
    """RAISES (UserError): the file is broken."""
    stored = _load(checkpoint / "model.safetensors")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(stored[name])


def load_optimizer(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the stored state in place of the optimizer's, by the parameters' names. RAISES (UserError): the file is broken."""
    named = dict(model.named_parameters())
    for key, value in _load(checkpoint / "optimizer.safetensors").items():
        kind, name = key.split(":", 1)
        optimizer.state[named[name]][kind] = value.to(named[name].device)  # a fused AdamW has its step count there too


def _load(file: Path) -> Dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{file}: the checkpoint is broken ({error}). Delete its folder to go on from an earlier one, or {AGAIN}"
        ) from error


def shape_of(model: nn.Module) -> Tuple[str, int]:
    """What tells one architecture from another: its class and how many parameters it has."""
    return type(model).__name__, sum(parameter.numel() for parameter in model.parameters())
