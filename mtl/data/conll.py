"""CoNLL and IOB: one token a line, the tag in the last column, a blank line between sentences.

IOB1 (CoNLL-2003: B- only between adjacent entities of one type), IOB2 (every entity starts with B-) and BIOES (also BILUO)
are told apart by what the file holds.
"""

from typing import Iterator, List, Set, Tuple

from mtl.data.records import Entity, Lines, Record, Report, numbered_lines
from mtl.errors import UserError

Rows = List[Tuple[int, str, str]]  # line, token, tag
STARTS, ENDS = "BSU", "ELSU"


def read_conll(path: str, report: Report) -> Iterator[Record]:
    """Read a CoNLL or IOB file; sentences between `-DOCSTART-` lines become one document, else each is one.

    RAISES (UserError): a row without a tag, an unknown prefix, or a tag that cannot follow the one before it.
    """
    lines = numbered_lines(path)
    documents = list(_documents(lines))
    sentences = [_rows(path, sentence) for document in documents for sentence in document]
    scheme = _scheme(sentences)
    report.count(f"sentences read as {scheme}", len(sentences))
    for document in documents:
        yield _record(path, [_rows(path, sentence) for sentence in document], scheme)


def _documents(lines: Lines) -> Iterator[List[Lines]]:
    with_marks = any(line.startswith("-DOCSTART-") for _, line in lines)
    document: List[Lines] = []
    sentence: Lines = []
    for number, line in lines + [(0, "")]:
        mark = line.startswith("-DOCSTART-")
        if line.strip() and not mark:
            if not (line.startswith("# ") and line.split()[-1][:2] not in ("O", "B-", "I-")):
                sentence.append((number, line))
            continue
        if sentence:
            document.append(sentence)
            sentence = []
        if document and (mark or not with_marks or number == 0):
            yield document
            document = []


def _rows(path: str, sentence: Lines) -> Rows:
    rows = []
    for number, line in sentence:
        fields = line.split("\t") if "\t" in line else line.split()
        fields = [field.strip() for field in fields]
        if len(fields) < 2 or not fields[-1]:
            raise UserError(f"{path}, line {number}: a token and a tag are needed, got {line!r}")
        tag = fields[-1]
        if tag != "O" and (tag[:2] not in {"B-", "I-", "E-", "S-", "L-", "U-"} or len(tag) < 3):
            raise UserError(f"{path}, line {number}: {tag!r} is no IOB tag; allowed: O, B-X, I-X (and E-, S-, L-, U-)")
        rows.append((number, fields[0], tag))
    return rows


def _scheme(sentences: List[Rows]) -> str:
    prefixes: Set[str] = {tag[0] for rows in sentences for _, _, tag in rows}
    if prefixes & set("ESLU"):
        return "BIOES"
    for rows in sentences:
        previous = "O"
        for _, _, tag in rows:
            starts = previous == "O" or previous[2:] != tag[2:]
            if tag[0] == "B" and starts:
                return "IOB2"
            previous = tag
    return "IOB1" if "I" in prefixes else "IOB2"


def _record(path: str, sentences: List[Rows], scheme: str) -> Record:
    words: List[str] = []
    entities: List[Entity] = []
    offset = 0
    for rows in sentences:
        previous = "O"
        for number, word, tag in rows:
            _check_transition(f"{path}, line {number}", previous, tag, scheme)
            if tag != "O":
                if _opens(previous, tag, scheme):
                    entities.append(Entity(offset, offset + len(word), tag[2:]))
                else:
                    entities[-1].end = offset + len(word)
            words.append(word)
            offset += len(word) + 1
            previous = tag
        if scheme == "BIOES" and previous[0] in "BI":
            raise UserError(f"{path}, line {rows[-1][0]}: {previous!r} ends the sentence, but its entity is not closed")
    return Record(" ".join(words), f"{path}, line {sentences[0][0][0]}", entities=entities)


def _opens(previous: str, tag: str, scheme: str) -> bool:
    if scheme == "IOB1":
        return tag[0] == "B" or previous == "O" or previous[2:] != tag[2:]
    return tag[0] in STARTS


def _check_transition(where: str, previous: str, tag: str, scheme: str) -> None:
    if scheme == "IOB1":
        return
    inside = previous[0] in "BI"
    continues = tag != "O" and tag[0] not in STARTS
    if continues and not (inside and previous[2:] == tag[2:]):
        raise UserError(f"{where}: {tag!r} cannot follow {previous!r}: an entity starts with B-{tag[2:]}")
    if scheme == "BIOES" and inside and not continues:
        raise UserError(f"{where}: {tag!r} cannot follow {previous!r}: the entity before it is not closed")
