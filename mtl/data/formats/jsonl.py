"""Our own rows, as JSON Lines or a JSON array, and Prodigy's: one document each, with any subset of the annotations.

    {"text": "...", "label": "WEAR"}                                   exclusive category
    {"text": "...", "cats": {"urgent": 1, "legal": 0}}                 several categories
    {"text": "...", "entities": [{"start": 4, "end": 8, "label": "PART"}]}   or [[4, 8, "PART"]], or "spans"
    {"text": "...", "entities": [{"start": 4, "end": 8, "label": "PART", "attributes": {"negated": true, "severity": "high"}}]}
    {"text": "...", "score": 3.5}                                      a number, for regression
    {"text": "...", "qas": [{"id": "q1", "question": "...", "answers": [{"text": "...", "answer_start": 4}]}]}   or "questions"

A missing key or null means not annotated. An empty list of entities means annotated, without any; an empty list of answers, or
`"is_impossible": true`, means that the text does not answer the question. `"labels": ["a", "b"]` names several categories that
hold; all others do not, while a category that "cats" leaves out is not annotated. `"attributes": ["negated"]` is short for
`{"negated": true}`.
"""

import math
from typing import Any, Dict, List, Optional, Union

from mtl.data.formats.source import Source
from mtl.data.formats.squad import parse_question
from mtl.data.records import Entity, Question, Record, Report
from mtl.errors import UserError

KEYS = ("text", "label", "labels", "cats", "options", "accept", "entities", "spans", "qas", "questions", "score")


def is_own_rows(source: Source) -> bool:
    """Whether the rows have a text or an annotation under one of our names."""
    return bool(source.first_objects) and bool({*KEYS, "answer"} & set(source.keys()))


def own_record(row: Any, where: str, report: Report) -> Optional[Record]:
    """A document from a row; None if the annotator has decided that it says nothing. Other keys are kept in `Record.extra`.

    Raises:
        UserError: It is not a JSON object, has no text, or its annotation has the wrong shape.
    """
    if not isinstance(row, dict):
        raise UserError(f"{where}: a JSON object is needed for each document")
    return _json_record(row, where) if _is_decided(row, where, report) else None


def _is_decided(row: Dict[str, Any], where: str, report: Report) -> bool:
    """Read what an annotator has decided on a row of Prodigy's ("answer"), and whether it says anything.

    A rejected category does not hold; what is right where spans or questions were rejected is not known.
    """
    answer = row.pop("answer", "accept")
    if answer == "accept":
        return True
    if answer == "ignore":
        report.count("rows left out because the annotator ignored them")
        return False
    if answer != "reject":
        raise UserError(f'{where}: "answer" must be accept, reject or ignore, got {answer!r}')
    if row.get("label") is None:
        report.count("rows left out because the annotator rejected them")
        return False
    report.count("rejected categories, read as not holding")
    for name in ("entities", "spans", "qas", "questions", "score"):
        row.pop(name, None)
    row["cats"] = {_label(row.pop("label"), '"label"'): 0.0}
    return True


def _json_record(row: Dict[str, Any], where: str) -> Record:
    """A document from its JSON object."""
    text = row.get("text")
    if not isinstance(text, str):
        problem = f"{text!r} is not a string" if "text" in row else f"the keys are {', '.join(map(repr, row))}"
        raise UserError(f'{where}: a "text" is needed; {problem}')
    try:
        entities, questions = _list_of(row, "entities", "spans"), _list_of(row, "qas", "questions")
        return Record(
            text,
            where,
            cats=_categories(row),
            cats_complete=row.get("cats") is None,
            entities=None if entities is None else [_entity(item) for item in entities],
            questions=None if questions is None else _parse_questions(questions),
            number=None if row.get("score") is None else _number(row["score"]),
            extra={key: value for key, value in row.items() if key not in KEYS},
        )
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _list_of(row: Dict[str, Any], *names: str) -> Optional[List]:
    """The list that the row has under one of several names; None if it has none."""
    present = [name for name in names if row.get(name) is not None]
    if len(present) > 1:
        raise ValueError(f"{' and '.join(map(repr, present))} are two names for the same thing; keep one")
    if present and not isinstance(row[present[0]], list):
        raise ValueError(f"{present[0]!r} must be a list, got {row[present[0]]!r}")
    return row[present[0]] if present else None


