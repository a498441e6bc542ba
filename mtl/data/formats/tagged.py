"""Tokens and their tags, in rows: Hugging Face token classification, and spaCy v2's training JSON and tuples."""

import re
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from mtl.data.formats.conll import tagged_entities
from mtl.data.formats.source import Source
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError

TAG_NAMES = ("ner_tags", "tags", "labels", "ner", "bio_tags", "iob_tags")


def is_token_rows(source: Source) -> bool:
    """Whether the first rows have tokens and tags."""
    keys = source.keys()
    return isinstance(keys.get("tokens"), list) and all(isinstance(t, str) for t in keys["tokens"]) and _tag_key(keys) is not None


def _tag_key(row: Dict[str, Any]) -> Optional[str]:
    return next((name for name in TAG_NAMES if isinstance(row.get(name), list)), None)


def token_record(row: Any, where: str, report: Report) -> Record:
    """A document from tokens and IOB tags; tokens are joined by spaces.

    Raises:
        UserError: Their numbers differ, or tags are numbers without names.
    """
    key = _tag_key(row) if isinstance(row, dict) else None
    if key is None or not isinstance(row.get("tokens"), list):
        raise UserError(f'{where}: "tokens" and a list of tags ({", ".join(TAG_NAMES)}) are needed')
    tokens, tags = row["tokens"], row[key]
    if len(tokens) != len(tags):
        raise UserError(f"{where}: {len(tokens)} tokens and {len(tags)} {key}")
    if any(isinstance(tag, int) for tag in tags):
        raise UserError(
            f"{where}: {key} are numbers, whose names are not in the file; save the data set as parquet, which keeps them"
        )
    text, places = joined(tokens)
    rows = [(where, start, end, str(tag)) for (start, end), tag in zip(places, tags)]
    return Record(text, where, entities=tagged_entities(rows))


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
    """Whether the rows are spaCy v2's: (text, annotation) pairs, or documents with paragraphs."""
    if any("paragraphs" in row and "context" not in str(row["paragraphs"])[:2000] for row in source.first_objects):
        return True
    pairs = [row for row in source.first_rows if isinstance(row, list)]
    return bool(pairs) and all(len(row) == 2 and isinstance(row[0], str) and isinstance(row[1], dict) for row in pairs)


def spacy_json_records(row: Any, where: str, report: Report) -> Iterator[Record]:
    """The documents of a row.

    Raises:
        UserError: It has another shape.
    """
    if isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and isinstance(row[1], dict):
        yield _pair_record(row[0], row[1], where)
        return
    if not isinstance(row, dict) or not isinstance(row.get("paragraphs"), list):
        raise UserError(f'{where}: a pair [text, {{...}}] or an object with "paragraphs" is needed')
    for number, paragraph in enumerate(row["paragraphs"], start=1):
        yield _paragraph_record(paragraph, f"{where}, paragraph {number}")


def _pair_record(text: str, annotation: Dict[str, Any], where: str) -> Record:
    try:
        entities = [Entity(int(start), int(end), str(label)) for start, end, label in annotation.get("entities") or ()]
        cats = {str(label): float(value) for label, value in (annotation.get("cats") or {}).items()}
    except (TypeError, ValueError):
        raise UserError(f'{where}: "entities" are [start, end, label], and "cats" an object from label to number') from None
    has_entities, has_cats = annotation.get("entities") is not None, annotation.get("cats") is not None
    return Record(text, where, cats=cats if has_cats else None, entities=entities if has_entities else None)


def _paragraph_record(paragraph: Dict[str, Any], where: str) -> Record:
    try:
        tokens = [token for sentence in paragraph.get("sentences", ()) for token in sentence["tokens"]]
        raw = paragraph.get("raw") or ""
        text, places = joined([token["orth"] for token in tokens], raw)
        tags = [token.get("ner", "-") for token in tokens]
        cats = {str(cat["label"]): float(cat["value"]) for cat in paragraph.get("cats") or ()} or None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{where}: not in the shape of spaCy's training JSON ({type(error).__name__}: {error})") from None
    is_tagged = any(tag != "-" for tag in tags)
    rows = [(where, start, end, re.sub("^-$", "O", tag)) for (start, end), tag in zip(places, tags)]
    return Record(text, where, cats=cats, entities=tagged_entities(rows) if is_tagged else None)
