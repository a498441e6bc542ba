"""Entities as JSON objects or lists, under the names that tools give to start, end and label."""

import re
from typing import Any, Dict, List, Optional, Sequence, Union

from mtl.data.formats.mentions import place_mention
from mtl.data.formats.reading import Reading
from mtl.data.records import Entity, Report

STARTS = (
    "start",
    "startchar",
    "startoffset",
    "startidx",
    "begin",
    "beginoffset",
    "beginchar",
    "from",
    "offset",
    "characteroffset",
)
ENDS = ("end", "endchar", "endoffset", "endidx", "stop", "endchar", "to")
LENGTHS = ("length", "len")
LABELS = ("label", "type", "entitytype", "entitygroup", "entitylabel", "taglabel", "entity", "tag", "category", "class", "labels")
MENTIONS = ("text", "mention", "surface", "surfaceform", "word", "value", "phrase", "span")


def is_entity(item: Any) -> bool:
    """Whether an object or list has a start, an end and a label."""
    if isinstance(item, dict):
        keys = {_plain(key) for key in item}
        return bool(keys & set(STARTS)) and bool(keys & {*ENDS, *LENGTHS}) and bool(keys & set(LABELS))
    if not isinstance(item, (list, tuple)) or len(item) not in (3, 4):
        return False
    return all(type(part) is int for part in item[:2]) or all(type(part) is int for part in item[1:3])


def read_entities(items: Sequence[Any], text: str, where: str, report: Report, reading: Reading) -> List[Entity]:
    """The entities of a document.

    Args:
        items (Sequence[Any]): For each an object, or [start, end, label]. An object may have the mention's text as well.
        text (str): The document's.
        where (str): File and line, for messages.
        report (Report): Counts what was repaired and left out.
        reading (Reading): How to read.

    Raises:
        ValueError: One has another shape.
        UserError: A mention is not at its offsets.
    """
    found = [_entity(item, text, where, report, reading) for item in items]
    return [entity for entity in found if entity is not None]


def _entity(item: Any, text: str, where: str, report: Report, reading: Reading) -> Optional[Entity]:
    mention: Optional[str] = None
    attributes: Any = None
    if isinstance(item, dict):
        start, end, label, mention = _parts(item)
        attributes = item.get("attributes")
    else:
        try:
            start, end, label = item if type(item[0]) is int else (item[1], item[2], item[0])  # Argilla has the label first
        except (TypeError, ValueError, IndexError, KeyError):
            raise _shape_error(item) from None
    if type(start) is not int or type(end) is not int:
        raise ValueError(f"an entity's start and end must be whole numbers, got {item!r}")
    label = as_label(label, "an entity")
    held = None if attributes is None else _attributes(attributes)
    looked_for = mention is not None and "offsets" in reading.repair
    if not looked_for and not 0 <= start <= end <= len(text):  # refused when the document is made, with the length of its text
        return Entity(start, end, label, held)
    place = place_mention(text, start, end, mention, where, report, reading)
    return None if place is None else Entity(*place, label, held)


def _parts(item: Dict[str, Any]) -> Any:
    plain = {_plain(key): value for key, value in item.items()}
    start, end, length, label = (_first(plain, names) for names in (STARTS, ENDS, LENGTHS, LABELS))
    if end is None and type(start) is int and type(length) is int:
        end = start + length
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    if start is None or end is None or label is None:
        raise _shape_error(item)
    mention = next((plain[name] for name in MENTIONS if isinstance(plain.get(name), str) and plain[name] is not label), None)
    return start, end, label, mention


def _first(plain: Dict[str, Any], names: Sequence[str]) -> Any:
    return next((plain[name] for name in names if plain.get(name) is not None), None)


def _plain(key: Any) -> str:
    return re.sub("[^a-z]", "", str(key).lower())


def _shape_error(item: Any) -> ValueError:
    return ValueError(f'an entity is {{"start": .., "end": .., "label": ..}} or [start, end, label], got {item!r}')


def as_label(value: Any, key: str) -> str:
    """A label as a string. Whole numbers, and true and false, are accepted.

    Raises:
        ValueError: It is empty, or something else.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, (str, int)) or not str(value).strip():
        raise ValueError(f"{key}: a label is a string that is not empty, got {value!r}")
    return str(value)


def _attributes(value: Any) -> Dict[str, Union[bool, str]]:
    """The attributes of an entity: a list of those that hold, or an object from each to true, false or a string."""
    if isinstance(value, list):
        return {_attribute_name(name): True for name in value}
    if not isinstance(value, dict) or not all(isinstance(v, bool) or (isinstance(v, str) and v.strip()) for v in value.values()):
        raise ValueError(
            f'"attributes" must be a list of names, or an object from name to true, false or a string that is not empty, '
            f"got {value!r}"
        )
    return {_attribute_name(name): held for name, held in value.items()}


def _attribute_name(name: Any) -> str:
    if isinstance(name, bool):
        raise ValueError(f'"attributes": a name is a string, got {name!r}')
    return as_label(name, '"attributes"')
