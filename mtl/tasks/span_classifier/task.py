"""The span classification task: attributes of entities or other spans, see `mtl.tasks.span_classifier.gold`."""

from collections import Counter
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from spacy.tokens import Doc

from mtl.data.records import Record, Report
from mtl.registry import Change, ProbeItem, Score, Task
from mtl.tasks.span_classifier.gold import KEY, set_attributes, set_span_labels, span_labels
from mtl.tasks.span_classifier.metrics import score_labels

METRICS = {
    "f": "F1",
    "p": "precision",
    "r": "recall",
    "acc": "accuracy",
    "end_to_end_f": "F1 with the spans that the pipeline finds",
}


class SpanClassifierTask(Task):
    """Labels of spans.

    Args:
        key (str): The key of `doc.spans` with the annotation.
    """

    name = "span_classifier"
    factory = "mtl_span_classifier"
    title = "attributes"
    order = 25
    survives = frozenset({Change.SYNONYMS, Change.NOISE, Change.MENTIONS})

    def __init__(self, key: str = KEY) -> None:
        self.key = key
        self.scores = tuple(Score(f"{key}_{metric}", f"{key}: {title}") for metric, title in METRICS.items())
        self.headlines = (f"{key}_f",)

    @classmethod
    def from_settings(cls, settings: Dict[str, Any]) -> "SpanClassifierTask":
        return cls(settings.get("key", KEY))

    def is_annotated(self, doc: Doc) -> bool:
        return bool(span_labels(doc, self.key))

    def labels(self, doc: Doc) -> Set[str]:
        return {label for _, labels in span_labels(doc, self.key) for label in labels}

    def faults(self, doc: Doc) -> List[str]:
        group = doc.spans.get(self.key, ())
        return [f"spans in doc.spans[{self.key!r}] whose labels are missing from its attrs['labels'], which are left out"] * (
            len(group) - len(span_labels(doc, self.key))
        )

    def annotate(self, doc: Doc, record: Record, report: Report) -> None:
        if record.entities is not None and any(entity.attributes is not None for entity in record.entities):
            set_attributes(doc, record, record.entities, report)
            report.count("documents with attributes of entities")

    def signature(self, doc: Doc) -> Tuple[str, ...]:
        return tuple(f"{span.start}:{span.end}" for span, _ in span_labels(doc, self.key))

    def transfer(self, doc: Doc, new: Doc, moved: Any) -> None:
        for key in self.span_keys(doc):
            moved_spans = [(moved.span(span, new), labels) for span, labels in span_labels(doc, key)]
            remaining = [(span, labels) for span, labels in moved_spans if span is not None]
            set_span_labels(new, key, [span for span, _ in remaining], [labels for _, labels in remaining])

    def span_keys(self, doc: Doc) -> Set[str]:
        return {key for key, group in doc.spans.items() if "labels" in group.attrs}

    def score(self, key: str) -> Optional[Score]:
        """Also of a head with another key: a result file does not say which heads there were."""
        known = super().score(key)
        if known is None and key.endswith("_end_to_end_f"):
            return Score(key, f"{key.removesuffix('_end_to_end_f')}: {METRICS['end_to_end_f']}")
        return known

    def trivial_baseline(self, train: Sequence[Doc], test: Sequence[Doc]) -> Dict[str, Tuple[float, str]]:
        known, gold = ([tuple(labels) for doc in docs for _, labels in span_labels(doc, self.key)] for docs in (train, test))
        if not known or not gold:
            return {}
        most_frequent = Counter(known).most_common(1)[0][0]
        f1 = score_labels([(set(labels), set(most_frequent)) for labels in gold])["f"]
        return {f"{self.key}_f": (f1, "most frequent attributes")}

    def usage(self, component: str) -> str:
        return f"[(ent.text, ent._.{self.key}) for ent in doc.ents]"

    def show(self, doc: Doc, component: str) -> List[str]:
        return [f"{span.text}: {', '.join(labels) or '-'}" for span, labels in span_labels(doc, self.key)]

    def show_gold(self, doc: Doc) -> List[str]:
        return self.show(doc, self.name)

    def probe_items(self, doc: Doc) -> List[ProbeItem]:
        """For each token the labels of the span that it is in."""
        targets = [""] * len(doc)
        for span, labels in span_labels(doc, self.key):
            targets[span.start : span.end] = ["+".join(sorted(labels))] * len(span)
        return [ProbeItem(None, targets)]
