"""The named entity recognition task: gold in `doc.ents`; a token without IOB value is not annotated."""

from collections import Counter
from contextlib import suppress
from typing import Any, Dict, List, Sequence, Set, Tuple

import spacy
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc, Span, Token
from spacy.training import Example
from spacy.util import filter_spans

from mtl.data.docs import bare_doc, edge_space_faults, trimmed_offsets, widened_span, without_edge_space
from mtl.data.records import Entity, Record, Report
from mtl.data.tokenizer import make_tokenizer
from mtl.errors import UserError
from mtl.registry import Change, ProbeItem, Score, Task
from mtl.tasks.ner.offsets import gold_entities, off_tokens, set_off_tokens, split_characters

ALL_SPANS = "sc"  # key of doc.spans with all entities where some overlap; spaCy's spancat reads it by default


class NERTask(Task):
    """Entities of a document."""

    name = "ner"
    factory = "mtl_ner"
    title = "entities"
    order = 20
    scores = (
        Score("ents_f", "entities: F1"),
        Score("ents_p", "entities: precision"),
        Score("ents_r", "entities: recall"),
        Score("ents_char_f", "entities: F1 by characters"),
    )
    details = ("ents_per_type",)
    headlines = ("ents_f",)
    survives = frozenset({Change.SYNONYMS, Change.NOISE, Change.MENTIONS, Change.SAME_LABEL, Change.LIKELY_WORDS})

    def is_annotated(self, doc: Doc) -> bool:
        return doc.has_annotation("ENT_IOB")

    def labels(self, doc: Doc) -> Set[str]:
        return {ent.label_ for ent in doc.ents} | {label for _, _, label in off_tokens(doc)}

    def gold(self, doc: Doc) -> Dict[str, Any]:
        return {"": gold_entities(doc)}

    def faults(self, doc: Doc) -> List[str]:
        return edge_space_faults(doc.ents, "entities")

    def annotate(self, doc: Doc, record: Record, report: Report) -> None:
        if record.entities is not None:
            set_entities(doc, record, record.entities, report)
            report.count("documents with entities")

    def complete(self, records: Sequence[Record]) -> None:
        """Where entities overlap anywhere, all documents keep theirs as spans too."""
        if any(overlap(record.entities or ()) for record in records):
            for record in records:
                record.overlapping = True

    def to_record(self, doc: Doc, record: Record) -> None:
        if doc.has_annotation("ENT_IOB"):
            record.entities = [Entity(*offsets) for offsets in gold_entities(doc)]
        if ALL_SPANS in doc.spans:
            every = [(span.start_char, span.end_char, span.label_) for span in doc.spans[ALL_SPANS]]
            if all((ent.start_char, ent.end_char, ent.label_) in every for ent in doc.ents):
                record.entities = [Entity(*offsets) for offsets in sorted({*every, *off_tokens(doc)})]

    def advice(self, docs: Sequence[Doc]) -> List[str]:
        count, characters = sum(len(off_tokens(doc)) for doc in docs), split_characters(docs)
        if not characters:
            return []
        create = make_tokenizer(split_at=characters)
        tokenizer = create(spacy.blank(docs[0].vocab.lang or "xx"))
        fitting = sum(
            tokens.char_span(start, end) is not None
            for doc in docs if off_tokens(doc)
            for tokens in [tokenizer(doc.text)]
            for start, end, _ in off_tokens(doc)
        )  # fmt: skip
        setting = characters.replace("\\", "\\\\").replace('"', '\\"')
        return [
            f'{fitting:,} of the {count:,} entities off token boundaries can be learned with split_at = "{setting}" below '
            f'@tokenizers = "mtl.Tokenizer.v1" in [nlp.tokenizer]'
        ]

    def token_label(self, token: Token) -> Tuple[str, ...]:
        return (token.ent_iob_, token.ent_type_) if token.ent_iob else ()

    def transfer(self, doc: Doc, new: Doc, moved: Any) -> None:
        if doc.has_annotation("ENT_IOB"):
            missing = []
            for i in (i for i, token in enumerate(doc) if token.ent_iob == 0):
                with suppress(ValueError):  # an edit replaces several tokens, of which this is one
                    missing.append(moved.span(doc[i : i + 1], new))
            entities = [span for ent in doc.ents if (span := moved.span(ent, new)) is not None]
            new.set_ents(entities, missing=[span for span in missing if span is not None], default="outside")

    def trivial_baseline(self, train: Sequence[Doc], test: Sequence[Doc]) -> Dict[str, Tuple[float, str]]:
        f1 = dictionary_f1(train, test)
        return {} if f1 is None else {"ents_f": (f1, "dictionary of training entities")}

    def simple_model(self, train: Sequence[Doc], test: Sequence[Doc]) -> Dict[str, float]:
        f1 = dictionary_f1(train, test)
        return {} if f1 is None else {"ents_f": f1}

    def usage(self, component: str) -> str:
        return f'doc.ents                      # doc.spans["{component}"].attrs["scores"] has the probability of each'

    def show(self, doc: Doc, component: str) -> List[str]:
        return [f"{ent.label_}  {ent.text}" for ent in doc.ents]

    def show_gold(self, doc: Doc) -> List[str]:
        return self.show(doc, self.name)

    def probe_items(self, doc: Doc) -> List[ProbeItem]:
        return [ProbeItem(None, [token.ent_type_ for token in doc])]


