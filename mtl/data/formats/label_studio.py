"""Label Studio's exports: full JSON, JSON-MIN and its CSV."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from mtl.data.formats.mentions import UTF16, characters_of_utf16, place_mention
from mtl.data.formats.names import LABEL_NAMES, LIST_NAMES, SCORE_NAMES
from mtl.data.formats.reading import Reading
from mtl.data.formats.source import Source, shaped
from mtl.data.formats.spans import as_label
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError

CATEGORY_NAMES = (*LABEL_NAMES, *LIST_NAMES, "choice")  # of a field with one choice in JSON-MIN
MIN_KEYS = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement", "comments"}
Value = Tuple[str, Dict[str, Any]]  # name of the field, and what was annotated


@dataclass
class Annotated:
    """A task while the file is read.

    Args:
        record (Record): The document.
        fields (Dict[str, List[str]]): Field of categories -> those chosen.
        is_empty (bool): The annotator has found nothing.
    """

    record: Record
    fields: Dict[str, List[str]] = field(default_factory=dict)
    is_empty: bool = False


def is_label_studio(source: Source) -> bool:
    """Whether the first rows look like Label Studio's."""
    keys = source.key_values()
    return isinstance(keys.get("data"), dict) or {"annotation_id", "lead_time"} <= set(keys)


def read_label_studio(source: Source, report: Report) -> Iterator[Record]:
    """Read an export. Tasks that nobody has annotated are left out.

    An empty result means no entity in a file of entities, and no category in one of categories. Of several fields with
    categories, each is annotated where it has a choice.

    Raises:
        UserError: A task has no text, results of other shape, or a mention that is not at its offsets; or none has results.
    """
    rows = list(source.rows())
    groups = {where: source.group(row) for where, row in rows}
    choices = {key for _, row in rows for key, value in _items(row) if isinstance(value, dict)}
    tasks: List[Annotated] = []
    for where, row in rows:
        with shaped(where, "Label Studio"):
            task = _task(row, where, choices, report, source.reading)
        tasks += [] if task is None else [task]
    if not tasks:
        raise UserError(f"{source.path}: this is a Label Studio export without results: nobody has annotated a task in it")
    known: Dict[str, Set[str]] = defaultdict(set)
    for task in tasks:
        for name, labels in task.fields.items():
            known[name] |= set(labels)
    has_entities = any(task.record.entities for task in tasks)
    for task in tasks:
        if task.is_empty:
            task.record.entities, task.fields = ([], {}) if has_entities or not known else (None, {name: [] for name in known})
        if task.fields:
            task.record.cats_complete = len(known) == 1
            given = [name for name in task.fields if len(known) == 1 or task.fields[name] or task.is_empty]
            task.record.cats = {
                label: float(label in task.fields[name])
                for name in given for label in (sorted(known[name]) if len(known) > 1 else task.fields[name])
            }  # fmt: skip
        task.record.extra |= groups[task.record.where]
        yield task.record


def _items(row: Any) -> Iterator[Tuple[str, Any]]:
    """The fields of a task in JSON-MIN."""
    if isinstance(row, dict) and not isinstance(row.get("data"), dict):
        yield from ((key, value) for key, value in row.items() if key not in MIN_KEYS)


def _task(row: Any, where: str, choices: Set[str], report: Report, reading: Reading) -> Optional[Annotated]:
    if not isinstance(row, dict):
        raise UserError(f"{where}: a task is a JSON object, got {type(row).__name__}")
    if isinstance(row.get("data"), dict):
        return _full_task(row, where, report, reading)
    named = {name for key, name in reading.columns.items() if key in ("label", "labels")}
    values: List[Value] = []
    texts: Dict[str, str] = {}
    for key, value in _items(row):
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            values += [(key, item) for item in value]
        elif isinstance(value, dict):
            values.append((key, value))
        elif isinstance(value, str) and (key in choices or key in CATEGORY_NAMES or key in named):
            values += [(key, {"choices": [value]})] if value else []
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and (key in SCORE_NAMES or key == "score"):
            values.append((key, {"number": value}))
        elif isinstance(value, str):
            texts[key] = value
    return _annotated(_text(texts, where), values, where, report, reading)


