"""CoNLL and IOB files: one token per line, its tag in the last column, a blank line between sentences.

IOB1 (CoNLL-2003: B- only between adjacent entities of the same type), IOB2 (every entity starts with B-), BIOES (also written
BILUO) and IO (types without prefixes) are told apart by the tags in the file.
"""

import re
from itertools import islice
from typing import Iterable, Iterator, List, Optional, Sequence, Set, Tuple, TypeVar

from mtl.data.formats.source import Source
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError

T = TypeVar("T")
Lines = List[Tuple[int, str]]  # line number from 1, text
Token = Tuple[int, str, str]  # line number, token, tag
TaggedToken = Tuple[str, int, int, str]  # where it is in the file, first character, character after the last, tag
START_PREFIXES = "BSU"
PREFIXES = {"B-", "I-", "E-", "S-", "L-", "U-"}
MAX_TOKENS = 1000  # of a document, if there is a place to cut it at
MAX_TYPES = 60  # of entities in tags without prefixes; more are something else
SAMPLED_TOKENS = 200  # looked at to find the columns
CHUNKS = {"NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP"}  # of CoNLL-2000
UNTYPED = "ENTITY"  # the type of tags that have none
LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]+)*:")
SENTENCE_ENDS = frozenset(".!?")


def is_conll(source: Source) -> bool:
    """Whether the file begins with a mark of a document, or its first sentences have a column of IOB tags."""
    if source.kind != "text":
        return False
    if source.first_line.startswith("-DOCSTART-") or "tag" in source.columns:
        return True
    rows = _sampled(source)
    return bool(_tag_columns(rows)) or _has_types(rows)


def read_conll(source: Source, report: Report) -> Iterator[Record]:
    """Read a CoNLL or IOB file.

    The sentences between two `-DOCSTART-` lines become one document, which is cut between sentences if it is long. Without such
    lines, every sentence is a document, or so many as the reading says. A sentence that is far too long, such as a file without
    blank lines, is cut behind a full stop.

    Args:
        source (Source): The file. Its columns "text" and "tag" are numbers of columns, from 1; by default the first that is no
            number and no name of a file, and the last with IOB tags.
        report (Report): Counts the sentences by tagging scheme.

    Raises:
        UserError: A row has no tag, a prefix is unknown, or a tag cannot follow the one before it.
    """
    path, columns = str(source.path), _columns(source, report)
    documents = [
        [_tokens(path, sentence, *columns) for sentence in document]
        for document in _documents(list(source.lines()), source.reading.sentences)
    ]
    scheme = scheme_of(tag for document in documents for sentence in document for _, _, tag in [*sentence, (0, "", "O")])
    if scheme == "IO":
        _check_types(path, documents)
    _remove_language(documents, report)
    report.count(f"sentences read as {scheme}", sum(map(len, documents)))
    for document in documents:
        for part in cut([piece for sentence in document for piece in _cut_sentence(sentence, report)], report):
            yield _record(path, part, scheme, report, "tags" in source.reading.repair)


def plain_tag(tag: str) -> str:
    """A tag as IOB writes it: "B_PER", "b-PER" and "B" mean "B-PER", "B-PER" and "B-ENTITY"."""
    if tag in ("O", "o", "_", "0"):
        return "O"
    if tag in ("B", "I", "E", "S", "L", "U"):
        return f"{tag}-{UNTYPED}"
    if tag[1:2] in ("_", "-") and tag[0].upper() in "BIESLU" and len(tag) > 2:
        return f"{tag[0].upper()}-{tag[2:]}"
    return tag


def tag_prefix(tag: str) -> str:
    """The prefix of an IOB tag; "" if it has none."""
    return tag[:2] if tag[:2] in PREFIXES and len(tag) > 2 else ""


def _sampled(source: Source) -> List[List[str]]:
    """The fields of the first tokens."""
    lines = islice((line for _, line in source.lines() if line.strip() and not _is_comment(line)), SAMPLED_TOKENS)
    return [list(map(plain_tag, _fields(line))) for line in lines if not line.startswith("-DOCSTART-")]


def _tag_columns(rows: List[List[str]]) -> List[int]:
    """The columns that hold IOB tags, those of chunks only if there are no others."""
    width = min(map(len, rows), default=0)
    if width < 2:
        return []
    found = [
        i for i in range(width)
        if all(row[i] == "O" or tag_prefix(row[i]) for row in rows) and (any(row[i] != "O" for row in rows) or i == width - 1)
    ]  # fmt: skip
    return [i for i in found if not {row[i][2:] for row in rows} - {""} <= CHUNKS] or found


