"""The state of a joint training between two steps: all that the rest of the run depends on."""

import json
import random
from pathlib import Path
from typing import Any, Dict

import numpy as np
import torch
from spacy.language import Language

from mtl import distributed
from mtl.checkpoints import CheckpointFolder, load_tensors, read_state, save_tensors
from mtl.encoder.component import Transformer
from mtl.encoder.pretrained.lora import has_lora
from mtl.torch_model import Parameters
from mtl.training.optimizer import TorchOptimizer

MAY_DIFFER = ("training.logger", "paths.vectors")  # settings that do not affect what is learned


def checkpoint_folder(folder: Path, config: Dict[str, Any]) -> CheckpointFolder:
    """The checkpoints of a run: folders with the pipeline, optimizer.safetensors and state.json.

    Args:
        folder (Path): Where they are.
        config (Dict[str, Any]): The run's config, interpolated. A run resumes only with the same one.
    """
    return CheckpointFolder(folder, flat_settings(json.loads(json.dumps(config))), keep=2, may_differ=MAY_DIFFER)


def save_checkpoint(checkpoints: CheckpointFolder, nlp: Language, optimizer: Any, step: int, progress: Dict[str, Any]) -> None:
    """Write a checkpoint, on rank 0.

    Args:
        checkpoints (CheckpointFolder): Where to.
        nlp (Language): The pipeline.
        optimizer (Any): Its optimizer.
        step (int): The step it is taken at.
        progress (Dict[str, Any]): What else is to be restored, as JSON.

    Raises:
        UserError: The disk is full. Older checkpoints stay.
    """
    rng_states = distributed.all_gather(torch.get_rng_state())
    if not distributed.is_main():
        return
    state = {
        "step": step,
        "progress": progress,
        "pipes": {name: learned_state(pipe) for name, pipe in nlp.pipeline},
        "random": _python_rng_state(),
    }
    with checkpoints.writing(step, state) as partial:
        nlp.to_disk(partial / "pipeline")
        tensors = optimizer.tensors() if isinstance(optimizer, TorchOptimizer) else {}
        for name, adapters in lora_tensors(nlp).items():
            tensors |= {f"lora/{name}/{key}": tensor for key, tensor in adapters.items()}
        tensors |= {f"random/torch/{rank}": rng_state for rank, rng_state in enumerate(rng_states)}
        save_tensors(tensors, partial / "optimizer.safetensors")


def restore_checkpoint(checkpoint: Path, nlp: Language, optimizer: Any) -> None:
    """Restore pipeline, optimizer, weighting and random state.

    Raises:
        UserError: A file is damaged.
    """
    state = read_state(checkpoint)
    adapters_by_pipe = lora_tensors(nlp)  # in the saved pipeline they are merged
    nlp.from_disk(checkpoint / "pipeline", exclude=list(adapters_by_pipe))
    for name, pipe in nlp.pipeline:
        restore_learned_state(pipe, state["pipes"].get(name, {}))
    tensors = load_tensors(checkpoint / "optimizer.safetensors")
    for name, adapters in adapters_by_pipe.items():
        for key, tensor in adapters.items():
            tensor.copy_(tensors.pop(f"lora/{name}/{key}"))
        nlp.get_pipe(name).encoder.inference.invalidate()  # type: ignore[attr-defined]
    rng_states = [tensors.pop(f"random/torch/{rank}") for rank in range(distributed.world_size())]
    torch.set_rng_state(rng_states[distributed.rank()])
    if isinstance(optimizer, TorchOptimizer):
        parameters: Parameters = {}
        for _, pipe in nlp.pipeline:
            if isinstance(pipe, Transformer):
                parameters |= pipe.parameters()
        optimizer.load_tensors(parameters, tensors)
    _restore_python_rng(state["random"])


def _python_rng_state() -> Dict[str, Any]:
    """The state of the generators of `random` and NumPy."""
    version, internal, gauss = random.getstate()
    kind, keys, *position = np.random.get_state()  # type: ignore[misc]
    return {"python": [version, list(internal), gauss], "numpy": [kind, np.asarray(keys).tolist(), *position]}


def _restore_python_rng(state: Dict[str, Any]) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *position = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *position))


def lora_tensors(nlp: Language) -> Dict[str, Dict[str, torch.Tensor]]:
    """The low-rank adapters of each transformer that trains some, by component and parameter name."""
    models = {name: pipe.encoder.model for name, pipe in nlp.pipeline if isinstance(pipe, Transformer)}
    return {
        name: {key: parameter.detach() for key, parameter in model.named_parameters() if "lora_" in key}
        for name, model in models.items()
        if has_lora(model)
    }


def learned_state(pipe: Any) -> Dict[str, Any]:
    """What training has changed in a component beside what it saves: the weighting, score history, the teacher's progress."""
    state: Dict[str, Any] = {}
    if isinstance(pipe, Transformer):
        state["weighting"] = pipe.weighting.state()
    if hasattr(pipe, "score_history"):
        state["score_history"] = pipe.score_history
    if getattr(pipe, "teacher", None) is not None:
        state["teacher_updates"] = pipe.teacher.updates
    return state


def restore_learned_state(pipe: Any, state: Dict[str, Any]) -> None:
    """Restore what `learned_state` returned."""
    if "weighting" in state:
        pipe.weighting.load(state["weighting"])
    if "score_history" in state:
        pipe.score_history = state["score_history"]
    if "teacher_updates" in state and pipe.teacher is not None:
        pipe.teacher.updates = state["teacher_updates"]


def score_histories_in(checkpoint: Path) -> Dict[str, Any]:
    """The score history of each head at a checkpoint."""
    pipes = read_state(checkpoint)["pipes"]
    return {name: state["score_history"] for name, state in pipes.items() if "score_history" in state}


def flat_settings(section: Dict[str, Any], prefix: str = "") -> Dict[str, Any]:
    """Every setting of a config by its dotted name."""
    settings: Dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, dict):
            settings |= flat_settings(value, f"{prefix}{key}.")
        else:
            settings[f"{prefix}{key}"] = value
    return settings
