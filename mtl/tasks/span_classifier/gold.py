"""How attributes of spans are annotated, and predicted, in a Doc.

`doc.spans[key]` holds the spans. Its attrs hold "labels", the list of labels that hold for each span, and in predictions
"scores", {label: probability} for each span. A DocBin keeps both. A span that is not in the group is not annotated.
"""

from typing import Any, Dict, Iterable, List, Sequence

from spacy.tokens import Doc, Span, SpanGroup

from mtl.data.docs import widened_span
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError

KEY = "attributes"  # the default key of doc.spans
TAKEN = (KEY, "qa", "answers", "questions", "score", "ents")  # keys of doc.spans and extensions with another meaning


def span_labels(doc: Doc, key: str) -> List[tuple]:
    """The annotated spans with their labels: (span, labels)."""
    group = doc.spans.get(key)
    return list(zip(group, group.attrs["labels"])) if group is not None and "labels" in group.attrs else []


def set_span_labels(doc: Doc, key: str, spans: Sequence[Span], labels: Sequence[List[str]], **attrs: Any) -> None:
    """Annotate spans with labels, in place of what is there."""
    doc.spans[key] = SpanGroup(doc, name=key, spans=list(spans), attrs={"labels": [list(row) for row in labels], **attrs})


def set_attributes(doc: Doc, record: Record, entities: Sequence[Entity], report: Report) -> None:
    """Annotate entities with their attributes.

    Attributes that are true or false share the key "attributes"; one with a text as its value has a key of its own, its name.
    Entities whose attributes are None are not annotated; an empty dict says that no flag holds. An entity off token boundaries is
    widened to whole tokens, and counted.

    Raises:
        UserError: An attribute with a text has a name that is taken.
    """
    spans: Dict[str, List[Span]] = {}
    labels: Dict[str, List[List[str]]] = {}
    for entity in entities:
        if entity.attributes is None:
            continue
        span = widened_span(doc, entity.start, entity.end, label=entity.label)
        if (span.start_char, span.end_char) != (entity.start, entity.end):
            report.note("entities with attributes widened to whole tokens", f"{record.where}: {span.text!r}")
        texts = {name: value for name, value in entity.attributes.items() if isinstance(value, str)}
        flags = [name for name, value in entity.attributes.items() if value is True]
        _check_names(texts, record)
        labels_by_key = {name: [value] for name, value in texts.items()}
        if len(texts) < len(entity.attributes) or not entity.attributes:  # else nothing is said of flags
            labels_by_key[KEY] = flags
        for key, held in labels_by_key.items():
            spans.setdefault(key, []).append(span)
            labels.setdefault(key, []).append(held)
    for key in spans:
        set_span_labels(doc, key, spans[key], labels[key])
        report.count(f"entities with {key}", len(spans[key]))


def _check_names(names: Iterable[str], record: Record) -> None:
    """Refuse names that cannot be a key of `doc.spans` and of `span._`."""
    for name in names:
        if name in TAKEN or not name.isidentifier():
            raise UserError(
                f"{record.where}: the attribute {name!r} needs another name, of letters, digits and '_' and none of "
                f"{', '.join(TAKEN)}"
            )
