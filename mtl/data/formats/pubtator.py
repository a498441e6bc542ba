"""PubTator files: `id|t|title`, `id|a|abstract`, then `id <tab> start <tab> end <tab> mention <tab> type ...` per mention."""

from typing import Iterator, List

from mtl.data.formats.source import Source
from mtl.data.records import Entity, Lines, Record, Report, numbered_lines
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
    path = str(source.path)
    block: Lines = []
    for number, line in numbered_lines(path) + [(0, "")]:
        if line.strip():
            block.append((number, line))
        elif block:
            yield _pubtator_record(path, block, report)
            block = []


def _pubtator_record(path: str, block: Lines, report: Report) -> Record:
    """The document of the lines between two blank lines."""
    parts: List[str] = []
    entities: List[Entity] = []
    where = f"{path}, line {block[0][0]}"
    for number, line in block:
        head = line.split("|", 2)
        if len(head) == 3 and head[1] in ("t", "a"):
            parts.append(head[2])
            continue
        fields = line.split("\t")
        if len(fields) == 4:
            report.count("relations left out")
            continue
        if len(fields) < 5 or not (fields[1].isdigit() and fields[2].isdigit()):
            raise UserError(f"{path}, line {number}: not a PubTator line: {line[:60]!r}")
        start, end, mention, label = int(fields[1]), int(fields[2]), fields[3], fields[4]
        text = " ".join(parts)
        if text[start:end] != mention:
            raise UserError(
                f"{path}, line {number}: the mention is {mention!r}, but the text at {start}:{end} is {text[start:end]!r}"
            )
        entities.append(Entity(start, end, label))
    if not parts:
        raise UserError(f"{where}: mentions without a title or abstract line")
    return Record(" ".join(parts), where, entities=entities)
