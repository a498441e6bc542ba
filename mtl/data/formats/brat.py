"""brat's standoff format: a folder of .txt files with .ann files beside them, or one of these."""

from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List, Tuple, Union

from mtl.data.formats.source import Source
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError

OTHER_LINES = {"R": "relations", "*": "equivalences", "E": "events", "N": "normalizations", "#": "notes"}


def is_brat(source: Source) -> bool:
    """Whether there is an .ann file: the path itself, beside it, or in the folder."""
    path = source.path
    return any(path.rglob("*.ann")) if path.is_dir() else path.suffix == ".ann" or path.with_suffix(".ann").is_file()


def read_brat(source: Source, report: Report) -> Iterator[Record]:
    """Read all documents of a folder, or one.

    Raises:
        UserError: A text or its annotation is missing, a line is malformed, or a mention is not at its offsets.
    """
    path = source.path
    files = sorted(path.rglob("*.ann")) if path.is_dir() else [path.with_suffix(".ann")]
    without = [text for text in sorted(path.rglob("*.txt")) if not text.with_suffix(".ann").exists()] if path.is_dir() else []
    if without:
        report.count("texts left out because they have no .ann file", len(without))
    for file in files:
        yield _record(file, report)


def _record(file: Path, report: Report) -> Record:
    text_file = file.with_suffix(".txt")
    if not text_file.is_file():
        raise UserError(f"{file}: there is no {text_file.name} beside it")
    try:
        with text_file.open(encoding="utf-8-sig", newline="") as opened:  # offsets count line ends as they are
            text = opened.read()
        content = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: it or {text_file.name} is not UTF-8 ({error}); save both as UTF-8") from None
    entities: Dict[str, Entity] = {}
    attributes: Dict[str, Dict[str, Union[bool, str]]] = {}
    left_out: Counter = Counter()
    for number, line in enumerate(content.split("\n"), start=1):
        where = f"{file}, line {number}"
        if line.startswith("T"):
            name, entity = _entity(line, text, where, report)
            entities[name] = entity
        elif line[:1] in ("A", "M"):
            target, key, value = _attribute(line, where)
            attributes.setdefault(target, {})[key] = value
        elif line.strip():
            left_out[OTHER_LINES.get(line[0], "other lines")] += 1
    for what, count in left_out.items():
        report.count(f"{what} left out", count)
    if attributes:
        for name, entity in entities.items():
            entity.attributes = attributes.get(name, {})
    return Record(text, str(text_file), entities=list(entities.values()))


def _entity(line: str, text: str, where: str, report: Report) -> Tuple[str, Entity]:
    try:
        name, middle, *mention = line.split("\t")
        label, places = middle.split(" ", 1)
        pairs: List[List[int]] = [[int(part) for part in place.split()] for place in places.split(";")]
        start, end = min(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
    except (ValueError, IndexError):
        raise UserError(f"{where}: not a line of brat's: {line[:60]!r}") from None
    if len(pairs) > 1:
        report.count("discontinuous mentions, read from their first to their last character")
    elif mention and text[start:end].split() != mention[0].split():  # brat writes line ends as spaces
        raise UserError(f"{where}: the mention is {mention[0]!r}, but the text at {start}:{end} is {text[start:end]!r}")
    return name, Entity(start, end, label)


def _attribute(line: str, where: str) -> Tuple[str, str, Union[bool, str]]:
    fields = line.split("\t")[-1].split()
    if len(fields) not in (2, 3):
        raise UserError(f"{where}: not an attribute of brat's: {line[:60]!r}")
    return fields[1], fields[0], fields[2] if len(fields) == 3 else True
