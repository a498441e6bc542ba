"""An exception hook for spaCy's command line: `spacy train` then reports errors caused by user input without a traceback.

spaCy loads this module through the entry point `spacy_cli`.
"""

import sys
from types import TracebackType
from typing import Optional, Type

from mtl.cli.messages import message_of

_previous_hook = sys.excepthook


def show_user_errors(kind: Type[BaseException], error: BaseException, trace: Optional[TracebackType]) -> None:
    """Print the message of an error that user input caused, and pass all others to the previous hook."""
    message = message_of(error)
    if message is not None:
        print(f"error: {message}", file=sys.stderr)
    else:
        _previous_hook(kind, error, trace)


sys.excepthook = show_user_errors