def trimmed_entities(doc: Doc) -> List[Span]:
    """The document's entities without white space at their edges, in documents of any origin."""
    return [span for ent in doc.ents if (span := without_edge_space(ent)) is not None]


def set_entities(doc: Doc, record: Record, entities: Sequence[Entity], report: Report) -> None:
    """Set `doc.ents` from character offsets.

    White space at the edges of a mention is trimmed. The tokens of a mention that does not fit token boundaries are left
    unannotated, and its characters are kept beside (see `mtl.tasks.ner.offsets`). Of overlapping entities the first, and of those
    the longest, is kept; all of them are in `doc.spans["sc"]`, where spaCy's spancat looks. Each is counted.

    Raises:
        UserError: Offsets outside the text.
    """
    spans: List[Span] = []
    missing: List[Span] = []
    off: List[Tuple[int, int, str]] = []
    taken: Set[int] = set()
    every: List[Span] = []
    text = doc.text  # put together anew each time
    for entity in sorted(entities, key=lambda e: (e.start, -e.end)):
        if not 0 <= entity.start < entity.end <= len(text):
            raise UserError(
                f"{record.where}: entity {entity.label} at {entity.start}:{entity.end} lies outside the text, which has "
                f"{len(text)} characters"
            )
        mention = text[entity.start : entity.end]
        start, end = trimmed_offsets(text, entity.start, entity.end)
        if start == end:
            report.note("entities of white space left out", f"{record.where}: {entity.label} {mention!r}")
            continue
        if mention != text[start:end]:
            report.note("entities trimmed of white space", f"{record.where}: {entity.label} {mention!r}")
            mention = mention.strip()
        span = doc.char_span(start, end, label=entity.label)
        if span is None:
            outer = widened_span(doc, start, end)
            report.note(
                "entities off token boundaries, their tokens left unannotated",
                f"{record.where}: {entity.label} {mention!r} is part of the token(s) {outer.text!r}",
            )
            if not any(start < last and first < end for first, last, _ in off):
                off.append((start, end, entity.label))
            if taken.isdisjoint(range(outer.start, outer.end)):
                missing.append(outer)
                taken.update(range(outer.start, outer.end))
            continue
        every.append(span)
        if taken.isdisjoint(range(span.start, span.end)):
            spans.append(span)
            taken.update(range(span.start, span.end))
        else:
            report.note(
                f"entities that overlap another, which are in doc.spans[{ALL_SPANS!r}] alone",
                f"{record.where}: {entity.label} {span.text!r}",
            )
    report.count("entities", len(spans))
    doc.set_ents(spans, missing=missing, default="outside" if record.entities_complete else "missing")
    set_off_tokens(doc, off)
    if record.overlapping:
        doc.spans[ALL_SPANS] = every


def overlap(entities: Sequence[Entity]) -> bool:
    """Whether two of the entities share characters."""
    ordered = sorted((entity.start, entity.end) for entity in entities)
    return any(start < end for (_, end), (start, _) in zip(ordered, ordered[1:]))


def dictionary_f1(train: Sequence[Doc], test: Sequence[Doc]) -> Any:
    """F1 of tagging every longest string that was an entity in training, with its most frequent type; None without gold."""
    names: Dict[Tuple[str, ...], Counter] = {}
    for doc in train:
        for ent in doc.ents:
            names.setdefault(tuple(token.text.lower() for token in ent), Counter())[ent.label_] += 1
    max_length = max(map(len, names), default=0)
    examples = []
    for doc in test:
        if not doc.has_annotation("ENT_IOB"):
            continue
        words = [token.text.lower() for token in doc]  # `lower_` is empty where the vocab has no language
        spans = [
            Span(doc, start, end, label=names[key].most_common(1)[0][0])
            for start in range(len(doc))
            for end in range(start + 1, min(start + max_length, len(doc)) + 1)
            if (key := tuple(words[start:end])) in names
        ]
        predicted = bare_doc(doc, doc.vocab)
        predicted.set_ents([Span(predicted, s.start, s.end, label=s.label) for s in filter_spans(spans)])
        examples.append(Example(predicted, doc))
    return get_ner_prf(examples)["ents_f"] if examples else None
