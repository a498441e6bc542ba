"""The document regression task: gold in `doc.spans[key].attrs["value"]`, which a DocBin keeps."""

from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from spacy.tokens import Doc, SpanGroup

from mtl.data.records import Record, Report
from mtl.registry import Change, ProbeItem, Score, Task

KEY = "score"  # the default key
METRICS = {
    "spearman": ("Spearman", False),
    "pearson": ("Pearson", False),
    "mae": ("mean absolute error", True),
    "rmse": ("root mean squared error", True),
}


class RegressorTask(Task):
    """A number for a document.

    Args:
        key (str): Where the number is: gold in `doc.spans[key].attrs["value"]`, predicted in `doc._.<key>`.
    """

    name = "regressor"
    factory = "mtl_regressor"
    title = "score"
    order = 50
    survives = frozenset({Change.SYNONYMS, Change.NOISE, Change.PARAPHRASE})

    def __init__(self, key: str = KEY) -> None:
        self.key = key
        title = "numbers" if key == KEY else key
        self.scores = tuple(Score(f"{key}_{metric}", f"{title}: {name}", error) for metric, (name, error) in METRICS.items())
        self.headlines = (f"{key}_spearman", f"{key}_mae")

    @classmethod
    def from_settings(cls, settings: Dict[str, Any]) -> "RegressorTask":
        return cls(settings.get("key", KEY))

    def is_annotated(self, doc: Doc) -> bool:
        return gold_number(doc, self.key) is not None

    def annotate(self, doc: Doc, record: Record, report: Report) -> None:
        if record.number is not None:
            set_gold_number(doc, record.number, self.key)
            report.count("documents with a score")

    def to_record(self, doc: Doc, record: Record) -> None:
        record.number = gold_number(doc, self.key) if self.is_annotated(doc) else record.number

    def signature(self, doc: Doc) -> Tuple[str, ...]:
        return (str(gold_number(doc, self.key)),)

    def transfer(self, doc: Doc, new: Doc, moved: Any) -> None:
        for key in self.span_keys(doc):
            set_gold_number(new, doc.spans[key].attrs["value"], key)

    def span_keys(self, doc: Doc) -> Set[str]:
        return {key for key, group in doc.spans.items() if "value" in group.attrs}

    def score(self, key: str) -> Optional[Score]:
        """Also of a regressor with another key: a result file does not say which heads there were."""
        name, _, metric = key.rpartition("_")
        if not name or metric not in METRICS:
            return None
        return next((score for score in RegressorTask(name).scores if score.key == key), None)

    def trivial_baseline(self, train: Sequence[Doc], test: Sequence[Doc]) -> Dict[str, Tuple[float, str]]:
        known, gold = ([number for doc in docs if (number := gold_number(doc, self.key)) is not None] for docs in (train, test))
        if not known or not gold:
            return {}
        mean = sum(known) / len(known)
        errors = [abs(number - mean) for number in gold]
        rmse = (sum(error**2 for error in errors) / len(errors)) ** 0.5
        description = "mean of the training data"
        return {f"{self.key}_mae": (sum(errors) / len(errors), description), f"{self.key}_rmse": (rmse, description)}

    def usage(self, component: str) -> str:
        return f"doc._.{self.key}                   # a number"

    def show(self, doc: Doc, component: str) -> List[str]:
        value = doc._.get(self.key)
        return [] if value is None else [f"{value:.3g}"]

    def show_gold(self, doc: Doc) -> List[str]:
        value = gold_number(doc, self.key)
        return [] if value is None else [f"{value:.3g}"]

    def probe_items(self, doc: Doc) -> List[ProbeItem]:
        return [ProbeItem(None, gold_number(doc, self.key))]


def gold_number(doc: Doc, key: str = KEY) -> Optional[float]:
    """The number that the document is annotated with, None if it is not."""
    return doc.spans[key].attrs.get("value") if key in doc.spans else None


def set_gold_number(doc: Doc, value: float, key: str = KEY) -> None:
    """Annotate the document with a number."""
    doc.spans[key] = SpanGroup(doc, name=key, attrs={"value": float(value)})
