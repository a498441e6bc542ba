"""Label Studio's exports: full JSON and JSON-MIN."""

from typing import Any, Dict, Iterator, List, Optional, Tuple

from mtl.data.formats.source import Source
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError

CATEGORY_NAMES = ("label", "labels", "category", "categories", "class", "choice", "sentiment", "topic", "intent")  # in JSON-MIN
MIN_KEYS = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}


def is_label_studio(source: Source) -> bool:
    """Whether the first rows look like Label Studio's."""
    keys = source.keys()
    return isinstance(keys.get("data"), dict) or {"annotation_id", "lead_time"} <= set(keys)


def label_studio_record(row: Any, where: str, report: Report) -> Optional[Record]:
    """A document from a task; None if nobody has annotated it.

    Raises:
        UserError: It has no text, results of other shape, or a mention that is not at its offsets.
    """
    if not isinstance(row, dict):
        raise UserError(f"{where}: a task is a JSON object, got {type(row).__name__}")
    if isinstance(row.get("data"), dict):
        return _full_record(row, where, report)
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
    return _record(text, values, where, report)


def _full_record(row: Dict[str, Any], where: str, report: Report) -> Optional[Record]:
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
    texts = {key: value for key, value in row["data"].items() if isinstance(value, str)}
    values = []
    for result in done[-1]["result"]:
        if isinstance(result.get("value"), dict):
            values.append((str(result.get("from_name", "")), result["value"]))
        elif result.get("type") == "relation":
            report.count("relations left out")
    return _record(_text(texts, where), values, where, report)


def _text(texts: Dict[str, str], where: str) -> str:
    if "text" in texts or len(texts) == 1:
        return texts.get("text", next(iter(texts.values())))
    raise UserError(
        f"{where}: the text is not known; there are {', '.join(map(repr, texts)) or 'no strings'}. Name it: --column text=NAME"
    )


def _record(text: str, values: List[Tuple[str, Dict[str, Any]]], where: str, report: Report) -> Record:
    entities: Optional[List[Entity]] = None
    cats: Optional[Dict[str, float]] = None
    number: Optional[float] = None
    for _, value in values:
        names = next((value[key] for key in ("labels", "hypertextlabels", "choices") if key in value), None)
        if "start" in value and isinstance(names, list):
            start, end = _offsets(text, value, where, report)
            entities = [*(entities or []), *(Entity(start, end, str(name)) for name in names)]
        elif "choices" in value:
            cats = {**(cats or {}), **{str(name): 1.0 for name in value["choices"]}}
        elif isinstance(given := value.get("number", value.get("rating")), (int, float)):
            number = float(given)
        else:
            report.count(f"results of another kind left out ({', '.join(sorted(value)) or 'empty'})")
    if not values:
        entities = []  # annotated, and nothing found
    return Record(text, where, cats=cats, cats_complete=True, entities=entities, number=number)


def _offsets(text: str, value: Dict[str, Any], where: str, report: Report) -> Tuple[int, int]:
    """The characters of a mention. Label Studio counts UTF-16 units, of which an emoji has two."""
    start, end, mention = value["start"], value["end"], value.get("text")
    if type(start) is not int or type(end) is not int:
        raise UserError(f"{where}: start and end of a mention must be whole numbers, got {start!r} and {end!r}")
    converted = characters_of_utf16(text, start), characters_of_utf16(text, end)
    if converted != (start, end) and mention in (None, text[slice(*converted)]):
        report.count("offsets in UTF-16 units, converted")
        return converted
    if mention in (None, text[start:end]):
        return start, end
    raise UserError(f"{where}: the mention is {mention!r}, but the text at {start}:{end} is {text[start:end]!r}")


def characters_of_utf16(text: str, units: int) -> int:
    """The character at which so many UTF-16 units of the text have passed."""
    encoded = text.encode("utf-16-le")
    beyond = max(0, units - len(encoded) // 2)  # stays beyond the text, where it is an error
    return len(encoded[: 2 * units].decode("utf-16-le", errors="ignore")) + beyond


def check_annotated(records: List[Record], source: Source) -> Iterator[Record]:
    """The records, of which there has to be one.

    Raises:
        UserError: There is none.
    """
    if not records:
        raise UserError(f"{source.path}: this is a Label Studio export without results: nobody has annotated a task in it")
    yield from records
