"""Save pipelines atomically, and without paths of this machine."""

import re
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Set, Union

from spacy.language import Language
from spacy.util import SimpleFrozenList
from thinc.api import Config

from mtl.files import replacing

TRAINING_SECTIONS = ("paths", "corpora", "initialize", "training")
VARIABLE = re.compile(r"\$\{([^}]+)\}")
ABSOLUTE_PATH = re.compile(r"^(/|~|[A-Za-z]:[\\/]|\\\\)")


def atomic_save() -> Callable[[Language], Language]:
    """Callback `mtl.AtomicSave.v1`, for `[training.before_to_disk]`: saves a pipeline as a whole or not at all."""

    def before_to_disk(nlp: Language) -> Language:
        language = type(nlp)
        atomic: Any = object.__new__(type(language.__name__, (_AtomicSave, language), {}))
        atomic.__dict__ = nlp.__dict__  # the same pipeline with another `to_disk`
        return atomic

    return before_to_disk


class _AtomicSave:
    def to_disk(self, path: Union[str, Path], *, exclude: Iterable[str] = SimpleFrozenList()) -> None:
        with replacing(path, "meta.json") as partial:
            super().to_disk(partial, exclude=exclude)  # type: ignore[misc]
            without_local_paths(partial / "config.cfg")


def without_local_paths(config_path: Path) -> None:
    """Reduce the paths of a training in a saved config.cfg to their last part. They only tell where the pipeline was trained.

    What the pipeline itself reads stays as it is: all of [nlp] and [components], and each setting that a variable there refers
    to. Variables in the optimizer's section are replaced by their values, so that `nlp.create_optimizer()` works on the loaded
    pipeline.

    Args:
        config_path (Path): The file, which is changed in place. It need not exist.
    """
    if not config_path.exists():
        return
    config = Config().from_disk(config_path, interpolate=False)
    if "optimizer" in config.get("training", {}):  # spaCy resolves this section alone, where ${training...} is unknown
        config["training"]["optimizer"] = config.interpolate()["training"]["optimizer"]
    needed = _referred_to(config)
    for section in TRAINING_SECTIONS:
        if section in config and section not in needed:
            config[section] = _shortened(config[section], section, needed)
    config.to_disk(config_path, interpolate=False)


def _referred_to(config: Config) -> Set[str]:
    """The dotted names that the pipeline's own sections refer to by variables, at one remove or more."""
    needed: Set[str] = set()
    new = {name for section, value in config.items() if section not in TRAINING_SECTIONS for name in _variables(value)}
    while new:
        needed |= new
        new = {name for dotted in new for name in _variables(_value_at(config, dotted))} - needed
    return needed


def _variables(value: Any) -> Iterator[str]:
    """The dotted names in all `${...}` of a value."""
    if isinstance(value, dict):
        yield from (name for part in value.values() for name in _variables(part))
    elif isinstance(value, (list, tuple)):
        yield from (name for part in value for name in _variables(part))
    elif isinstance(value, str):
        yield from (name.replace(":", ".") for name in VARIABLE.findall(value))


def _value_at(config: Config, dotted: str) -> Any:
    value: Any = config
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _shortened(value: Any, dotted: str, needed: Set[str]) -> Any:
    """The value with every absolute path in it reduced to its last part, unless it is needed."""
    if dotted in needed:
        return value
    if isinstance(value, dict):
        return {key: _shortened(part, f"{dotted}.{key}", needed) for key, part in value.items()}
    if isinstance(value, list):
        return [_shortened(part, dotted, needed) for part in value]
    if isinstance(value, str) and ABSOLUTE_PATH.match(value):
        return re.split(r"[\\/]", value.rstrip("/\\"))[-1] or value  # a separator such as "/" is no path
    return value
