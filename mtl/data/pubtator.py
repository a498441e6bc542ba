"""PubTator: `id|t|title`, `id|a|abstract`, then `id <tab> start <tab> end <tab> mention <tab> type ...` a mention."""

from typing import Iterator, List

from mtl.data.records import Entity, Lines, Record, Report, numbered_lines
from mtl.errors import UserError


def read_pubtator(path: str, report: Report) -> Iterator[Record]:
    """Read a PubTator file; title and abstract become one text with a blank between, as the offsets count them.

    Relation lines (four fields) are counted and left out. Mentions that lie inside another are left out and reported.
    RAISES (UserError): a malformed line, or a mention that is not the text at its offsets.
    """
    block: Lines = []
    for number, line in numbered_lines(path) + [(0, "")]:
        if line.strip():
            block.append((number, line))
        elif block:
            yield _document(path, block, report)
            block = []


def _document(path: str, block: Lines, report: Report) -> Record:
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
        if " ".join(parts)[start:end] != mention:
            raise UserError(
                f"{path}, line {number}: the mention is {mention!r}, but the text at {start}:{end} is "
                f"{' '.join(parts)[start:end]!r}"
            )
        entities.append(Entity(start, end, label))
    if not parts:
        raise UserError(f"{where}: mentions without a title or abstract line")
    return Record(" ".join(parts), where, entities=entities)
