"""CoNLL-U (https://universaldependencies.org/format.html) with entities as IOB tags in the last column, as in `NER=B-PER`."""

import re
from typing import Dict, Iterator, List, Tuple

from mtl.data.formats.conll import TaggedToken, cut, scheme_of, tagged_entities
from mtl.data.formats.source import Source
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError

COLUMNS = 10
TAG_KEYS = ("NER", "ner", "Ner", "Entity", "NE", "ner_tag")
ID = re.compile(r"\d+([-.]\d+)?$")
Word = Tuple[str, str, str, str]  # where it is, its form, the white space after it, its tag


def is_conllu(source: Source) -> bool:
    """Whether the first line of a token has ten columns, of which the first is its number."""
    if source.kind != "text" or not (source.first_line.startswith("#") or source.first_line.count("\t") == COLUMNS - 1):
        return False
    line = next((line for _, line in source.lines() if line.strip() and not line.startswith("#")), "")
    return line.count("\t") == COLUMNS - 1 and ID.match(line.split("\t")[0]) is not None


def read_conllu(source: Source, report: Report) -> Iterator[Record]:
    """Read a CoNLL-U file: documents between `# newdoc` lines, cut between sentences if long; else the sentences.

    The words of a multiword token share its form and have its tag, or the first of theirs.

    Args:
        source (Source): The file. Its column "tag" is the key in the last column; by default a usual one.
        report (Report): Counts the sentences by tagging scheme.

    Raises:
        UserError: A line is malformed, or no token has an entity tag.
    """
    documents = list(_documents(source))
    if not any(tag for document in documents for sentence in document for *_, tag in sentence):
        keys = ", ".join(TAG_KEYS[:2])
        raise UserError(
            f"{source.path}: CoNLL-U without entities: the last column has no tag such as NER=B-PER (keys: {keys}). "
            f"Name its key: --column tag=KEY"
        )
    end = ("", "", "", "O")
    scheme = scheme_of(tag or "O" for document in documents for sentence in document for *_, tag in [*sentence, end])
    report.count(f"sentences read as {scheme}", sum(map(len, documents)))
    repaired = report if "tags" in source.reading.repair else None
    for document in documents:
        for part in cut(document, report):
            text, entities = "", []
            for sentence in part:
                rows: List[TaggedToken] = []
                for where, form, space, tag in sentence:
                    rows.append((where, len(text), len(text) + len(form), tag or "O"))
                    text += form + space
                entities += tagged_entities(rows, scheme, repaired)
            yield Record(text.rstrip(), part[0][0][0], entities=[Entity(e.start, e.end, e.label) for e in entities])


def _documents(source: Source) -> Iterator[List[List[Word]]]:
    has_marks = any(line.startswith("# newdoc") for _, line in source.lines())
    document: List[List[Word]] = []
    sentence: List[Tuple[str, List[str]]] = []
    for number, line in [*source.lines(), (0, "")]:
        is_mark = line.startswith("# newdoc")
        if line.strip() and not line.startswith("#"):
            fields = line.split("\t")
            if len(fields) != COLUMNS or not ID.match(fields[0]):
                raise UserError(f"{source.path}, line {number}: ten columns are needed, the first a number; got {line[:60]!r}")
            sentence.append((f"{source.path}, line {number}", fields))
            continue
        if sentence and not line.startswith("#"):
            document.append(_words(sentence, source))
            sentence = []
        full = not has_marks and len(document) == source.reading.sentences
        if document and (is_mark or number == 0 or full):
            yield document
            document = []


def _words(sentence: List[Tuple[str, List[str]]], source: Source) -> List[Word]:
    """The tokens as the text has them: a range stands for its words, empty nodes are left out."""
    words: List[Word] = []
    inside: Tuple[int, int] = (0, -1)  # numbers of the words of the last range
    for where, fields in sentence:
        misc = dict(part.partition("=")[::2] for part in fields[-1].split("|"))
        tag = _tag(misc, source)
        if "." in fields[0]:
            continue
        if "-" in fields[0]:
            first, last = map(int, fields[0].split("-"))
            inside = first, last
        elif inside[0] <= int(fields[0]) <= inside[1]:
            if tag not in ("", "O") and words[-1][3] in ("", "O"):
                words[-1] = (*words[-1][:3], tag)
            continue
        words.append((where, fields[1], "" if misc.get("SpaceAfter") == "No" else " ", tag))
    where, form, space, tag = words[-1]
    return [*words[:-1], (where, form, space or " ", tag)]


def _tag(misc: Dict[str, str], source: Source) -> str:
    key = source.columns.get("tag")
    if key is not None:
        source.found.add("tag")
    found = next((misc[name] for name in ((key,) if key else TAG_KEYS) if name in misc), "")
    return "" if found == "_" else found
