"""CoNLL and IOB files: one token per line, its tag in the last column, a blank line between sentences.

IOB1 (CoNLL-2003: B- only between adjacent entities of the same type), IOB2 (every entity starts with B-) and BIOES (also written
BILUO) are told apart by the tags in the file.
"""

import re
from typing import Iterator, List, Set, Tuple

from mtl.data.records import Entity, Lines, Record, Report, numbered_lines
from mtl.errors import UserError

TaggedTokens = List[Tuple[int, str, str]]  # line number, token, tag
START_PREFIXES = "BSU"
PREFIXES = {"B-", "I-", "E-", "S-", "L-", "U-"}


def read_conll(path: str, report: Report) -> Iterator[Record]:
    """Read a CoNLL or IOB file.

    The sentences between two `-DOCSTART-` lines become one document. Without such lines, every sentence is a document.

    Args:
        path (str): The file.
        report (Report): Counts the sentences by tagging scheme.

    Raises:
        UserError: A row has no tag, a prefix is unknown, or a tag cannot follow the one before it.
    """
    lines = numbered_lines(path)
    documents = list(_documents(lines))
    sentences = [_tagged_tokens(path, sentence) for document in documents for sentence in document]
    scheme = _scheme(sentences)
    report.count(f"sentences read as {scheme}", len(sentences))
    for document in documents:
        yield _conll_record(path, [_tagged_tokens(path, sentence) for sentence in document], scheme)


def _documents(lines: Lines) -> Iterator[List[Lines]]:
    """Documents as lists of sentences, without comments and blank lines."""
    has_marks = any(line.startswith("-DOCSTART-") for _, line in lines)
    document: List[Lines] = []
    sentence: Lines = []
    for number, line in lines + [(0, "")]:
        is_mark = line.startswith("-DOCSTART-")
        if line.strip(" \t") and not is_mark:
            if not (line.startswith("# ") and line.split()[-1][:2] not in ("O", "B-", "I-")):
                sentence.append((number, line))
            continue
        if sentence:
            document.append(sentence)
            sentence = []
        if document and (is_mark or not has_marks or number == 0):
            yield document
            document = []


def _tagged_tokens(path: str, sentence: Lines) -> TaggedTokens:
    """The first and the last column of each line."""
    rows = []
    for number, line in sentence:
        # Other blanks, such as a no-break space, are part of the token.
        fields = [field.strip(" ") for field in (line.split("\t") if "\t" in line else re.split(" +", line.strip(" ")))]
        if len(fields) < 2 or not fields[-1]:
            raise UserError(f"{path}, line {number}: a token and a tag are needed, got {line!r}")
        tag = fields[-1]
        if tag != "O" and (tag[:2] not in PREFIXES or len(tag) < 3):
            raise UserError(f"{path}, line {number}: {tag!r} is not an IOB tag; allowed: O, B-X, I-X (and E-, S-, L-, U-)")
        rows.append((number, fields[0], tag))
    return rows


def _scheme(sentences: List[TaggedTokens]) -> str:
    """Which scheme the tags of the whole file follow."""
    prefixes: Set[str] = {tag[0] for rows in sentences for _, _, tag in rows}
    if prefixes & set("ESLU"):
        return "BIOES"
    for rows in sentences:
        previous = "O"
        for _, _, tag in rows:
            starts_entity = previous == "O" or previous[2:] != tag[2:]
            if tag[0] == "B" and starts_entity:
                return "IOB2"
            previous = tag
    return "IOB1" if "I" in prefixes else "IOB2"


def _conll_record(path: str, sentences: List[TaggedTokens], scheme: str) -> Record:
    """A document of the sentences' tokens, joined by spaces."""
    words: List[str] = []
    entities: List[Entity] = []
    offset = 0
    for rows in sentences:
        previous = "O"
        for number, word, tag in rows:
            _check_transition(f"{path}, line {number}", previous, tag, scheme)
            if tag != "O":
                if _opens_entity(previous, tag, scheme):
                    entities.append(Entity(offset, offset + len(word), tag[2:]))
                else:
                    entities[-1].end = offset + len(word)
            words.append(word)
            offset += len(word) + 1
            previous = tag
        if scheme == "BIOES" and previous[0] in "BI":
            raise UserError(f"{path}, line {rows[-1][0]}: {previous!r} ends the sentence, but its entity is not closed")
    return Record(" ".join(words), f"{path}, line {sentences[0][0][0]}", entities=entities)


def _opens_entity(previous: str, tag: str, scheme: str) -> bool:
    """Whether the tag begins an entity."""
    if scheme == "IOB1":
        return tag[0] == "B" or previous == "O" or previous[2:] != tag[2:]
    return tag[0] in START_PREFIXES


def _check_transition(where: str, previous: str, tag: str, scheme: str) -> None:
    """Check that a tag can follow the previous one."""
    if scheme == "IOB1":
        return
    is_inside = previous[0] in "BI"
    continues = tag != "O" and tag[0] not in START_PREFIXES
    if continues and not (is_inside and previous[2:] == tag[2:]):
        raise UserError(f"{where}: {tag!r} cannot follow {previous!r}: an entity starts with B-{tag[2:]}")
    if scheme == "BIOES" and is_inside and not continues:
        raise UserError(f"{where}: {tag!r} cannot follow {previous!r}: the entity before it is not closed")
