"""Tokens and their tags or spans, in rows: Hugging Face's, GLiNER, SpERT, SciERC, and spaCy v2's JSON and tuples."""

import re
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from mtl.data.formats.conll import tagged_entities
from mtl.data.formats.jsonl import categories
from mtl.data.formats.names import TAG_NAMES, TOKEN_NAMES
from mtl.data.formats.reading import Reading
from mtl.data.formats.source import Source
from mtl.data.formats.spans import as_label
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError

SPAN_NAMES = ("ner", "entities", "spans")  # of lists of [first token, last token, label]


def is_token_rows(source: Source) -> bool:
    """Whether the first rows have tokens, and tags or spans of them, and no text."""
    keys = source.key_values()
    if isinstance(keys.get("text"), str) and not _tag_key(keys):
        return False
    return _words(keys) is not None and (_tag_key(keys) is not None or _span_key(keys) is not None)


def _words(row: Dict[str, Any]) -> Optional[List[str]]:
    """The tokens of a row; SciERC has lists of them, one for each sentence."""
    tokens = next((row[name] for name in TOKEN_NAMES if isinstance(row.get(name), list)), None)
    if tokens is None and isinstance(row.get("sentences"), list) and all(isinstance(part, list) for part in row["sentences"]):
        tokens = [token for sentence in row["sentences"] for token in sentence]
    return tokens if tokens and all(isinstance(token, str) for token in tokens) else None


def _tag_key(row: Dict[str, Any]) -> Optional[str]:
    return next((name for name in TAG_NAMES if _are_tags(row.get(name))), None)


def _are_tags(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(tag, (str, int)) for tag in value)


def _span_key(row: Dict[str, Any]) -> Optional[str]:
    return next((name for name in SPAN_NAMES if isinstance(row.get(name), list) and not _are_tags(row[name])), None)


def token_record(row: Any, where: str, report: Report, reading: Reading) -> Record:
    """A document from tokens and IOB tags, or spans of tokens; tokens are joined by spaces.

    Raises:
        UserError: Tags and tokens differ in number, tags are numbers without names, or a span lies outside.
    """
    words = _words(row) if isinstance(row, dict) else None
    key = _tag_key(row) if isinstance(row, dict) else None
    if words is None:
        if isinstance(row, dict) and any(row.get(name) == [] for name in TOKEN_NAMES):
            return Record("", where, entities=[])
        raise UserError(f'{where}: "tokens" and a list of tags ({", ".join(TAG_NAMES)}) are needed')
    given = row.get("text")
    text, places = joined(words, given if isinstance(given, str) and _fits(words, given) else "")
    names = [name for name in ("label", "labels", "cats") if name in row and name != key]
    cats = categories({name: row[name] for name in names}, report)
    if key is None:
        entities = None if _span_key(row) is None else _spans(row, places, where)
        return Record(text, where, cats=cats, cats_complete=True, entities=entities)
    tags = row[key]
    if len(words) != len(tags):
        raise UserError(f"{where}: {len(words)} tokens and {len(tags)} {key}")
    if any(isinstance(tag, int) for tag in tags):
        raise UserError(
            f"{where}: {key} are numbers, whose names are not in the file; save the data set as parquet, which keeps them"
        )
    rows = [(where, start, end, str(tag)) for (start, end), tag in zip(places, tags)]
    return Record(text, where, cats=cats, cats_complete=True, entities=tagged_entities(rows, repaired=_repaired(report, reading)))


def _repaired(report: Report, reading: Reading) -> Optional[Report]:
    return report if "tags" in reading.repair else None


def _fits(words: Sequence[str], text: str) -> bool:
    """Whether the words are in the text, one after the other."""
    try:
        return bool(joined(words, text))
    except ValueError:
        return False


def _spans(row: Dict[str, Any], places: Sequence[Tuple[int, int]], where: str) -> Optional[List[Entity]]:
    """Entities from [first, last, label], or from objects with "start" and "end", the token after the last (SpERT)."""
    key = _span_key(row)
    entities = []
    items = row[key] if key else []
    if any(isinstance(item, list) and (not item or isinstance(item[0], list)) for item in items):  # one list for each sentence
        items = [inner for item in items for inner in item]
    for item in items:
        try:
            if isinstance(item, dict):
                first, last, label = item["start"], item["end"] - 1, item.get("type", item.get("label"))
            else:
                first, last, label = item[:3]
            if not 0 <= first <= last < len(places) or not isinstance(label, str):
                raise ValueError
        except (TypeError, KeyError, ValueError):
            raise UserError(
                f"{where}: {item!r} is not a span of its {len(places)} tokens: [first, last, label], or start, end and type"
            ) from None
        entities.append(Entity(places[first][0], places[last][1], label))
    return entities