def _has_types(rows: List[List[str]]) -> bool:
    """Whether the last column looks like types without prefixes: mostly O, and few others."""
    tags = [row[-1] for row in rows]
    types = {tag for tag in tags if tag != "O"}
    is_even = len({len(row) for row in rows}) == 1 and all(len(row) > 1 for row in rows)
    return is_even and 2 * tags.count("O") > len(tags) and len(types) <= max(1, len(tags) // 5)


def _columns(source: Source, report: Report) -> Tuple[int, int]:
    """The columns of the token and the tag, from 0; -1 for the last."""
    given = [source.columns.get(key, "") for key in ("text", "tag")]
    if not given[0].isdecimal():
        given[0] = ""  # the name of a column of another file
    if given[1] and not (given[1].isdecimal() and int(given[1]) > 0):
        raise UserError(f"{source.path}: --column tag={given[1]}: give the number of the column, from 1")
    source.found |= {key for key, value in zip(("text", "tag"), given) if value}
    rows = _sampled(source)
    width = min(map(len, rows), default=2)
    tags = _tag_columns(rows)
    tag = int(given[1]) - 1 if given[1] else tags[-1] if tags else width - 1
    if not given[1] and len(tags) > 1 and _is_nested(rows, tags[-2], tags[-1]):
        tag = tags[-2]
    tokens = [i for i in range(width) if i != tag and not _is_number_or_name(rows, i)]
    token = int(given[0]) - 1 if given[0] else tokens[0] if tokens else 0
    if rows and (token, tag) not in ((0, width - 1), (0, 1)):
        report.notes.append(f"{source.path}: read the token in column {token + 1}, the tag in column {tag + 1}")
    return token, -1 if tag == width - 1 and not given[1] else tag


def _is_nested(rows: List[List[str]], outer: int, inner: int) -> bool:
    """Whether the entities of one column are all inside those of another, as in GermEval 2014."""
    return all(row[outer] != "O" for row in rows if row[inner] != "O")


def _is_number_or_name(rows: List[List[str]], column: int) -> bool:
    """Whether a column numbers the tokens, or is the same in all of them."""
    values = [row[column] for row in rows]
    return len(rows) > 1 and (
        all(value.isdigit() or value == "O" for value in values) or (len(set(values)) == 1 and len(rows) > 3)
    )


def _check_types(path: str, documents: List[List[List[Token]]]) -> None:
    """Check that tags without prefixes look like types of entities.

    Raises:
        UserError: They look like something else.
    """
    tags = [tag for document in documents for sentence in document for *_, tag in sentence]
    types = sorted(set(tags) - {"O"})
    if "O" not in tags or len(types) > MAX_TYPES:
        shown = ", ".join(map(repr, types[:5]))
        raise UserError(
            f"{path}: the tags, such as {shown}, look like no types of entities: {len(types)} kinds in {len(tags):,} tokens"
            f"{'' if 'O' in tags else ', and none is O'}. Name the column with the tags: --column tag=2"
        )


def _remove_language(documents: List[List[List[Token]]], report: Report) -> None:
    """Remove the language from tokens such as "en:Oslo", if all have the same, as in WikiAnn."""
    tokens = [row for document in documents for sentence in document for row in sentence]
    prefix = (LANGUAGE.match(tokens[0][1]) or [""])[0] if tokens else ""
    if not prefix or not all(word.startswith(prefix) for _, word, _ in tokens):
        return
    report.count(f"tokens whose {prefix!r} was removed", len(tokens))
    for sentence in (sentence for document in documents for sentence in document):
        sentence[:] = [(number, word[len(prefix) :] or word, tag) for number, word, tag in sentence]


def _is_comment(line: str) -> bool:
    """Whether a line is none of a token: `# ...`, or `###MEDLINE:...` of GENIA; "#" may be a token."""
    return line.startswith(("# ", "#\t", "###")) and not (_fields(line)[-1] == "O" or tag_prefix(_fields(line)[-1]))


def _fields(line: str) -> List[str]:
    """The columns of a line. Other blanks, such as a no-break space, are part of the token."""
    return [field.strip(" ") for field in (line.split("\t") if "\t" in line else re.split(" +", line.strip(" ")))]


def _documents(lines: Lines, size: int) -> Iterator[List[Lines]]:
    """Documents as lists of sentences, without comments and blank lines: `size` sentences in a file without marks."""
    has_marks = any(line.startswith("-DOCSTART-") for _, line in lines)
    document: List[Lines] = []
    sentence: Lines = []
    for number, line in lines + [(0, "")]:
        is_mark = line.startswith("-DOCSTART-")
        if line.strip(" \t") and not is_mark:
            if not _is_comment(line):
                sentence.append((number, line))
            continue
        if sentence:
            document.append(sentence)
            sentence = []
        if document and (is_mark or number == 0 or (not has_marks and len(document) == size)):
            yield document
            document = []


def _tokens(path: str, sentence: Lines, token: int, tag: int) -> List[Token]:
    """The two columns of each line."""
    rows = []
    for number, line in sentence:
        fields = _fields(line)
        if len(fields) < 2 or max(token, tag) >= len(fields) or not fields[tag]:
            raise UserError(f"{path}, line {number}: a token and a tag are needed, got {line!r}")
        rows.append((number, fields[token], plain_tag(fields[tag])))
    return rows


def _cut_sentence(sentence: List[Token], report: Report) -> Iterator[List[Token]]:
    """The sentence, in parts if it is longer than `MAX_TOKENS`: cut where a token outside entities follows a full stop."""
    start = 0
    for i, (_, _, tag) in enumerate(sentence):
        is_end = i > start and sentence[i - 1][1] in SENTENCE_ENDS
        if len(sentence) > MAX_TOKENS and tag == "O" and (is_end or i - start >= MAX_TOKENS):
            yield sentence[start:i]
            start = i
    if start:
        report.count(f"sentences of more than {MAX_TOKENS:,} tokens, cut behind full stops")
    yield sentence[start:]


def cut(document: List[List[T]], report: Report) -> Iterator[List[List[T]]]:
    """The document in parts of at most `MAX_TOKENS`, or of one sentence."""
    part: List[List[T]] = []
    size = parts = 0
    for sentence in document:
        if part and size + len(sentence) > MAX_TOKENS:
            yield part
            part, size, parts = [], 0, parts + 1
        part.append(sentence)
        size += len(sentence)
    yield part
    if parts:
        report.count(f"documents of more than {MAX_TOKENS:,} tokens, cut between sentences")


def _record(path: str, sentences: List[List[Token]], scheme: str, report: Report, repairs: bool) -> Record:
    """A document of the sentences' tokens, joined by spaces."""
    words: List[str] = []
    entities: List[Entity] = []
    offset = 0
    for sentence in sentences:
        rows: List[TaggedToken] = []
        for number, word, tag in sentence:
            rows.append((f"{path}, line {number}", offset, offset + len(word), tag))
            words.append(word)
            offset += len(word) + 1
        entities += tagged_entities(rows, scheme, report if repairs else None)
    return Record(" ".join(words), f"{path}, line {sentences[0][0][0]}", entities=entities)


def scheme_of(tags: Iterable[str]) -> str:
    """Which scheme tags follow; an "O" is between sentences."""
    found = list(tags)
    prefixes: Set[str] = {tag[0] for tag in found if tag[:2] in PREFIXES}
    if not prefixes:
        return "IO" if any(tag != "O" for tag in found) else "IOB2"
    if prefixes & set("ESLU"):
        return "BIOES"
    previous = "O"
    for tag in found:
        starts_entity = previous == "O" or previous[2:] != tag[2:]
        if tag[0] == "B" and starts_entity:
            return "IOB2"
        previous = tag
    return "IOB1" if "I" in prefixes else "IOB2"


def tagged_entities(rows: Sequence[TaggedToken], scheme: Optional[str] = None, repaired: Optional[Report] = None) -> List[Entity]:
    """The entities of tagged tokens, of which no entity goes on before or after.

    Args:
        rows (Sequence[TaggedToken]): The tokens.
        scheme (Optional[str]): What `scheme_of` returned for the whole file; None to find it out.
        repaired (Optional[Report]): Repair a tag that cannot follow the one before it, and count that here: it begins an entity,
            or the one before it ends. None to refuse it.

    Raises:
        UserError: A prefix is unknown, or a tag cannot follow the one before it.
    """
    scheme = scheme or scheme_of(tag for *_, tag in rows)
    entities: List[Entity] = []
    previous = "O"
    for where, start, end, tag in rows:
        tag = f"I-{tag}" if scheme == "IO" and tag != "O" else tag
        if tag != "O" and (tag[:2] not in PREFIXES or len(tag) < 3):
            raise UserError(f"{where}: {tag!r} is not an IOB tag; allowed: O, B-X, I-X (and E-, S-, L-, U-)")
        fault = _transition_fault(previous, tag, scheme)
        if fault and repaired is None:
            raise UserError(f"{where}: {fault}. Correct it, or let it begin or end an entity: --repair tags")
        if fault and repaired is not None:
            repaired.note("tags repaired, which could not follow the one before", f"{where}: {fault}")
        if tag != "O":
            continues = previous[0] in "BI" and previous[2:] == tag[2:]
            if _opens_entity(previous, tag, scheme) or (fault and not continues):
                entities.append(Entity(start, end, tag[2:]))
            else:
                entities[-1].end = end
        previous = tag
    if scheme == "BIOES" and previous[0] in "BI":
        fault = f"{previous!r} ends the sentence, but its entity is not closed"
        if repaired is None:
            raise UserError(f"{rows[-1][0]}: {fault}. Correct it, or let the entity end there: --repair tags")
        repaired.note("tags repaired, which could not follow the one before", f"{rows[-1][0]}: {fault}")
    return entities


def _opens_entity(previous: str, tag: str, scheme: str) -> bool:
    """Whether the tag begins an entity."""
    if scheme in ("IOB1", "IO"):
        return tag[0] == "B" or previous == "O" or previous[2:] != tag[2:]
    return tag[0] in START_PREFIXES


def _transition_fault(previous: str, tag: str, scheme: str) -> str:
    """Why a tag cannot follow the previous one; "" if it can."""
    if scheme in ("IOB1", "IO"):
        return ""
    is_inside = previous[0] in "BI"
    continues = tag != "O" and tag[0] not in START_PREFIXES
    if continues and not (is_inside and previous[2:] == tag[2:]):
        return f"{tag!r} cannot follow {previous!r}: an entity starts with B-{tag[2:]}"
    if scheme == "BIOES" and is_inside and not continues:
        return f"{tag!r} cannot follow {previous!r}: the entity before it is not closed"
    return ""