def _full_task(row: Dict[str, Any], where: str, report: Report, reading: Reading) -> Optional[Annotated]:
    annotations = row.get("annotations", row.get("completions"))
    if not isinstance(annotations, list):
        raise UserError(
            f'{where}: this is a Label Studio export without results: its tasks have no "annotations". Export them as JSON'
        )
    done = [one for one in annotations if not one.get("was_cancelled") and one.get("result") is not None]
    if not done:
        report.count("tasks left out because nobody has annotated them")
        return None
    if len(done) > 1:
        report.count("tasks with several annotations, of which the ground truth is read, or the last")
    chosen = next((one for one in done if one.get("ground_truth")), done[-1])
    is_named = "text" in reading.columns and isinstance(row.get("text"), str)
    texts = {"text": row["text"]} if is_named else {key: v for key, v in row["data"].items() if isinstance(v, str)}
    values: List[Value] = []
    for result in chosen["result"]:
        if isinstance(result.get("value"), dict):
            values.append((str(result.get("from_name", "")), {"id": result.get("id"), **result["value"]}))
        elif result.get("type") == "relation":
            report.count("relations left out")
    return _annotated(_text(texts, where), values, where, report, reading)


def _text(texts: Dict[str, str], where: str) -> str:
    if "text" in texts or len(texts) == 1:
        return texts.get("text", next(iter(texts.values())))
    raise UserError(
        f"{where}: the text is not known; there are {', '.join(map(repr, texts)) or 'no strings'}. Name it: --column text=NAME"
    )


def _annotated(text: str, values: List[Value], where: str, report: Report, reading: Reading) -> Annotated:
    task = Annotated(Record(text, where), is_empty=not values)
    regions: Dict[Any, List[Entity]] = {}  # those of a region, by its id, or its place where there are no ids
    marked = [(name, value, names) for name, value in values if (names := _labels(value)) and "start" in value]
    for _, value, names in marked:
        place = _offsets(text, value, where, report, reading)
        found = [Entity(*place, as_label(name, "a label")) for name in names if place is not None]
        regions[_region(value)] = found
        task.record.entities = [*(task.record.entities or []), *found]
    for name, value in values:
        if "start" in value and _labels(value):
            continue
        if "start" in value and isinstance(value.get("choices"), list):
            for entity in regions.get(_region(value), ()):
                entity.attributes = {**(entity.attributes or {}), name: "|".join(map(str, value["choices"]))}
        elif (chosen := _choices(value)) is not None:
            task.fields[name] = [*task.fields.get(name, []), *chosen]
        elif "start" not in value and isinstance(given := value.get("number", value.get("rating")), (int, float)):
            task.record.number = float(given)
        else:
            report.count(f"results of another kind left out ({', '.join(sorted(set(value) - {'id'})) or 'empty'})")
    return task


def _labels(value: Dict[str, Any]) -> Optional[List[Any]]:
    return next((value[key] for key in ("labels", "hypertextlabels") if isinstance(value.get(key), list)), None)


def _choices(value: Dict[str, Any]) -> Optional[List[str]]:
    """The categories of a result; the path of a taxonomy is one."""
    if isinstance(value.get("taxonomy"), list):
        return [
            as_label("/".join(map(str, path)) if isinstance(path, list) else path, "a taxonomy") for path in value["taxonomy"]
        ]
    return [as_label(choice, "a choice") for choice in value["choices"]] if isinstance(value.get("choices"), list) else None


def _region(value: Dict[str, Any]) -> Any:
    return value.get("id") or (value["start"], value["end"])


def _offsets(text: str, value: Dict[str, Any], where: str, report: Report, reading: Reading) -> Optional[Tuple[int, int]]:
    """The characters of a mention. Label Studio counts UTF-16 units, of which an emoji has two."""
    places = value.get("globalOffsets") if isinstance(value.get("globalOffsets"), dict) else value
    start, end, mention = places.get("start"), places.get("end"), value.get("text")  # type: ignore[union-attr]
    if type(start) is not int or type(end) is not int:
        raise UserError(f"{where}: start and end of a mention must be whole numbers, got {start!r} and {end!r}")
    converted = characters_of_utf16(text, start), characters_of_utf16(text, end)
    if converted != (start, end) and mention in (None, text[slice(*converted)]):
        report.count(f"offsets in {UTF16}, converted")
        return converted
    return place_mention(text, start, end, mention, where, report, reading)