def _categories(row: Dict[str, Any]) -> Optional[Dict[str, float]]:
    """The categories of a row in any of the three forms, or as Prodigy's choices: "options", of which it has accepted some."""
    if isinstance(row.get("options"), list) and isinstance(row.get("accept"), list):
        options = [option.get("id") if isinstance(option, dict) else option for option in row["options"]]
        return {_label(option, '"options"'): float(option in row["accept"]) for option in options}
    present = [name for name in ("cats", "label", "labels") if row.get(name) is not None]
    if len(present) > 1:
        raise ValueError(f"{' and '.join(map(repr, present))} say the same in different ways; keep one")
    if not present:
        return None
    value = row[present[0]]
    if present == ["label"]:
        return {_label(value, '"label" (one category; use "labels" for several)'): 1.0}
    if present == ["labels"]:
        if not isinstance(value, list):
            raise ValueError(f'"labels" must be a list of categories, got {value!r}')
        return {_label(label, '"labels"'): 1.0 for label in value}
    if not isinstance(value, dict):
        raise ValueError(f'"cats" must be an object from category to number, got {value!r}')
    return {_label(label, '"cats"'): _degree(label, number) for label, number in value.items()}


def _label(value: Any, key: str) -> str:
    """A label as a string. Whole numbers are accepted."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise ValueError(f"{key}: a label is a string that is not empty, got {value!r}")
    return str(value)


def _degree(label: str, value: Any) -> float:
    """Whether a category holds, from 0 to 1."""
    if not isinstance(value, (bool, int, float)) or not (math.isfinite(value) and 0 <= value <= 1):
        raise ValueError(f'"cats": {label!r} needs a number from 0 to 1, got {value!r}')
    return float(value)


def _number(value: Any) -> float:
    """A finite score."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f'"score" must be a number, got {value!r}')
    return float(value)


def _entity(item: Any) -> Entity:
    """An entity from its JSON object or list."""
    try:
        start, end, label = (item["start"], item["end"], item["label"]) if isinstance(item, dict) else item
    except (KeyError, TypeError, ValueError):
        raise ValueError(f'an entity is {{"start": .., "end": .., "label": ..}} or [start, end, label], got {item!r}') from None
    if type(start) is not int or type(end) is not int:
        raise ValueError(f"an entity's start and end must be whole numbers, got {item!r}")
    attributes = item.get("attributes") if isinstance(item, dict) else None
    return Entity(start, end, _label(label, "an entity"), None if attributes is None else _attributes(attributes))


def _attributes(value: Any) -> Dict[str, Union[bool, str]]:
    """The attributes of an entity: a list of those that hold, or an object from each to true, false or a string."""
    if isinstance(value, list):
        return {_label(name, '"attributes"'): True for name in value}
    if not isinstance(value, dict) or not all(isinstance(v, bool) or (isinstance(v, str) and v.strip()) for v in value.values()):
        raise ValueError(
            f'"attributes" must be a list of names, or an object from name to true, false or a string that is not empty, '
            f"got {value!r}"
        )
    return {_label(name, '"attributes"'): held for name, held in value.items()}


def _parse_questions(items: List[Any]) -> List[Question]:
    """Questions, numbered q1, q2, ... where they have no id."""
    taken = {str(item["id"]) for item in items if isinstance(item, dict) and item.get("id") is not None}
    free = (name for i in range(1, len(taken) + len(items) + 1) if (name := f"q{i}") not in taken)
    return [parse_question(item, free) for item in items]
