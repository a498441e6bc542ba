"""Label Studio's exports: full JSON and JSON-MIN."""

from typing import Any, Dict, Iterator, List, Optional, Tuple

from mtl.data.formats.mentions import UTF16, characters_of_utf16, place_mention
from mtl.data.formats.source import Reading, Source
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError

CATEGORY_NAMES = ("label", "labels", "category", "categories", "class", "choice", "sentiment", "topic", "intent")  # in JSON-MIN
MIN_KEYS = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}


def is_label_studio(source: Source) -> bool:
    """Whether the first rows look like Label Studio's."""
    keys = source.keys()
    return isinstance(keys.get("data"), dict) or {"annotation_id", "lead_time"} <= set(keys)


def read_label_studio(source: Source, report: Report) -> Iterator[Record]:
    """Read an export. Tasks that nobody has annotated are left out.

    An empty result means no entity in a file of entities, and no category in one of categories.

    Raises:
        UserError: A task has no text, results of other shape, or a mention that is not at its offsets; or none has results.
    """
    records = [record for where, row in source.rows() if (record := _task_record(row, where, report, source.reading)) is not None]
    if not records:
        raise UserError(f"{source.path}: this is a Label Studio export without results: nobody has annotated a task in it")
    has_categories = any(record.cats for record in records) and not any(record.entities for record in records)
    for record in records:
        if has_categories and record.entities == []:
            record.entities, record.cats = None, {}
    yield from records


def _task_record(row: Any, where: str, report: Report, reading: Reading) -> Optional[Record]:
    if not isinstance(row, dict):
        raise UserError(f"{where}: a task is a JSON object, got {type(row).__name__}")
    if isinstance(row.get("data"), dict):
        return _full_record(row, where, report, reading)
    texts = {key: value for key, value in row.items() if isinstance(value, str) and key not in {*MIN_KEYS, *CATEGORY_NAMES}}
    text = _text(texts, where)
    values: List[Tuple[str, Dict[str, Any]]] = []
    for key, value in row.items():
        if isinstance(value, list) and all(isinstance(item, dict) and "start" in item for item in value):
            values += [(key, item) for item in value]
        elif isinstance(value, dict) and "choices" in value:
            values.append((key, value))
        elif isinstance(value, str) and key in CATEGORY_NAMES:
            values.append((key, {"choices": [value]}))
    return _record(text, values, where, report, reading)


def _full_record(row: Dict[str, Any], where: str, report: Report, reading: Reading) -> Optional[Record]:
    annotations = row.get("annotations", row.get("completions"))
    if annotations is None:
        raise UserError(
            f'{where}: this is a Label Studio export without results: its tasks have no "annotations". Export them as JSON'
        )
    done = [one for one in annotations if not one.get("was_cancelled") and one.get("result") is not None]
    if not done:
        report.count("tasks left out because nobody has annotated them")
        return None
    if len(done) > 1:
        report.count("tasks with several annotations, of which the last is read")
    given = row if "text" in reading.columns and isinstance(row.get("text"), str) else row["data"]
    texts = {key: value for key, value in given.items() if isinstance(value, str)}
    values = []
    for result in done[-1]["result"]:
        if isinstance(result.get("value"), dict):
            values.append((str(result.get("from_name", "")), result["value"]))
        elif result.get("type") == "relation":
            report.count("relations left out")
    return _record(_text(texts, where), values, where, report, reading)


def _text(texts: Dict[str, str], where: str) -> str:
    if "text" in texts or len(texts) == 1:
        return texts.get("text", next(iter(texts.values())))
    raise UserError(
        f"{where}: the text is not known; there are {', '.join(map(repr, texts)) or 'no strings'}. Name it, as in "
        f"--column text=data.NAME"
    )


def _record(text: str, values: List[Tuple[str, Dict[str, Any]]], where: str, report: Report, reading: Reading) -> Record:
    entities: Optional[List[Entity]] = None
    cats: Optional[Dict[str, float]] = None
    number: Optional[float] = None
    for _, value in values:
        names = next((value[key] for key in ("labels", "hypertextlabels", "choices") if key in value), None)
        if "start" in value and isinstance(names, list):
            place = _offsets(text, value, where, report, reading)
            entities = [*(entities or []), *(Entity(*place, str(name)) for name in names if place is not None)]
        elif "choices" in value:
            cats = {**(cats or {}), **{str(name): 1.0 for name in value["choices"]}}
        elif isinstance(given := value.get("number", value.get("rating")), (int, float)):
            number = float(given)
        else:
            report.count(f"results of another kind left out ({', '.join(sorted(value)) or 'empty'})")
    if not values:
        entities = []  # annotated, and nothing found
    return Record(text, where, cats=cats, cats_complete=True, entities=entities, number=number)


def _offsets(text: str, value: Dict[str, Any], where: str, report: Report, reading: Reading) -> Optional[Tuple[int, int]]:
    """The characters of a mention. Label Studio counts UTF-16 units, of which an emoji has two."""
    start, end, mention = value["start"], value["end"], value.get("text")
    if type(start) is not int or type(end) is not int:
        raise UserError(f"{where}: start and end of a mention must be whole numbers, got {start!r} and {end!r}")
    converted = characters_of_utf16(text, start), characters_of_utf16(text, end)
    if converted != (start, end) and mention in (None, text[slice(*converted)]):
        report.count(f"offsets in {UTF16}, converted")
        return converted
    return place_mention(text, start, end, mention, where, report, reading)
