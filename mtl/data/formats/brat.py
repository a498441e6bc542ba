"""brat's standoff format: a folder of .txt files with .ann files beside them, or one of these."""

import re
from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple, Union

from mtl.data.formats.mentions import place_mention
from mtl.data.formats.reading import Reading
from mtl.data.formats.source import Source
from mtl.data.formats.unpack import files_in
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError

MENTION = re.compile(r"^T\d+\t\S+ (\d+) (\d+)\t(.*?)\r?$", re.M)
OTHER_LINES = {"R": "relations", "*": "equivalences", "E": "events", "N": "normalizations", "#": "notes"}


def is_brat(source: Source) -> bool:
    """Whether there is an .ann file: the path itself, beside it, or in the folder."""
    path = source.path
    return (
        any(path.rglob("*.ann"))
        if path.is_dir()
        else path.suffix == ".ann" or (path.suffix == ".txt" and path.with_suffix(".ann").is_file())
    )


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
    others = [file for file in files_in(path) if file.suffix not in (".txt", ".ann", ".conf")] if path.is_dir() else []
    if others:
        report.note("files of other formats left out", f"{others[0]}: is beside files of brat's, and is left out")
    for file in files:
        yield _record(file, report, source.reading)


def _record(file: Path, report: Report, reading: Reading) -> Record:
    if not file.is_file():
        raise UserError(f"{file}: no such file; brat's annotation is in a file of that name")
    text_file = file.with_suffix(".txt")
    if not text_file.is_file():
        raise UserError(f"{file}: there is no {text_file.name} beside it")
    try:
        encoding = "utf-8-sig" if reading.encoding == "utf-8" else reading.encoding
        with text_file.open(encoding=encoding, newline="") as opened:  # offsets count line ends as they are
            text = opened.read()
        content = file.read_text(encoding=encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}: it or {text_file.name} is not {reading.encoding} ({error}); save both as UTF-8, or name their --encoding"
        ) from None
    text = _counted(text, content)
    entities: Dict[str, Entity] = {}
    attributes: Dict[str, Dict[str, Union[bool, str]]] = {}
    left_out: Counter = Counter()
    for number, line in enumerate(content.split("\n"), start=1):
        where = f"{file}, line {number}"
        if line.startswith("T"):
            name, entity = _entity(line, text, where, report, reading)
            if name in entities:
                raise UserError(f"{where}: {name} is there twice")
            if entity is not None:
                entities[name] = entity
        elif line[:1] in ("A", "M"):
            target, key, value = _attribute(line, where)
            if target.startswith("T"):
                attributes.setdefault(target, {})[key] = value
            else:
                left_out["attributes of events and relations"] += 1
        elif line.strip():
            left_out[OTHER_LINES.get(line[0], "other lines")] += 1
    for what, count in left_out.items():
        report.count(f"{what} left out", count)
    if attributes:
        for name, entity in entities.items():
            entity.attributes = attributes.get(name, {})
    return Record(text, str(text_file), entities=list(entities.values()))


def _counted(text: str, content: str) -> str:
    """The text as the offsets count it: some tools count a line end of two characters as one."""
    short = text.replace("\r\n", "\n")
    mentions = [(int(start), int(end), mention) for start, end, mention in MENTION.findall(content)]
    fitting = [sum(one[start:end] == mention for start, end, mention in mentions) for one in (text, short)]
    return short if fitting[1] > fitting[0] else text


def _entity(line: str, text: str, where: str, report: Report, reading: Reading) -> Tuple[str, Optional[Entity]]:
    try:
        name, middle, *mention = line.split("\t")
        label, places = middle.split(" ", 1)
        pairs: List[List[int]] = [[int(part) for part in place.split()] for place in places.split(";")]
        start, end = min(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
    except (ValueError, IndexError):
        raise UserError(f"{where}: not a line of brat's: {line[:60]!r}") from None
    if len(pairs) > 1:
        report.count("discontinuous mentions, read from their first to their last character")
        return name, Entity(start, end, label)
    place = place_mention(text, start, end, mention[0] if mention else None, where, report, reading)
    return name, None if place is None else Entity(*place, label)


def _attribute(line: str, where: str) -> Tuple[str, str, Union[bool, str]]:
    fields = line.split("\t")[-1].split()
    if len(fields) not in (2, 3):
        raise UserError(f"{where}: not an attribute of brat's: {line[:60]!r}")
    return fields[1], fields[0], fields[2] if len(fields) == 3 else True
