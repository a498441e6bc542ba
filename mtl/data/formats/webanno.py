"""WebAnno TSV 3, which INCEpTION exports (https://inception-project.github.io/releases/36.6/docs/user-guide.html#sect_webannotsv).

A line for each token: `sentence-token <tab> begin-end <tab> token <tab> features ...`. The features of each layer of spans follow
in the order of the header; `PER[1]` on several lines is one span, `PER|LOC` are two. Offsets count UTF-16 units.
"""

import re
from typing import Dict, Iterator, List, Tuple

from mtl.data.formats.source import Source
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError

HEADER = "#FORMAT=WebAnno TSV 3"
PREFERRED = ("value", "label", "entity", "category", "type", "kind", "class")  # a feature with the label, among several
GRAMMAR = re.compile(r"\.(POS|Lemma|MorphologicalFeatures|Stem|Token|Sentence|Dependency|SurfaceForm|SofaChangeAnnotation)$")
NUMBERED = re.compile(r"(.*)\[(\d+)\]$")
Feature = Tuple[int, str, str]  # column, layer, name


def is_webanno(source: Source) -> bool:
    """Whether the first line says so."""
    return source.path.is_file() and source.kind in ("text", "table") and source.first_line.startswith(HEADER)


def read_webanno(source: Source, report: Report) -> Iterator[Record]:
    """Read a file, which is one document.

    Args:
        source (Source): The file. Its column "tag" is the feature to read, as `layer.feature` or `feature`; by default that of
            the only layer of spans beside those of grammar.
        report (Report): Counts what is left out, and gets the feature that is read.

    Raises:
        UserError: A line is malformed, or the file has no feature to read, or several.
    """
    lines = list(source.lines())
    features, relations = _features(lines)
    column, layer, name = _chosen(features, source)
    report.notes.append(f"{source.path}: read the feature {layer}.{name}")
    if relations:
        report.count("layers of relations and chains left out", relations)
    text, units = "", 0
    spans: Dict[Tuple[str, str], Entity] = {}
    last_sentence, start, token_begin = "", 0, 0
    for number, line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t")
        where = f"{source.path}, line {number}"
        try:
            begin, end = map(int, fields[1].split("-"))
            sentence, token = fields[0].split("-", 1)
            values = re.split(r"(?<!\\)\|", fields[column])
        except (ValueError, IndexError):
            raise UserError(f"{where}: not a line of WebAnno TSV: {line[:60]!r}") from None
        if "." in token and not text:
            raise UserError(f"{where}: a part of a token before any token")
        if "." not in token:  # a line of a part of a token repeats its text
            gap = begin - units
            text += ("\n" * gap if sentence != last_sentence and text else " " * gap) + fields[2]
            units, last_sentence = end, sentence
            start = len(text) - len(fields[2])
            token_begin = begin
        first = start + _characters(text[start:], begin - token_begin)
        last = first + _characters(text[first:], end - begin)
        for value in values:
            _add(spans, value, first, last, f"{number}", name)
    yield Record(text, str(source.path), entities=sorted(spans.values(), key=lambda entity: (entity.start, entity.end)))


def _characters(text: str, units: int) -> int:
    return len(text.encode("utf-16-le")[: 2 * units].decode("utf-16-le", errors="ignore"))


def _add(spans: Dict[Tuple[str, str], Entity], value: str, first: int, last: int, line: str, name: str) -> None:
    numbered = NUMBERED.match(value)
    label, key = (numbered.group(1), numbered.group(2)) if numbered else (value, f"line {line}")
    label = re.sub(r"\\(.)", r"\1", label)
    if value in ("_", ""):
        return
    label = name if label == "*" else label
    if (label, key) in spans:
        spans[label, key].end = last
    else:
        spans[label, key] = Entity(first, last, label)


def _features(lines: List[Tuple[int, str]]) -> Tuple[List[Feature], int]:
    """The features of the layers of spans with their columns, and how many layers of other kinds there are."""
    features: List[Feature] = []
    column, others = 3, 0
    for _, line in lines:
        kind, _, rest = line.partition("=")
        if kind not in ("#T_SP", "#T_CH", "#T_RL"):
            continue
        layer, *names = rest.split("|")
        if kind == "#T_SP":
            names = names or [layer.rsplit(".", 1)[-1]]  # a layer without features has one column of marks
            features += [(column + i, layer, name) for i, name in enumerate(names)]
        else:
            others += 1
        column += max(1, len(names))
    return features, others


def _chosen(features: List[Feature], source: Source) -> Feature:
    wanted = source.columns.get("tag")
    if wanted:
        source.found.add("tag")
        found = [one for one in features if wanted in (one[2], f"{one[1]}.{one[2]}", f"{one[1].rsplit('.', 1)[-1]}.{one[2]}")]
    else:
        found = [one for one in features if not GRAMMAR.search(one[1])]
        if len({layer for _, layer, _ in found}) == 1 and len(found) > 1:
            preferred = [one for name in PREFERRED for one in found if one[2].lower() == name]
            found = preferred[:1] or found
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{layer.rsplit('.', 1)[-1]}.{name}" for _, layer, name in features) or "none"
    raise UserError(f"{source.path}: which feature is the label? There are: {names}. Name it: --column tag=LAYER.FEATURE")
