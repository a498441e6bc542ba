"""Small formats: fastText's lines, DataTurks, LightTag, and the manifests of SageMaker Ground Truth."""

import re
from typing import Any, Dict, Iterator, Optional

from mtl.data.formats.source import Source
from mtl.data.formats.spans import read_entities
from mtl.data.records import Record, Report
from mtl.errors import UserError

FASTTEXT = re.compile(r"__label__(\S+)")


def is_fasttext(source: Source) -> bool:
    """Whether the first line begins with a label of fastText's."""
    return source.kind == "text" and FASTTEXT.match(source.first_line) is not None


def read_fasttext(source: Source, report: Report) -> Iterator[Record]:
    """Read lines such as `__label__a __label__b The text.` (https://fasttext.cc).

    Raises:
        UserError: A line has no text.
    """
    for number, line in source.lines():
        if not line.strip():
            continue
        labels = FASTTEXT.findall(line)
        text = FASTTEXT.sub("", line).strip()
        if not text:
            raise UserError(f"{source.path}, line {number}: labels without a text: {line[:60]!r}")
        yield Record(
            text, f"{source.path}, line {number}", cats=dict.fromkeys(labels, 1.0) if labels else None, cats_complete=True
        )


def is_dataturks(source: Source) -> bool:
    """Whether the rows are DataTurks': a content and an annotation with points, or with labels of the whole."""
    keys = source.key_values()
    return isinstance(keys.get("content"), str) and "annotation" in keys and "extras" in keys


def read_dataturks(source: Source, report: Report) -> Iterator[Record]:
    """Read DataTurks' rows, whose ends of mentions are the last character.

    Raises:
        UserError: A row has another shape, or a mention is not at its offsets.
    """
    for where, row in source.rows():
        try:
            text, annotation = row["content"], row["annotation"]
            record = Record(text, where, cats_complete=True)
            if isinstance(annotation, dict):
                labels = annotation["label"]
                record.cats = {str(label): 1.0 for label in (labels if isinstance(labels, list) else [labels])}
            elif annotation is not None:
                items = [
                    {"start": point["start"], "end": point["end"] + 1, "label": label, "text": point["text"]}
                    for one in annotation for point in one["points"]
                    for label in (one["label"] if isinstance(one["label"], list) else [one["label"]]) or [""]
                ]  # fmt: skip
                record.entities = read_entities(items, text, where, report, source.reading)
        except (KeyError, TypeError) as error:
            raise UserError(f"{where}: not in the shape of DataTurks' rows ({type(error).__name__}: {error})") from None
        record.extra |= source.group(row)
        yield record


def is_lighttag(source: Source) -> bool:
    """Whether the rows are LightTag's examples."""
    keys = source.key_values()
    return isinstance(keys.get("content"), str) and "example_id" in keys


def read_lighttag(source: Source, report: Report) -> Iterator[Record]:
    """Read LightTag's examples: annotations and classifications.

    Raises:
        UserError: A row has another shape, or a mention is not at its offsets.
    """
    for where, row in source.rows():
        try:
            text = row["content"]
            items = [one for one in row.get("annotations") or () if one.get("correct") is not False]
            if rejected := len(row.get("annotations") or ()) - len(items):
                report.count("annotations left out because a reviewer rejected them", rejected)
            if row.get("relations"):
                report.count("relations left out", len(row["relations"]))
            entities = read_entities(items, text, where, report, source.reading) if "annotations" in row else None
            cats = {str(one["classname"]): 1.0 for one in row.get("classifications") or ()} or None
        except (KeyError, TypeError, ValueError) as error:
            raise error if isinstance(error, UserError) else UserError(f"{where}: {error}") from None
        yield Record(text, where, cats=cats, cats_complete=True, entities=entities, extra=source.group(row))


def is_manifest(source: Source) -> bool:
    """Whether the rows are of a manifest of SageMaker Ground Truth."""
    keys = source.key_values()
    return isinstance(keys.get("source"), str) and any(key.endswith("-metadata") for key in keys)


def read_manifest(source: Source, report: Report) -> Iterator[Record]:
    """Read a manifest: text spans, and classes with one label or several.

    Raises:
        UserError: A row has another shape.
    """
    for where, row in source.rows():
        try:
            yield _manifest_record(row, where, report, source)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise error if isinstance(error, UserError) else UserError(f"{where}: {error}") from None


def _manifest_record(row: Dict[str, Any], where: str, report: Report, source: Source) -> Record:
    text = row["source"]
    record = Record(text, where, cats_complete=True, extra=source.group(row))
    for key, about in row.items():
        job = key.removesuffix("-metadata")
        if key == job or job not in row:
            continue
        value = row[job]
        if isinstance(value, dict) and "annotations" in value:
            items = value["annotations"]["entities"]
            record.entities = read_entities(items, text, where, report, source.reading)
        else:
            cats: Optional[Dict[str, float]] = None
            if isinstance(about.get("class-map"), dict):
                cats = {str(name): 1.0 for name in about["class-map"].values()}
            elif about.get("class-name") is not None:
                cats = {str(about["class-name"]): 1.0}
            record.cats = {**(record.cats or {}), **cats} if cats else record.cats
    return record
