"""Loaded by spaCy's own command line (entry point `spacy_cli`): `spacy train` then shows a user's mistake without traceback."""

import sys
from types import TracebackType
from typing import Optional, Type

from mtl.cli.messages import message_of

_previous = sys.excepthook


def show_user_errors(kind: Type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
    """An exception hook that prints what `message_of` says of a mistake, and leaves all else to the hook before it."""
    message = message_of(error)
    if message is not None:
        print(f"error: {message}", file=sys.stderr)
    else:
        _previous(kind, error, trace)


sys.excepthook = show_user_errors
