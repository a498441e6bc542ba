"""spaCy's custom attributes, which all packages of a process share."""

from typing import Any, Optional

from mtl.errors import UserError


def install_extension(owner: Any, name: str, needed_by: str, **definition: Any) -> None:
    """Register `owner._.<name>`, unless it is registered with the same meaning.

    Args:
        owner (Any): Doc or Span.
        name (str): The attribute.
        needed_by (str): What it is for, for the message.
        **definition (Any): As for `Doc.set_extension`.

    Raises:
        UserError: Other code has registered it with another meaning.
    """
    if not owner.has_extension(name):
        owner.set_extension(name, **definition)
        return
    default, *functions = owner.get_extension(name)  # method, getter, setter
    wanted = [definition.get(kind) for kind in ("method", "getter", "setter")]
    if default != definition.get("default") or list(map(_identity, functions)) != list(map(_identity, wanted)):
        kind = owner.__name__
        raise UserError(
            f"{kind.lower()}._.{name} is registered by other code with another meaning, and {needed_by} needs it. Rename the "
            f"other one, or drop it before the pipeline is made: {kind}.remove_extension({name!r})"
        )


def _identity(function: Any) -> Optional[tuple]:
    """A function by where it is defined: a closure is another object each time."""
    return None if function is None else (getattr(function, "__module__", ""), getattr(function, "__qualname__", repr(function)))
