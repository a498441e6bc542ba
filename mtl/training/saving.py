"""Save pipelines atomically, and without paths of this machine."""

import re
from pathlib import Path
from typing import Any, Callable, Iterable, Union

from spacy.language import Language
from spacy.util import SimpleFrozenList
from thinc.api import Config

from mtl.files import replacing

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
    """Reduce absolute paths in a saved config.cfg to their last part. They only tell where the pipeline was trained.

    Variables in the optimizer's section are replaced by their values, so that `nlp.create_optimizer()` works on the loaded
    pipeline.

    Args:
        config_path (Path): The file, which is changed in place. It need not exist.
    """
    if not config_path.exists():
        return
    config = Config().from_disk(config_path, interpolate=False)
    if "optimizer" in config.get("training", {}):  # spaCy resolves this section alone, where ${training...} is unknown
        config["training"]["optimizer"] = config.interpolate()["training"]["optimizer"]
    _shorten_paths(config)
    config.to_disk(config_path, interpolate=False)


def _shorten_paths(section: Any) -> None:
    for key, value in section.items():
        if isinstance(value, dict):
            _shorten_paths(value)
        elif isinstance(value, list):
            section[key] = [_last_part(element) for element in value]
        else:
            section[key] = _last_part(value)


def _last_part(value: Any) -> Any:
    is_path = isinstance(value, str) and ABSOLUTE_PATH.match(value)
    return re.split(r"[\\/]", value.rstrip("/\\"))[-1] if is_path else value
