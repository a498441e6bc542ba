"""Error messages for errors that user input can cause."""

import configparser
import re
from typing import Optional

from mtl.errors import UserError


def message_of(error: BaseException) -> Optional[str]:
    """One line that says what to change; None if user input cannot have caused the error."""
    from catalogue import RegistryError
    from thinc.api import ConfigValidationError

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, (ConfigValidationError, configparser.Error)):
        return f"the config: {' '.join(str(error).split())}"
    if isinstance(error, RegistryError):
        return _unknown_name(" ".join(str(error).split()))
    return None


def _unknown_name(message: str) -> Optional[str]:
    """A shorter form of spaCy's message, which lists every registered function: only those with the same prefix, such as mtl."""
    match = re.search(r"function '([^']+)' in function registry '([^']+)'.*Available names: (.*)", message)
    if not match:
        return None
    name, registry, available = match.group(1), match.group(2), match.group(3).split(", ")
    similar = [candidate for candidate in available if candidate.partition(".")[0] == name.partition(".")[0]] or available
    return f"the config: there is no {name!r} among the {registry}; there are {', '.join(similar)}"
