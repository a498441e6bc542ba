"""How many steps an epoch of a config has."""

from pathlib import Path
from typing import Dict, List

import spacy
from spacy.cli._util import parse_config_overrides
from spacy.util import dot_to_object, load_config, registry

from mtl.errors import UserError
from mtl.mixture.reader import count_encoded_words


def count_steps(path: Path, overrides: List[str]) -> Dict[str, int]:
    """Read and batch the first epoch as `spacy train` would. RETURNS "steps", "examples", "words", "encoded".

    RAISES (UserError): the config or a corpus is missing.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file")
    config = load_config(path, overrides=parse_config_overrides(overrides), interpolate=True)
    nlp = spacy.blank(config["nlp"]["lang"])
    batcher = registry.resolve({"batcher": config["training"]["batcher"]})["batcher"]
    section = dot_to_object(config, config["training"]["train_corpus"])
    corpus = registry.resolve({"corpus": section})["corpus"]
    found = {"steps": 0, "examples": 0, "words": 0, "encoded": 0}
    for batch in batcher(corpus(nlp)):
        found["steps"] += 1
        found["examples"] += len(batch)
        found["words"] += sum(len(example.reference) for example in batch)
        found["encoded"] += sum(count_encoded_words(example) for example in batch)
    return found
