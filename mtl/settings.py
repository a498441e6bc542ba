"""Settings whose keys are names that a user has chosen: labels, tasks, components, patterns. No spaCy."""

from typing import Any, Dict, List, TypeVar, Union

from confection import Config

from mtl.errors import UserError

T = TypeVar("T")
# As {name: value}, or as [[name, value], ...]. The list comes first: pydantic would turn it into a dict.
ByName = Union[List[List[Any]], Dict[str, T]]


def by_name(setting: str, value: ByName[T]) -> Dict[str, T]:
    """A setting with free names as keys, in either form.

    Args:
        setting (str): Its name, for messages.
        value (ByName[T]): {name: value} or [[name, value], ...].

    Raises:
        UserError: A name is given twice, or cannot be a key of a config file; the list has another form.
    """
    if isinstance(value, dict):
        for name in value:
            if not _can_be_key(name):
                raise UserError(
                    f"{setting}: {name!r} cannot be a key in a config file, and a saved pipeline would not load. "
                    f"Give the setting as a list of pairs: [[{_quoted(name)}, {value[name]!r}], ...]"
                )
        return dict(value)
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str) for pair in value):
        raise UserError(f'{setting}: a list must have pairs of a name and a value, as in [["name", 2.0]]; got {value!r}')
    pairs: Dict[str, T] = dict(value)  # type: ignore[assignment,arg-type]
    for name in pairs:
        if not _survives({"section": {"setting": [[name, 1.5]]}}):
            raise UserError(f"{setting}: {name!r} cannot stand in a config file; use another name, without '${{'")
    if len(pairs) < len(value):
        raise UserError(f"{setting}: a name is given twice in {value!r}")
    return pairs


def check_component_name(name: str) -> None:
    """Check that a component's name can be a section of a config.

    Raises:
        UserError: It cannot, so that the saved pipeline would not load.
    """
    if not _survives({"components": {name: {"factory": "mtl"}}}):
        raise UserError(f"the component name {name!r} cannot be a section of a config file; use letters, digits, '_' and '-'")


def _can_be_key(name: str) -> bool:
    return _survives({"section": {"setting": {name: 1.5}}})


def _survives(config: Dict[str, Any]) -> bool:
    """Whether a config is the same after it was written and read."""
    try:
        return Config().from_str(Config(config).to_str()) == config
    except Exception:  # configparser, confection and json each have their own
        return False


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
