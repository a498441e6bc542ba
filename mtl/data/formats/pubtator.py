"""PubTator files: `id|t|title`, `id|a|abstract`, then `id <tab> start <tab> end <tab> mention <tab> type ...` per mention."""

from itertools import chain
from typing import Iterator, List, Tuple

from mtl.data.formats.mentions import place_mention
from mtl.data.formats.source import Source
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError


def is_pubtator(source: Source) -> bool:
    """Whether the first line is a title or an abstract."""
    fields = source.first_line.split("|", 2) if source.kind == "text" else []
    return len(fields) == 3 and fields[1] in ("t", "a")


def read_pubtator(source: Source, report: Report) -> Iterator[Record]:
    """Read a PubTator file.

    Title and abstract become one text, joined by a space, as the offsets count them. Relation lines (four fields) are left out
    and counted. Mentions inside another one are read, and left out when the Doc is made.

    Args:
        source (Source): The file.
        report (Report): Counts the relations.

    Raises:
        UserError: A line is malformed, or a mention is not the text at its offsets.
    """
    block: List[Tuple[int, str]] = []
    for number, line in chain(source.lines(), [(0, "")]):
        head = line.split("|", 2)
        if block and len(head) == 3 and head[1] == "t" and any("|t|" in earlier for _, earlier in block):  # no blank line between
            yield _pubtator_record(source, block, report)
            block = []
        if line.strip():
            block.append((number, line))
        elif block:
            yield _pubtator_record(source, block, report)
            block = []


def _pubtator_record(source: Source, block: List[Tuple[int, str]], report: Report) -> Record:
    """The document of the lines between two blank lines."""
    parts: List[str] = []
    entities: List[Entity] = []
    path = source.path
    where = f"{path}, line {block[0][0]}"
    name = block[0][1].split("|", 1)[0].strip()
    for number, line in block:
        head = line.split("|", 2)
        if len(head) == 3 and head[1] in ("t", "a"):
            parts.append(head[2])
            continue
        fields = line.split("\t")
        if len(fields) >= 4 and not fields[1].isdecimal():
            report.count("relations left out")
            continue
        if len(fields) < 5 or not (fields[1].isdecimal() and fields[2].isdecimal()):
            raise UserError(f"{path}, line {number}: not a PubTator line: {line[:60]!r}")
        if fields[0].strip() != name:
            raise UserError(f"{path}, line {number}: a mention of the document {fields[0]!r} in that of {name!r}")
        start, end, mention, label = int(fields[1]), int(fields[2]), fields[3], fields[4]
        place = place_mention(" ".join(parts), start, end, mention, f"{path}, line {number}", report, source.reading)
        if place is not None:
            entities.append(Entity(*place, label))
    if not parts:
        raise UserError(f"{where}: mentions without a title or abstract line")
    return Record(" ".join(parts), where, entities=entities)
