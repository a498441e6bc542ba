"""The text classification task: gold in `doc.cats`, where an empty dict means not annotated."""

from collections import Counter
from typing import Any, Dict, List, Sequence, Set, Tuple

from spacy.tokens import Doc

from mtl.data.records import Record, Report
from mtl.errors import UserError
from mtl.registry import Change, ProbeItem, Score, Task

MAX_SHOWN = 5  # categories of a document


MOST_CELLS = 50_000_000  # categories of documents that are held in memory


class TextcatTask(Task):
    """Categories of a document, exclusive or several at once."""

    name = "textcat"
    factory = "mtl_textcat"
    title = "categories"
    order = 10
    scores = (
        Score("cats_accuracy", "categories: accuracy"),
        Score("cats_macro_f", "categories: macro F1"),
        Score("cats_micro_f", "categories: micro F1"),
        Score("cats_macro_auc", "categories: macro AUC"),
    )
    details = ("cats_f_per_type",)
    headlines = ("cats_accuracy", "cats_macro_auc")
    survives = frozenset({Change.SYNONYMS, Change.NOISE, Change.PARAPHRASE})

    def is_annotated(self, doc: Doc) -> bool:
        return bool(doc.cats)

    def labels(self, doc: Doc) -> Set[str]:
        return {label for label, value in doc.cats.items() if value > 0}

    def annotate(self, doc: Doc, record: Record, report: Report) -> None:
        if record.cats is not None:
            doc.cats = record.cats
            report.count("documents with categories")

    def gold(self, doc: Doc) -> Dict[str, Any]:
        return {label: value > 0.5 for label, value in doc.cats.items()}

    def to_record(self, doc: Doc, record: Record) -> None:
        record.cats = dict(doc.cats) or None

    def complete(self, records: Sequence[Record]) -> None:
        """Where a file names only the categories that hold, set all others known from any split to 0."""
        labels = sorted({label for record in records for label in record.cats or ()})
        own = [record for record in records if record.cats is not None and record.cats_complete]
        if len(own) * len(labels) > MOST_CELLS:
            raise UserError(
                f"{own[0].where}: {len(labels):,} categories, such as {labels[0]!r}, in {len(own):,} documents are more than a "
                f"head can learn; is that the column or key of the categories?"
            )
        for record in records:
            if record.cats is not None and record.cats_complete:
                record.cats = {label: record.cats.get(label, 0.0) for label in labels}

    def suggested_settings(self, docs: Sequence[Doc]) -> Dict[str, Any]:
        """Exclusive if every document has one category."""
        return {"exclusive": all(len(self.labels(doc)) == 1 for doc in docs)}

    def selecting_score(self, settings: Dict[str, Any]) -> str:
        return "cats_accuracy" if settings.get("exclusive") else "cats_macro_f"

    def signature(self, doc: Doc) -> Tuple[str, ...]:
        return tuple(f"{label}={value}" for label, value in sorted(doc.cats.items()))

    def transfer(self, doc: Doc, new: Doc, moved: Any) -> None:
        new.cats = dict(doc.cats)

    def trivial_baseline(self, train: Sequence[Doc], test: Sequence[Doc]) -> Dict[str, Tuple[float, str]]:
        gold = [best_category(doc.cats) for doc in test if is_exclusive(doc)]
        seen = Counter(best_category(doc.cats) for doc in train if doc.cats)
        if not gold or not seen:
            return {}
        return {"cats_accuracy": (gold.count(seen.most_common(1)[0][0]) / len(gold), "most frequent category")}

    def simple_model(self, train: Sequence[Doc], test: Sequence[Doc]) -> Dict[str, float]:
        """Accuracy of a logistic regression on TF-IDF of words and word pairs, where categories are exclusive."""
        known, scored = ([doc for doc in docs if is_exclusive(doc)] for docs in (train, test))
        labels = [best_category(doc.cats) for doc in known]
        if not scored or len(set(labels)) < 2:
            return {}
        try:
            from sklearn.feature_extraction.text import TfidfVectorizer
            from sklearn.linear_model import LogisticRegression
            from sklearn.pipeline import make_pipeline
        except ImportError:
            raise UserError('the baselines need scikit-learn: pip install "spacy-mtl[compare]"') from None
        model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=1000))
        model.fit([doc.text for doc in known], labels)
        predicted = model.predict([doc.text for doc in scored])
        return {"cats_accuracy": sum(guess == best_category(doc.cats) for guess, doc in zip(predicted, scored)) / len(scored)}

    def usage(self, component: str) -> str:
        return "doc._.categories              # those that hold; doc.cats has the scores"

    def show(self, doc: Doc, component: str) -> List[str]:
        ranked = sorted(doc.cats.items(), key=lambda item: -item[1])
        return [f"{label}  {score:.2f}" for label, score in ranked[:MAX_SHOWN]]

    def show_gold(self, doc: Doc) -> List[str]:
        return [label for label, value in doc.cats.items() if value > 0.5]

    def probe_items(self, doc: Doc) -> List[ProbeItem]:
        return [ProbeItem(None, {label: value > 0.5 for label, value in doc.cats.items()})]


def best_category(cats: Dict[str, float]) -> str:
    """The category with the highest value."""
    return max(cats, key=lambda label: cats[label])


def is_exclusive(doc: Doc) -> bool:
    """Whether exactly one category of the document holds."""
    return bool(doc.cats) and sum(doc.cats.values()) == 1
