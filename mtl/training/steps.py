"""`mtl steps`: the number of steps in an epoch."""

from pathlib import Path
from typing import Dict, List

import spacy
from spacy.util import dot_to_object, load_config, registry

from mtl import compat
from mtl.errors import UserError
from mtl.sampling.corpus import count_encoded_words


def count_steps(path: Path, overrides: List[str]) -> Dict[str, int]:
    """Read and batch the first epoch as `spacy train` would.

    Args:
        path (Path): A training config.
        overrides (List[str]): Settings to change, as arguments of `spacy train`.

    Returns:
        Dict[str, int]: "steps", "examples", "words", "encoded_words".

    Raises:
        UserError: The config or a corpus is missing.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file")
    config = load_config(path, overrides=compat.parse_config_overrides(overrides), interpolate=True)
    nlp = spacy.blank(config["nlp"]["lang"])
    batcher = registry.resolve({"batcher": config["training"]["batcher"]})["batcher"]
    section = dot_to_object(config, config["training"]["train_corpus"])
    corpus = registry.resolve({"corpus": section})["corpus"]
    counts = {"steps": 0, "examples": 0, "words": 0, "encoded_words": 0}
    for batch in batcher(corpus(nlp)):
        counts["steps"] += 1
        counts["examples"] += len(batch)
        counts["words"] += sum(len(example.reference) for example in batch)
        counts["encoded_words"] += sum(count_encoded_words(example) for example in batch)
    return counts
