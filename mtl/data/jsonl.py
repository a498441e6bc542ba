"""JSON Lines: one document a line, with any subset of the annotations.

    {"text": "...", "label": "WEAR"}                                   exclusive category
    {"text": "...", "cats": {"urgent": 1, "legal": 0}}                 several categories
    {"text": "...", "entities": [{"start": 4, "end": 8, "label": "PART"}]}   or [[4, 8, "PART"]], or "spans"
    {"text": "...", "qas": [{"id": "q1", "question": "...", "answers": [{"text": "...", "answer_start": 4}]}]}

An absent key or null means not annotated; an empty list of entities means annotated, none there; an empty list of answers
means the text does not answer the question. `"labels": ["a", "b"]` marks several categories that hold; the others do not,
while a category that "cats" leaves out is not annotated.
"""

import json
from typing import Any, Dict, Iterator, List, Optional

from mtl.data.records import Answer, Entity, Question, Record, Report, numbered_lines
from mtl.errors import UserError


def read_jsonl(path: str, report: Report) -> Iterator[Record]:
    """Read a JSON Lines file.

    RAISES (UserError): a line that is no JSON object, has no text, or whose annotation has the wrong shape.
    """
    for number, line in numbered_lines(path):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{where}: not valid JSON ({error.msg} at column {error.colno})") from None
            if not isinstance(row, dict):
                raise UserError(f"{where}: a JSON object is needed, one document a line")
            yield _record(row, where)


def _record(row: Dict[str, Any], where: str) -> Record:
    text = row.get("text")
    if not isinstance(text, str):
        raise UserError(f'{where}: a "text" is needed; the keys are {", ".join(map(repr, row))}')
    try:
        entities = row["entities"] if row.get("entities") is not None else row.get("spans")
        questions = row["qas"] if row.get("qas") is not None else row.get("questions")
        return Record(
            text,
            where,
            cats=_cats(row),
            cats_complete=row.get("cats") is None,
            entities=None if entities is None else [_entity(item) for item in entities],
            questions=None if questions is None else _questions(questions),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{where}: an annotation has the wrong shape: {what}") from None


def _cats(row: Dict[str, Any]) -> Optional[Dict[str, float]]:
    if row.get("cats") is not None:
        return {str(label): float(value) for label, value in row["cats"].items()}
    if row.get("label") is not None:
        if not isinstance(row["label"], (str, int)):
            raise ValueError('"label" holds one category; use "labels" for several')
        return {str(row["label"]): 1.0}
    if row.get("labels") is not None:
        return {str(label): 1.0 for label in row["labels"]}
    return None


def _entity(item: Any) -> Entity:
    if isinstance(item, dict):
        return Entity(int(item["start"]), int(item["end"]), str(item["label"]))
    start, end, label = item
    return Entity(int(start), int(end), str(label))


def _questions(items: List[Dict[str, Any]]) -> List[Question]:
    return [
        Question(
            str(item.get("id") or f"q{i}"),
            str(item["question"]),
            [Answer(int(answer["answer_start"]), str(answer["text"])) for answer in item.get("answers") or ()],
        )
        for i, item in enumerate(items, start=1)
    ]
