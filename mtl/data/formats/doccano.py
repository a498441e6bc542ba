"""Doccano's exports: text classification and sequence labelling, old and new, with relations."""

from typing import Any, Dict, Iterator, List, Optional

from mtl.data.formats.source import Source, shaped
from mtl.data.formats.spans import as_label, is_entity
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError

LONG = 30  # characters; a project whose labels are longer on average, and hardly ever the same, has texts in their place


def is_doccano(source: Source) -> bool:
    """Whether the first rows look like Doccano's."""
    if source.kind != "json":
        return False
    keys = source.key_values()
    label = keys.get("label", keys.get("labels"))
    if isinstance(label, list) and label:
        has_rows_of_ours = any(is_entity(item) and "start_offset" not in item for item in _objects(keys.get("entities")))
        return _is_triple(label[0]) or ("label" in keys and all(isinstance(item, str) for item in label) and not has_rows_of_ours)
    return any("start_offset" in item for item in _objects(keys.get("entities"))) or any(
        "start_offset" in item or {"label", "user"} <= set(item) for item in _objects(keys.get("annotations"))
    )


def read_doccano(source: Source, report: Report) -> Iterator[Record]:
    """Read an export. An empty "label" means no entity in a file of entities, and no category in one of categories.

    Raises:
        UserError: A row has no text, or annotation of another shape; or the labels are texts.
    """
    records = []
    for where, row in source.rows():
        with shaped(where, "Doccano"):
            records.append(_record(row, where, report))
        records[-1].extra |= source.group(row)
    labels = [label for record in records for label in record.cats or ()]
    if sum(map(len, labels)) > LONG * len(labels) and len(set(labels)) > 0.8 * len(labels):
        raise UserError(
            f"{source.path}: the labels are texts, such as {labels[0][:40]!r}, of a sequence-to-sequence project; no head "
            f"learns these"
        )
    names = {*labels, *(entity.label for record in records for entity in record.entities or ())}
    if names and all(name.isdigit() for name in names):
        report.notes.append(f"{source.path}: labels are numbers; their names are in Doccano's label export, not in this file")
    if any(record.entities for record in records):
        for record in records:
            if record.cats == {}:
                record.cats, record.entities = None, record.entities or []
    yield from records


def _record(row: Any, where: str, report: Report) -> Record:
    text = row.get("text", row.get("data")) if isinstance(row, dict) else None
    if not isinstance(text, str):
        raise UserError(f'{where}: a "text" (or "data") is needed in Doccano\'s rows')
    if row.get("relations"):
        report.count("relations left out", len(row["relations"]))
    entities: Optional[List[Entity]] = None
    cats: Optional[Dict[str, float]] = None
    for item in [item for name in ("entities", "annotations") for item in row.get(name) or ()]:
        if "start_offset" in item:
            found = _entity(item["start_offset"], item["end_offset"], item["label"])
            entities = [*(entities or []), found]
        elif isinstance(item, dict):
            cats = {**(cats or {}), as_label(item["label"], "a label"): 1.0}
        else:
            raise TypeError(f"an annotation is an object, got {item!r}")
    if row.get("entities") == [] or row.get("annotations") == []:
        entities = entities or []
    labels = row.get("label", row.get("labels"))
    if labels is not None and not isinstance(labels, list):
        raise TypeError(f"labels are a list, got {labels!r}")
    if labels and _is_triple(labels[0]):
        entities = [*(entities or []), *(_entity(start, end, label) for start, end, label in labels)]
    elif labels is not None and (labels or entities is None):
        cats = {**(cats or {}), **{as_label(label, "a label"): 1.0 for label in labels}}
    return Record(text, where, cats=cats, cats_complete=True, entities=entities)


def _entity(start: Any, end: Any, label: Any) -> Entity:
    if type(start) is not int or type(end) is not int:
        raise ValueError(f"start and end must be whole numbers, got {start!r} and {end!r}")
    return Entity(start, end, as_label(label, "a label"))


def _objects(value: Any) -> List[Dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _is_triple(item: Any) -> bool:
    return isinstance(item, list) and len(item) == 3 and type(item[0]) is int and type(item[1]) is int
