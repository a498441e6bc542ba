"""The state of a joint training between two steps: all that the rest of it depends on, written whole or not at all."""

import json
import random
import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from spacy.language import Language

from mtl import ranks
from mtl.encoder.component import Transformer
from mtl.encoder.lora import has_lora
from mtl.errors import UserError
from mtl.files import read_json, replacing, write_json
from mtl.torch_model import Parameters
from mtl.training.optimizer import TorchOptimizer

AGAIN = "start anew with --no-resume"
FREE = ("training.logger", "paths.vectors")  # settings that may differ when a run goes on: they change nothing that is learned


class Checkpoints:
    """The checkpoints of one run: folders `step-00000120` with the pipeline, optimizer.safetensors and state.json.

    config: the run's, interpolated; a run goes on under the same alone. keep: how many, the newest.
    """

    def __init__(self, folder: Path, config: Dict[str, Any], keep: int = 2) -> None:
        self.folder, self.keep = folder, keep
        self.settings = flat(json.loads(json.dumps(config)))

    def all(self) -> List[Path]:
        """Whole checkpoints, the oldest first."""
        return sorted(self.folder.glob("step-*"))  # what is being written has a dot before its name

    def newest(self) -> Optional[Path]:
        """RAISES (UserError): it is of a run under other settings; they are named."""
        every = self.all()
        if not every:
            return None
        theirs = read_json(every[-1] / "state.json")["settings"]
        differs = [key for key in sorted({*theirs, *self.settings}) if theirs.get(key) != self.settings.get(key)]
        differs = [key for key in differs if not key.startswith(FREE)]
        if differs:
            what = "; ".join(f"{key} was {theirs.get(key)!r}, is now {self.settings.get(key)!r}" for key in differs[:5])
            raise UserError(f"{every[-1]}: a checkpoint of another config ({what}). Give that again to go on with it, or {AGAIN}")
        return every[-1]

    def save(self, nlp: Language, optimizer: Any, step: int, progress: Dict[str, Any]) -> None:
        """progress: what else is to come back, fit for JSON. RAISES (UserError): the disk is full; those that there were stay."""
        states = ranks.gathered(torch.get_rng_state())
        if ranks.number():
            return
        with replacing(self.folder / f"step-{step:08d}", "state.json") as partial:
            partial.mkdir()
            nlp.to_disk(partial / "pipeline")  # first: it takes a step that is still owed
            tensors = optimizer.tensors() if isinstance(optimizer, TorchOptimizer) else {}
            tensors |= {f"lora/{name}/{key}": one for name, own in low_rank(nlp).items() for key, one in own.items()}
            tensors |= {f"random/torch/{number}": own for number, own in enumerate(states)}
            version, internal, gauss = random.getstate()
            kind, keys, *position = np.random.get_state()  # type: ignore[misc]
            chance = {"python": [version, list(internal), gauss], "numpy": [kind, np.asarray(keys).tolist(), *position]}
            pipes = {name: learned(pipe) for name, pipe in nlp.pipeline}
            state = {"step": step, "progress": progress, "settings": self.settings, "pipes": pipes, "random": chance}
            safetensors.torch.save_file(tensors, partial / "optimizer.safetensors")
            write_json(partial / "state.json", state)
        for old in self.all()[: -self.keep]:
            shutil.rmtree(old)

    def remove(self) -> None:
        if ranks.number() == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
        ranks.wait()


def load_state(checkpoint: Path) -> Dict[str, Any]:
    """RAISES (UserError): the file is broken."""
    return read_json(checkpoint / "state.json")


def restore(checkpoint: Path, nlp: Language, optimizer: Any) -> None:
    """Put pipeline, optimizer, balance and chance where they were. RAISES (UserError): a file is broken."""
    state = load_state(checkpoint)
    updated = low_rank(nlp)  # in the pipeline that was saved they are merged
    nlp.from_disk(checkpoint / "pipeline", exclude=list(updated))
    for name, pipe in nlp.pipeline:
        take(pipe, state["pipes"].get(name, {}))
    file = checkpoint / "optimizer.safetensors"
    try:
        tensors = safetensors.torch.load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{file}: the checkpoint is broken ({error}). Delete its folder to go on from an earlier one, or {AGAIN}"
        ) from error
    for name, own in updated.items():
        for key, one in own.items():
            one.copy_(tensors.pop(f"lora/{name}/{key}"))
        nlp.get_pipe(name).encoder.serving.forget()  # type: ignore[attr-defined]
    states = [tensors.pop(f"random/torch/{number}") for number in range(ranks.count())]
    torch.set_rng_state(states[ranks.number()])
    if isinstance(optimizer, TorchOptimizer):
        parameters: Parameters = {}
        for _, pipe in nlp.pipeline:
            if isinstance(pipe, Transformer):
                parameters |= pipe.parameters()
        optimizer.take(parameters, tensors)
    version, internal, gauss = state["random"]["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *position = state["random"]["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *position))


def low_rank(nlp: Language) -> Dict[str, Dict[str, torch.Tensor]]:
    """Of each transformer that trains low-rank updates beside its weights, these."""
    models = {name: pipe.encoder.model for name, pipe in nlp.pipeline if isinstance(pipe, Transformer)}
    return {
        name: {key: one.detach() for key, one in model.named_parameters() if "lora_" in key}
        for name, model in models.items() if has_lora(model)
    }  # fmt: skip


def learned(pipe: Any) -> Dict[str, Any]:
    """What training has changed of a component besides what it saves: the balance, and what the head has scored."""
    found: Dict[str, Any] = {}
    if hasattr(getattr(pipe, "balance", None), "state"):
        found["balance"] = pipe.balance.state()
    if hasattr(pipe, "scored"):
        found["scored"] = pipe.scored
    if getattr(pipe, "teacher", None) is not None:
        found["taught"] = pipe.teacher.done
    return found


def take(pipe: Any, state: Dict[str, Any]) -> None:
    """Give it back."""
    if "balance" in state:
        pipe.balance.load(state["balance"])
    if "scored" in state:
        pipe.scored = state["scored"]
    if "taught" in state and pipe.teacher is not None:
        pipe.teacher.done = state["taught"]


def flat(section: Dict[str, Any], above: str = "") -> Dict[str, Any]:
    """Every setting by its dotted name."""
    found: Dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, dict):
            found |= flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found
