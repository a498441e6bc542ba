"""Our own rows, as JSON Lines or a JSON array, and those of other tools that are like them: one document each.

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

from dataclasses import replace
from typing import Any, Dict, Iterator, List, Optional

from mtl.data.formats.names import LABEL_NAMES, TEXT_NAMES
from mtl.data.formats.reading import Reading
from mtl.data.formats.source import Source
from mtl.data.formats.spans import as_label, is_entity, read_entities
from mtl.data.formats.squad import parse_question
from mtl.data.records import Question, Record, Report
from mtl.errors import UserError

ENTITY_NAMES = ("entities", "spans", "ents")
KEYS = ("text", "label", "labels", "cats", *ENTITY_NAMES, "qas", "questions", "score")
OTHER_ENTITY_NAMES = ("annotations", "annotation", "ner", "mentions", "tokens")  # read if what they hold are entities
LARGEST = 1e300  # number that a float can hold
UNLABELLED = -1  # a label of Hugging Face's test sets


def is_own_rows(source: Source) -> bool:
    """Whether the rows have a text or an annotation under one of our names, or a text under another usual one."""
    keys = source.key_values()
    lower = {key.lower(): value for key, value in keys.items()}
    return bool({*KEYS} & set(lower)) or any(isinstance(lower.get(name), str) for name in TEXT_NAMES)


def read_own_rows(source: Source, report: Report) -> Iterator[Record]:
    """Read rows. Other keys are kept in `Record.extra`.

    Raises:
        UserError: A row is not a JSON object, has no text, or its annotation has the wrong shape.
    """
    source = with_usual_names(source, report)
    for where, row in source.rows():
        yield row_record(row, where, report, source.reading)


def with_usual_names(source: Source, report: Report) -> Source:
    """The source with names for what it lacks under ours, where it has a usual name for that. What they are is noted."""
    values = source.key_values()
    lower = {key.lower(): key for key in reversed(values)}
    guessed = {key: lower[key] for key in KEYS if key not in values and key in lower}  # in other case
    if "text" not in values:
        usual = [lower[name] for name in TEXT_NAMES if name in lower and isinstance(values[lower[name]], str)]
        guessed |= dict(zip(["text"], usual))
    if not {*KEYS[1:]} & {*values, *guessed}:
        usual = [name for name in OTHER_ENTITY_NAMES if isinstance(values.get(name), list) and any(map(is_entity, values[name]))]
        guessed |= dict(zip(["entities"], usual))
    if not {"label", "labels", "cats"} & {*values, *guessed}:
        usual = [lower[name] for name in (*LABEL_NAMES, "annotation") if name in lower and isinstance(values[lower[name]], str)]
        guessed |= dict(zip(["label"], usual))
    columns = {key: name for key, name in guessed.items() if key not in source.columns}
    if not columns:
        return source
    report.notes.append(f"{source.path}: read " + ", ".join(f"{key} = {name!r}" for key, name in columns.items()))
    return Source(source.path, replace(source.reading, columns={**source.columns, **columns}), source.found)


def row_record(row: Any, where: str, report: Report, reading: Reading) -> Record:
    """A document from its JSON object.

    Raises:
        UserError: It is none, has no text, or its annotation has the wrong shape.
    """
    if not isinstance(row, dict):
        raise UserError(f"{where}: a JSON object is needed for each document")
    text = row.get("text")
    if not isinstance(text, str):
        problem = f"{text!r} is not a string" if "text" in row else f"the keys are {', '.join(map(repr, row))}"
        raise UserError(f'{where}: a "text" is needed; {problem}. Name another key: --column text=KEY')
    try:
        entities, questions = _list_of(row, *ENTITY_NAMES), _list_of(row, "qas", "questions")
        return Record(
            text,
            where,
            cats=categories(row, report),
            cats_complete=not isinstance(row.get("cats"), dict) and not any(key.startswith("cats:") for key in row),
            entities=None if entities is None else read_entities(entities, text, where, report, reading),
            questions=None if questions is None else _parse_questions(questions),
            number=None if row.get("score") is None else _number(row["score"]),
            extra={key: value for key, value in row.items() if key not in KEYS and ":" not in key},
        )
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _list_of(row: Dict[str, Any], *names: str) -> Optional[List]:
    """The list that the row has under one of several names; None if it has none."""
    present = [name for name in names if row.get(name) is not None]
    if len(present) > 1:
        raise ValueError(f"{' and '.join(map(repr, present))} are two names for the same thing; keep one")
    value = row[present[0]] if present else None
    if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), list):
        return next(iter(value.values()))  # spaCy's groups of spans, of which there is one
    if value is not None and not isinstance(value, list):
        raise ValueError(f"{present[0]!r} must be a list, got {value!r}")
    return value


def categories(row: Dict[str, Any], report: Report) -> Optional[Dict[str, float]]:
    """The categories of a row in any of the three forms."""
    named = {key.removeprefix("cats:"): value for key, value in row.items() if key.startswith("cats:") and value is not None}
    if named:  # of --column cats=NAME
        return {name: _degree(name, value) for name, value in named.items()}
    present = [name for name in ("cats", "label", "labels") if row.get(name) is not None]
    if len(present) > 1:
        raise ValueError(f"{' and '.join(map(repr, present))} say the same in different ways; keep one")
    if not present:
        return None
    value = row[present[0]]
    if present == ["label"] and not isinstance(value, list):
        if value == UNLABELLED and not isinstance(value, bool):
            report.count(f"labels of {UNLABELLED}, which stands for 'not labelled'")
            return None
        return {as_label(value, '"label" (one category; use "labels" for several)'): 1.0}
    if isinstance(value, list):
        return {as_label(label, f'"{present[0]}"'): 1.0 for label in value}
    if present == ["labels"]:
        raise ValueError(f'"labels" must be a list of categories, got {value!r}; for one category use --column label=labels')
    if not isinstance(value, dict):
        raise ValueError(f'"cats" must be an object from category to number, or a list of categories, got {value!r}')
    return {as_label(label, '"cats"'): _degree(label, number) for label, number in value.items()}


def _degree(label: str, value: Any) -> float:
    """Whether a category holds, from 0 to 1."""
    if not isinstance(value, (bool, int, float)) or not 0 <= value <= 1:
        raise ValueError(f'"cats": {label!r} needs a number from 0 to 1, got {value!r}')
    return float(value)


def _number(value: Any) -> float:
    """A finite score."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < LARGEST:
        raise ValueError(f'"score" must be a number, got {repr(value)[:40]}')
    return float(value)


def _parse_questions(items: List[Any]) -> List[Question]:
    """Questions, numbered q1, q2, ... where they have no id."""
    taken = {str(item["id"]) for item in items if isinstance(item, dict) and item.get("id") is not None}
    free = (name for i in range(1, len(taken) + len(items) + 1) if (name := f"q{i}") not in taken)
    return [parse_question(item, free) for item in items]
