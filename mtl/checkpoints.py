"""Checkpoints of a run: numbered folders, each written whole or not at all, that know which run they belong to."""

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from mtl.errors import UserError
from mtl.files import read_json, replacing, write_json

START_OVER = "start over with --no-resume"


class CheckpointFolder:
    """The checkpoints of one run: folders `step-00000120`, each with a `state.json` and whatever the run writes beside it.

    Args:
        folder (Path): Where the checkpoints are.
        identity (Dict[str, Any]): What must be equal for a run to resume, by setting; as JSON.
        keep (int): How many checkpoints to keep, the newest.
        may_differ (Tuple[str, ...]): Prefixes of settings that may differ, because they do not affect what is learned.
    """

    def __init__(self, folder: Path, identity: Dict[str, Any], keep: int = 2, may_differ: Tuple[str, ...] = ()) -> None:
        self.folder, self.identity, self.keep, self.may_differ = folder, identity, keep, may_differ

    def all(self) -> List[Path]:
        """All complete checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*"))  # a checkpoint being written has a name that starts with a dot

    def newest(self) -> Optional[Path]:
        """The newest checkpoint, None if there is none.

        Raises:
            UserError: It belongs to a run with other settings; the message names them.
        """
        checkpoints = self.all()
        if not checkpoints:
            return None
        check_same_run(checkpoints[-1], read_state(checkpoints[-1])["identity"], self.identity, self.may_differ)
        return checkpoints[-1]

    @contextmanager
    def writing(self, step: int, state: Dict[str, Any]) -> Iterator[Path]:
        """Write a checkpoint: yields the folder to write into, and keeps it only if the block succeeds.

        Args:
            step (int): The step the checkpoint is taken at.
            state (Dict[str, Any]): What `read_state` gives back, as JSON.

        Raises:
            UserError: The disk is full. Older checkpoints stay.
        """
        with replacing(self.folder / f"step-{step:08d}", "state.json") as partial:
            partial.mkdir()
            yield partial
            write_json(partial / "state.json", {**state, "identity": self.identity})
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old)

    def remove(self) -> None:
        """Delete all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)


def check_same_run(place: Path, stored: Dict[str, Any], identity: Dict[str, Any], may_differ: Tuple[str, ...] = ()) -> None:
    """Compare a run with one that is to be resumed.

    Args:
        place (Path): What was stored, for the message.
        stored (Dict[str, Any]): What the stored run depends on, by setting.
        identity (Dict[str, Any]): What this one depends on.
        may_differ (Tuple[str, ...]): See `CheckpointFolder`.

    Raises:
        UserError: They differ; the message names the settings.
    """
    keys = [key for key in sorted({*stored, *identity}) if not key.startswith(may_differ)]
    differing = [key for key in keys if stored.get(key) != identity.get(key)]
    if differing:
        changes = "; ".join(f"{key} was {stored.get(key)!r}, is now {identity.get(key)!r}" for key in differing[:5])
        raise UserError(
            f"{place}: this checkpoint was written with other settings ({changes}). Restore them to resume, or {START_OVER}"
        )


def read_state(checkpoint: Path) -> Dict[str, Any]:
    """The state a checkpoint was written with.

    Raises:
        UserError: The file is damaged.
    """
    return read_json(checkpoint / "state.json")


def save_tensors(tensors: Dict[str, Tensor], file: Path) -> None:
    """Write tensors to a safetensors file."""
    safetensors.torch.save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, file)


def load_tensors(file: Path) -> Dict[str, Tensor]:
    """Read a checkpoint's safetensors file.

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        return safetensors.torch.load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{file}: the checkpoint is damaged ({error}). Delete its folder to resume from an earlier one, or {START_OVER}"
        ) from error
