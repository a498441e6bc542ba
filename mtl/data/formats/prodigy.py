"""Prodigy's rows (https://prodi.gy/docs/api-interfaces): what an annotator has accepted, rejected or ignored."""

from typing import Any, Dict, Iterator, List, Optional

from mtl.data.formats.jsonl import row_record
from mtl.data.formats.source import Source
from mtl.data.formats.spans import as_label
from mtl.data.records import Record, Report
from mtl.errors import UserError

HASHES = ("_input_hash", "_task_hash", "_view_id")
ANSWERS = ("accept", "reject", "ignore")
# Keys that say how a row was shown, or what a model thought of it.
SHOWN = {"tokens", "meta", "config", "html", "image", "rank", "score", "priority", "relations", "source", "arcs", "options",
         "accept", "answer", "key", "model", "style", "user_input", "active_users", "time", "versions"}  # fmt: skip


def is_prodigy(source: Source) -> bool:
    """Whether the rows have Prodigy's hashes or answers."""
    keys = source.key_values()
    return any(name in keys for name in HASHES) or ({"answer", "text"} <= set(keys) and "question" not in keys)


def read_prodigy(source: Source, report: Report) -> Iterator[Record]:
    """Read an export.

    A rejected category does not hold; what is right where spans or questions were rejected is not known. An accepted row without
    spans says that there are none, in a file that has spans. In binary rows only the one span or label that was shown is
    annotated; those on one text are put together.

    Raises:
        UserError: An answer is unknown, or a row has the wrong shape.
    """
    records: List[Record] = []
    bare: List[Record] = []  # accepted, without anything in them
    binary: Dict[str, Record] = {}
    for where, row in source.rows():
        if not isinstance(row, dict):
            raise UserError(f"{where}: a JSON object is needed for each document")
        decided = _decided(row, where, report)
        if decided is None:
            continue
        record = row_record(decided, where, report, source.reading)
        record.extra |= source.group(row)
        if isinstance(row.get("relations"), list) and row["relations"]:
            report.count("relations left out", len(row["relations"]))
        is_binary = bool(row.get("_is_binary"))
        if is_binary or (row.get("label") is not None and not row.get("options")):
            record.cats_complete, record.entities_complete = False, not is_binary
            earlier = binary.setdefault(record.text, record)
            if earlier is not record:
                _join(earlier, record)
                report.count("answers on a text of an earlier row, put together")
                continue
        elif record.cats is None and record.entities is None and record.questions is None:
            bare.append(record)
        records.append(record)
    if any(record.entities for record in records):
        for record in bare:
            record.entities = []
    yield from records


def _decided(row: Dict[str, Any], where: str, report: Report) -> Optional[Dict[str, Any]]:
    """The row in our own form, as the annotator has decided on it; None if it says nothing."""
    answer = row.get("answer", "accept")
    kept = {key: value for key, value in row.items() if key not in SHOWN and not key.startswith("_")}
    if answer not in ANSWERS:
        raise UserError(f'{where}: "answer" must be accept, reject or ignore, got {answer!r}')
    if answer == "ignore":
        report.count("rows left out because the annotator ignored them")
        return None
    try:
        if answer == "reject":
            if row.get("label") is None:
                report.count("rows left out because the annotator rejected them")
                return None
            report.count("rejected categories, read as not holding")
            return {"text": row.get("text"), "cats": {as_label(row["label"], '"label"'): 0.0}}
        if isinstance(row.get("options"), list) and isinstance(row.get("accept"), list):
            options = [option.get("id") if isinstance(option, dict) else option for option in row["options"]]
            return {**kept, "cats": {as_label(option, '"options"'): float(option in row["accept"]) for option in options}}
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    return kept


def _join(record: Record, other: Record) -> None:
    """Add what another binary row says of the same text."""
    if other.cats is not None:
        record.cats = {**(record.cats or {}), **other.cats}
    if other.entities is not None:
        known = record.entities or []
        record.entities = [*known, *(entity for entity in other.entities if entity not in known)]
