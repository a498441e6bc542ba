"""Saving a pipeline so that nothing is half-written, and no path of this machine is in it."""

import re
from pathlib import Path
from typing import Any, Callable, Iterable, Union

from spacy.language import Language
from spacy.util import SimpleFrozenList
from thinc.api import Config

from mtl.files import replacing

ABSOLUTE = re.compile(r"^(/|~|[A-Za-z]:[\\/]|\\\\)")


def atomic_save() -> Callable[[Language], Language]:
    """`mtl.AtomicSave.v1`, for `[training.before_to_disk]`: `spacy train` then saves a whole pipeline or none."""

    def before_to_disk(nlp: Language) -> Language:
        kind = type(nlp)
        safe: Any = object.__new__(type(kind.__name__, (_AtomicSave, kind), {}))
        safe.__dict__ = nlp.__dict__  # the same pipeline, which saves itself in another way
        return safe

    return before_to_disk


class _AtomicSave:
    def to_disk(self, path: Union[str, Path], *, exclude: Iterable[str] = SimpleFrozenList()) -> None:
        with replacing(path, "meta.json") as partial:
            super().to_disk(partial, exclude=exclude)  # type: ignore[misc]
            without_local_paths(partial / "config.cfg")


def without_local_paths(config_path: Path) -> None:
    """Cut absolute paths in a saved config.cfg down to their last part: they say where it was made, and help nobody.

    The optimizer's variables are replaced by their values, so that `nlp.create_optimizer()` works on the loaded pipeline.
    """
    if not config_path.exists():
        return
    config = Config().from_disk(config_path, interpolate=False)
    if "optimizer" in config.get("training", {}):  # spaCy makes it from its own section alone, which then has no ${training...}
        config["training"]["optimizer"] = config.interpolate()["training"]["optimizer"]
    _shorten(config)
    config.to_disk(config_path, interpolate=False)


def _shorten(section: Any) -> None:
    for key, value in section.items():
        if isinstance(value, dict):
            _shorten(value)
        elif isinstance(value, list):
            section[key] = [_last_part(one) for one in value]
        else:
            section[key] = _last_part(value)


def _last_part(value: Any) -> Any:
    return re.split(r"[\\/]", value.rstrip("/\\"))[-1] if isinstance(value, str) and ABSOLUTE.match(value) else value
