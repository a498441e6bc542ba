"""JSON Lines: one document a line, with any subset of the annotations.

    {"text": "...", "label": "WEAR"}                                   exclusive category
    {"text": "...", "cats": {"urgent": 1, "legal": 0}}                 several categories
    {"text": "...", "entities": [{"start": 4, "end": 8, "label": "PART"}]}   or [[4, 8, "PART"]], or "spans"
    {"text": "...", "score": 3.5}                                      a number, for regression
    {"text": "...", "qas": [{"id": "q1", "question": "...", "answers": [{"text": "...", "answer_start": 4}]}]}   or "questions"

An absent key or null means not annotated; an empty list of entities means annotated, none there; an empty list of answers, or
`"is_impossible": true`, means the text does not answer the question. `"labels": ["a", "b"]` marks several categories that
hold; the others do not, while a category that "cats" leaves out is not annotated.
"""

import math
from typing import Any, Dict, Iterator, List, Optional

from mtl.data.records import Entity, Question, Record, Report, numbered_lines, parse_json
from mtl.data.squad import parse_question
from mtl.errors import UserError

KEYS = ("text", "label", "labels", "cats", "entities", "spans", "qas", "questions", "score")


def read_jsonl(path: str, report: Report) -> Iterator[Record]:
    """Read a JSON Lines file. Keys of a document that are not read are counted in the report.

    RAISES (UserError): a line that is no JSON object, has no text, or whose annotation has the wrong shape.
    """
    for number, line in numbered_lines(path):
        if line.strip():
            where = f"{path}, line {number}"
            row = parse_json(line, where)
            if not isinstance(row, dict):
                raise UserError(f"{where}: a JSON object is needed, one document a line")
            for key in row:
                if key not in KEYS:
                    report.count(f"documents with {key!r}, which is not read")
            yield _record(row, where)


def _record(row: Dict[str, Any], where: str) -> Record:
    text = row.get("text")
    if not isinstance(text, str):
        problem = f"{text!r} is no string" if "text" in row else f"the keys are {', '.join(map(repr, row))}"
        raise UserError(f'{where}: a "text" is needed; {problem}')
    try:
        entities, questions = _one(row, "entities", "spans"), _one(row, "qas", "questions")
        return Record(
            text,
            where,
            cats=_cats(row),
            cats_complete=row.get("cats") is None,
            entities=None if entities is None else [_entity(item) for item in entities],
            questions=None if questions is None else _questions(questions),
            number=None if row.get("score") is None else _number(row["score"]),
        )
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _one(row: Dict[str, Any], *names: str) -> Optional[List]:
    """The list under one of several names."""
    given = [name for name in names if row.get(name) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(map(repr, given))} are two names for one thing; keep one")
    if given and not isinstance(row[given[0]], list):
        raise ValueError(f"{given[0]!r} holds a list, got {row[given[0]]!r}")
    return row[given[0]] if given else None


def _cats(row: Dict[str, Any]) -> Optional[Dict[str, float]]:
    given = [name for name in ("cats", "label", "labels") if row.get(name) is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(map(repr, given))} say the same in different ways; keep one")
    if not given:
        return None
    value = row[given[0]]
    if given == ["label"]:
        return {_label(value, '"label" (one category; use "labels" for several)'): 1.0}
    if given == ["labels"]:
        if not isinstance(value, list):
            raise ValueError(f'"labels" holds a list of categories, got {value!r}')
        return {_label(label, '"labels"'): 1.0 for label in value}
    if not isinstance(value, dict):
        raise ValueError(f'"cats" holds an object from category to number, got {value!r}')
    return {_label(label, '"cats"'): _share(label, number) for label, number in value.items()}


def _label(value: Any, key: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise ValueError(f"{key}: a label is a string that is not empty, got {value!r}")
    return str(value)


def _share(label: str, value: Any) -> float:
    if not isinstance(value, (bool, int, float)) or not (math.isfinite(value) and 0 <= value <= 1):
        raise ValueError(f'"cats": {label!r} needs a number from 0 to 1, got {value!r}')
    return float(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f'"score" is a number, got {value!r}')
    return float(value)


def _entity(item: Any) -> Entity:
    try:
        start, end, label = (item["start"], item["end"], item["label"]) if isinstance(item, dict) else item
    except (KeyError, TypeError, ValueError):
        raise ValueError(f'an entity is {{"start": .., "end": .., "label": ..}} or [start, end, label], got {item!r}') from None
    if type(start) is not int or type(end) is not int:
        raise ValueError(f"an entity's start and end are whole numbers, got {item!r}")
    return Entity(start, end, _label(label, "an entity"))


def _questions(items: List[Any]) -> List[Question]:
    taken = {str(item["id"]) for item in items if isinstance(item, dict) and item.get("id") is not None}
    free = (name for i in range(1, len(taken) + len(items) + 1) if (name := f"q{i}") not in taken)
    return [parse_question(item, free) for item in items]
