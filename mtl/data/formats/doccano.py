"""Doccano's exports: text classification and sequence labelling, old and new, with relations."""

from typing import Any, Dict, List, Optional

from mtl.data.formats.source import Source
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError


def is_doccano(source: Source) -> bool:
    """Whether the first rows look like Doccano's."""
    keys = source.keys()
    label = keys.get("label", keys.get("labels"))
    if isinstance(label, list) and label:
        return _is_triple(label[0]) or ("label" in keys and all(isinstance(item, str) for item in label))
    return any("start_offset" in item for name in ("entities", "annotations") for item in _objects(keys.get(name)))


def doccano_record(row: Any, where: str, report: Report) -> Record:
    """A document from a row.

    Raises:
        UserError: It has no text, or annotation of another shape.
    """
    text = row.get("text", row.get("data")) if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise UserError(f'{where}: a "text" (or "data") is needed in Doccano\'s rows')
    if row.get("relations"):
        report.count("relations left out", len(row["relations"]))
    entities: Optional[List[Entity]] = None
    cats: Optional[Dict[str, float]] = None
    try:
        for name in ("entities", "annotations"):
            if row.get(name) is not None:
                found = [Entity(item["start_offset"], item["end_offset"], str(item["label"])) for item in row[name]]
                entities = [*(entities or []), *found]
        labels = row.get("label", row.get("labels"))
        if labels is not None and not isinstance(labels, list):
            raise TypeError
        if labels and _is_triple(labels[0]):
            entities = [*(entities or []), *(Entity(start, end, str(label)) for start, end, label in labels)]
        elif labels is not None and (labels or entities is None):
            cats = {str(label): 1.0 for label in labels}
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{where}: annotation that is not in the shape of Doccano's exports") from None
    return Record(text, where, cats=cats, cats_complete=True, entities=entities)


def settle_empty(records: List[Record]) -> None:
    """An empty "label" means no entity in a file of entities, and no category in one of categories."""
    if any(record.entities for record in records):
        for record in records:
            if record.cats == {}:
                record.cats, record.entities = None, record.entities or []


def _objects(value: Any) -> List[Dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _is_triple(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 3 and type(item[0]) is int and type(item[1]) is int
