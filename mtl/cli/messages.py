"""What a user is told of an error, where it is a mistake of theirs."""

import configparser
import re
from typing import Optional

from mtl.errors import UserError


def message_of(error: BaseException) -> Optional[str]:
    """One line that says what to change; None for an error that is not the user's."""
    from catalogue import RegistryError
    from thinc.api import ConfigValidationError

    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, (ConfigValidationError, configparser.Error)):
        return f"the config: {' '.join(str(error).split())}"
    if isinstance(error, RegistryError):
        return _unknown_name(" ".join(str(error).split()))
    return None


def _unknown_name(said: str) -> Optional[str]:
    """Of spaCy's message, which lists every function there is: the name, and those of ours, or of the same beginning."""
    found = re.search(r"function '([^']+)' in function registry '([^']+)'.*Available names: (.*)", said)
    if not found:
        return None
    name, kind, names = found.group(1), found.group(2), found.group(3).split(", ")
    near = [one for one in names if one.partition(".")[0] == name.partition(".")[0]] or names
    return f"the config: there is no {name!r} among the {kind}; there are {', '.join(near)}"
