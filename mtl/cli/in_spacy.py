"""Loaded by spaCy's own command line (entry point `spacy_cli`): `spacy train` then shows a user's mistake without traceback."""

import sys
from types import TracebackType
from typing import Optional, Type

from mtl.errors import UserError

_previous = sys.excepthook


def show_user_errors(kind: Type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
    """An exception hook that prints a `UserError`'s message, and leaves all others to the hook before it."""
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr)
    else:
        _previous(kind, error, trace)


sys.excepthook = show_user_errors
