"""Tables whose rows are entities of a text, or the tokens of sentences."""

from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from mtl.data.formats.conll import scheme_of, tag_prefix, tagged_entities
from mtl.data.formats.mentions import place_mention
from mtl.data.formats.names import LABEL_NAMES, MISSING, TEXT_NAMES
from mtl.data.formats.source import Source, shaped
from mtl.data.formats.spans import ENDS, MENTIONS, STARTS, as_label
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError

TOKEN_NAMES = ("word", "token", "tokens", "words")
TAG_NAMES = ("tag", "ner_tag", "ner", "tags", "label", "iob", "bio", "entity")
SENTENCE_NAMES = ("sentence #", "sentence_id", "sentence", "sent_id", "sentence id", "doc_id", "sent")


def _named(source: Source, key: str, names: Sequence[str]) -> Optional[str]:
    """The key under which rows have a column that is named for it, or has a usual name."""
    if key in source.columns:
        return key
    lower = {name.lower().strip().replace(" ", "_"): name for name in source.key_values()}
    return next((lower[name.replace(" ", "_")] for name in names if name.replace(" ", "_") in lower), None)


# Rows that are entities


def _place_columns(source: Source) -> Tuple[Optional[str], Optional[str], Optional[str], Optional[str]]:
    names = {"text": TEXT_NAMES, "label": LABEL_NAMES}
    text, label = (_named(source, key, usual) for key, usual in names.items())
    plain = {"".join(filter(str.isalpha, name.lower())): name for name in source.key_values()}
    start, end = (
        key if key in source.columns else next((plain[name] for name in usual if name in plain), None)
        for key, usual in (("start", STARTS), ("end", ENDS))
    )
    return text, start, end, label


def is_span_table(source: Source) -> bool:
    """Whether a table has columns for a text, a start, an end and a label."""
    return source.kind in ("table", "excel", "parquet") and all(_place_columns(source))


def read_span_table(source: Source, report: Report) -> Iterator[Record]:
    """Read the entities of each text, whose rows need not follow each other. A row without a start says that there are none.

    Raises:
        UserError: A start or end is no number, or a mention is not at its offsets.
    """
    text_key, start_key, end_key, label_key = _place_columns(source)
    mention_key = next((name for name in source.key_values() if name.lower() in MENTIONS[1:] and name != label_key), None)
    report.notes.append(f"{source.path}: each row is an entity: {start_key!r}, {end_key!r}, {label_key!r} in {text_key!r}")
    records: Dict[str, Record] = {}
    for where, row in source.rows():
        text = str(row[text_key] if row[text_key] is not None else "")
        if not text.strip():
            report.count("rows left out because their text is empty")
            continue
        record = records.setdefault(text, Record(text, where, entities=[], extra=source.group(row)))
        if str(row[start_key] if row[start_key] is not None else "").strip().lower() in MISSING:
            continue
        try:
            start, end = (int(float(str(row[key]))) for key in (start_key, end_key))
        except ValueError:
            raise UserError(
                f"{where}: start and end must be whole numbers, got {row[start_key]!r} and {row[end_key]!r}"
            ) from None
        mention = str(row[mention_key]) if mention_key and row[mention_key] else None
        place = place_mention(text, start, end, mention, where, report, source.reading)
        if place is not None and record.entities is not None:
            with shaped(where, "a table of entities"):
                record.entities.append(Entity(*place, as_label(row[label_key], "an entity").strip()))
    yield from records.values()


# Rows that are tokens


def _token_columns(source: Source) -> Tuple[Optional[str], Optional[str], Optional[str]]:
    token, tag = _named(source, "token", TOKEN_NAMES), _named(source, "tag", TAG_NAMES)
    tags = [str(row.get(tag)) for row in source.first_objects] if tag else []
    if not tags or not all(value == "O" or tag_prefix(value) for value in tags):
        tag = None
    return token, tag, _named(source, "sentence", SENTENCE_NAMES)


def is_token_table(source: Source) -> bool:
    """Whether a table has a column of tokens and one of IOB tags."""
    return source.kind in ("table", "excel", "parquet") and all(_token_columns(source)[:2])


def read_token_table(source: Source, report: Report) -> Iterator[Record]:
    """Read the sentences of a table of tokens: rows with the same value in the column of sentences, which may be left blank
    after the first token.

    Raises:
        UserError: There is no column of sentences, or tags cannot follow each other.
    """
    token_key, tag_key, sentence_key = _token_columns(source)
    if sentence_key is None or token_key is None or tag_key is None:
        raise UserError(f"{source.path}: which column numbers the sentences? Name it: --column sentence=NAME")
    report.notes.append(f"{source.path}: each row is a token: {token_key!r}, {tag_key!r}, sentences by {sentence_key!r}")
    source.found |= {"token", "tag", "sentence"} & set(source.columns)
    sentences: List[List[Tuple[str, Dict[str, Any]]]] = []
    current: Any = None
    for where, row in source.rows():
        value = row[sentence_key]
        if not sentences or (str(value if value is not None else "").strip() and value != current):
            sentences.append([])
            current = value
        sentences[-1].append((where, row))
    scheme = scheme_of(str(row[tag_key]) for sentence in sentences for _, row in [*sentence, ("", {tag_key: "O"})])
    report.count(f"sentences read as {scheme}", len(sentences))
    repaired = report if "tags" in source.reading.repair else None
    for sentence in sentences:
        text, rows = "", []
        for where, row in sentence:
            word = str(row[token_key])
            rows.append((where, len(text), len(text) + len(word), str(row[tag_key])))
            text += word + " "
        yield Record(
            text[:-1], sentence[0][0], entities=tagged_entities(rows, scheme, repaired), extra=source.group(sentence[0][1])
        )