def joined(words: Sequence[str], text: str = "") -> Tuple[str, List[Tuple[int, int]]]:
    """The words in a text, or joined by spaces, and where each is.

    Raises:
        ValueError: A word is not in the text, after the one before it.
    """
    if not text:
        text = " ".join(words)
    places, position = [], 0
    for word in words:
        start = text.index(word, position)
        position = start + len(word)
        places.append((start, position))
    return text, places


def is_spacy_json(source: Source) -> bool:
    """Whether the rows are spaCy v2's: (text, annotation) pairs, also in an object, or documents with paragraphs."""
    for row in source.first_objects:
        if "paragraphs" in row and "context" not in str(row["paragraphs"])[:2000]:
            return True
        if isinstance(row.get("annotations"), list) and any(map(_is_pair, row["annotations"])):
            return True
    pairs = [row for row in source.first_rows if isinstance(row, list)]
    return bool(pairs) and all(map(_is_pair, pairs))


def _is_pair(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and isinstance(row[1], dict)


def spacy_json_records(row: Any, where: str, report: Report, reading: Reading) -> Iterator[Record]:
    """The documents of a row.

    Raises:
        UserError: It has another shape.
    """
    if isinstance(row, dict) and isinstance(row.get("annotations"), list):  # the NER annotator for spaCy, by tecoholic
        for number, pair in enumerate(row["annotations"], start=1):
            if pair is None:
                report.count("texts left out because nobody has annotated them")
            else:
                yield from spacy_json_records(pair, f"{where}, annotation {number}", report, reading)
        return
    if _is_pair(row):
        yield _pair_record(row[0], row[1], where)
        return
    if not isinstance(row, dict) or not isinstance(row.get("paragraphs"), list):
        raise UserError(f'{where}: a pair [text, {{...}}] or an object with "paragraphs" is needed')
    for number, paragraph in enumerate(row["paragraphs"], start=1):
        yield _paragraph_record(paragraph, f"{where}, paragraph {number}", _repaired(report, reading))


def _pair_record(text: str, annotation: Dict[str, Any], where: str) -> Record:
    try:
        entities = [
            Entity(int(start), int(end), as_label(label, "an entity")) for start, end, label in annotation.get("entities") or ()
        ]
        cats = {as_label(label, "a category"): _degree(value) for label, value in (annotation.get("cats") or {}).items()}
    except (TypeError, ValueError, AttributeError):
        raise UserError(
            f'{where}: "entities" are [start, end, label], and "cats" an object from label to a number from 0 to 1'
        ) from None
    has_entities, has_cats = annotation.get("entities") is not None, annotation.get("cats") is not None
    return Record(text, where, cats=cats if has_cats else None, entities=entities if has_entities else None)


def _degree(value: Any) -> float:
    degree = float(value)
    if not 0 <= degree <= 1:
        raise ValueError(f"a category holds from 0 to 1, got {value!r}")
    return degree


def _paragraph_record(paragraph: Dict[str, Any], where: str, repaired: Optional[Report]) -> Record:
    try:
        tokens = [token for sentence in paragraph.get("sentences", ()) for token in sentence["tokens"]]
        raw = paragraph.get("raw") or ""
        text, places = joined([token["orth"] for token in tokens], raw)
        tags = [token.get("ner") or "-" for token in tokens]
        cats = {str(cat["label"]): _degree(cat["value"]) for cat in paragraph.get("cats") or ()} or None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{where}: not in the shape of spaCy's training JSON ({type(error).__name__}: {error})") from None
    is_tagged = any(tag != "-" for tag in tags)
    rows = [(where, start, end, re.sub("^-$", "O", str(tag))) for (start, end), tag in zip(places, tags)]
    entities = tagged_entities(rows, repaired=repaired) if is_tagged else None
    return Record(text, where, cats=cats, entities=entities, entities_complete="-" not in tags)
