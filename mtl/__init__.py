"""Adapt one transformer to your text and train classification, NER, question answering and more on it, as one spaCy pipeline."""

from importlib import import_module
from typing import Any, List

__version__ = "0.1.0"
# Name -> module. Loaded when they are first used: importing mtl costs nothing.
_API = {
    "adapt": "mtl.adaptation.run",
    "convert": "mtl.api",
    "evaluate": "mtl.api",
    "package": "mtl.api",
    "read": "mtl.api",
    "train": "mtl.api",
    "Answer": "mtl.tasks.qa.answers",
    "UserError": "mtl.errors",
}
__all__ = ["__version__", *_API]


def __getattr__(name: str) -> Any:
    if name in _API:
        return getattr(import_module(_API[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> List[str]:
    return sorted({*globals(), *_API})
