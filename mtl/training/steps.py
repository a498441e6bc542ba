"""`mtl steps`: what an epoch of a config is made of, and how long it takes here."""

import time
from itertools import islice
from pathlib import Path
from typing import Any, Dict, List, Tuple

import spacy
from spacy.language import Language
from spacy.util import dot_to_object, load_config, registry

from mtl import compat
from mtl.errors import UserError
from mtl.registry import registered_tasks
from mtl.sampling.corpus import count_encoded_words

TIMED_STEPS = 4  # of which the first is left out
UNEVEN = 5.0  # times as many words as another task, from which a sampling is worth a thought


def count_steps(path: Path, overrides: List[str]) -> Dict[str, Any]:
    """Read and batch the first epoch as `spacy train` would.

    Args:
        path (Path): A training config.
        overrides (List[str]): Settings to change, as arguments of `spacy train`.

    Returns:
        Dict[str, Any]: "steps", "examples", "words", "encoded_words", and "tasks": by title, "examples" and "words" in which it
            is annotated.

    Raises:
        UserError: The config or a corpus is missing.
    """
    config = _config(path, overrides)
    nlp = spacy.blank(config["nlp"]["lang"])
    counts: Dict[str, Any] = {"steps": 0, "examples": 0, "words": 0, "encoded_words": 0, "tasks": {}}
    tasks = [task for task in registered_tasks() if not task.is_auxiliary]
    for batch in _batches(config, nlp):
        counts["steps"] += 1
        counts["examples"] += len(batch)
        counts["words"] += sum(len(example.reference) for example in batch)
        counts["encoded_words"] += sum(count_encoded_words(example) for example in batch)
        for task in tasks:
            for example in batch:
                if task.is_annotated(example.reference):
                    own = counts["tasks"].setdefault(task.title, {"examples": 0, "words": 0})
                    own["examples"] += 1
                    own["words"] += len(example.reference)
    return counts


def step_seconds(path: Path, overrides: List[str]) -> Tuple[float, int]:
    """How long a step of training takes here.

    Args:
        path (Path): A training config.
        overrides (List[str]): Settings to change, as arguments of `spacy train`.

    Returns:
        Tuple[float, int]: Seconds for each step, after the first; and the number of steps of the whole run.

    Raises:
        UserError: The config or a corpus is missing, or the first epoch has but one step.
    """
    from mtl.training.initialize import init_pipeline

    config = _config(path, overrides)
    nlp = init_pipeline(load_config(path, overrides=compat.parse_config_overrides(overrides), interpolate=False))
    optimizer = nlp.create_optimizer()
    seconds = []
    for batch in islice(_batches(config, nlp), TIMED_STEPS):
        started = time.perf_counter()
        nlp.update(batch, sgd=optimizer, drop=config["training"]["dropout"])
        seconds.append(time.perf_counter() - started)
    if len(seconds) < 2:
        raise UserError(f"{path}: the first epoch has one step, too few to time")
    return sum(seconds[1:]) / len(seconds[1:]), config["training"]["max_steps"]


def _config(path: Path, overrides: List[str]) -> Any:
    if not path.exists():
        raise UserError(f"{path}: no such file")
    return load_config(path, overrides=compat.parse_config_overrides(overrides), interpolate=True)


def _batches(config: Any, nlp: Language) -> Any:
    batcher = registry.resolve({"batcher": config["training"]["batcher"]})["batcher"]
    section = dot_to_object(config, config["training"]["train_corpus"])
    corpus = registry.resolve({"corpus": section})["corpus"]
    return batcher(corpus(nlp))


def steps_lines(counts: Dict[str, Any]) -> List[str]:
    """The counts for a person, with the share of the words that each task learns from."""
    lines = [
        f"{counts['steps']:,} steps per epoch: {counts['examples']:,} examples, {counts['words']:,} words, "
        f"{counts['encoded_words']:,} words to encode"
    ]
    width = max(map(len, counts["tasks"]), default=0)
    for title, own in counts["tasks"].items():
        share = own["words"] / max(1, counts["words"])
        lines.append(f"  {title:{width}}  {own['examples']:>9,} examples  {own['words']:>11,} words  {share:>4.0%}")
    words = {title: own["words"] for title, own in counts["tasks"].items()}
    if words and max(words.values()) > UNEVEN * min(words.values()):
        least = min(words, key=lambda title: words[title])
        lines.append(
            f"{least} gets few words: mtl.TemperatureSampling.v1 with a higher start, or mtl.EpochsPerTask.v1, gives it more "
            f"([corpora.train.sampling], one file for each task)"
        )
    return lines
