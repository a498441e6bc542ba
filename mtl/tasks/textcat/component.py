"""`mtl_textcat`: sets `doc.cats`."""

from functools import partial
from typing import Any, Callable, Dict, Iterable, List, Optional, Set

import torch
from spacy.language import Language
from spacy.scorer import Scorer
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Config, Model

from mtl.encoder.batch import EncoderBatch
from mtl.errors import UserError, check_choice, check_range
from mtl.extensions import install_extension
from mtl.settings import ByName, by_name
from mtl.tasks.component import Head
from mtl.tasks.loss import Loss
from mtl.tasks.outputs import Outputs, label_outputs
from mtl.tasks.textcat.module import POOLINGS, Textcat, exclusive_loss, multilabel_loss
from mtl.tasks.textcat.task import TextcatTask
from mtl.tasks.thresholds import DEFAULT, LabelThresholds
from mtl.tasks.training import Rows
from mtl.torch_model import predicting, torch_model

DEFAULT_CONFIG = """
[textcat]
exclusive = true
threshold = null
tune_thresholds = true
label_smoothing = 0.0
class_weights = {}

[textcat.model]
@architectures = "mtl.Textcat.v1"
pooling = "mean"

[textcat.model.encoder]
@architectures = "mtl.EncoderListener.v1"

[textcat.scorer]
@scorers = "mtl.textcat_scorer.v1"
"""
SCORE_WEIGHTS = {"cats_score": 1.0, "cats_accuracy": None, "cats_macro_f": None, "cats_micro_f": None, "cats_macro_auc": None}


def textcat_architecture(encoder: Model, pooling: str = "mean") -> Model:
    """Architecture `mtl.Textcat.v1`: a linear layer on the token vectors.

    Args:
        encoder (Model): `mtl.EncoderListener.v1`.
        pooling (str): "mean", or "attention": each category weighs the tokens itself. See `Textcat`.

    Raises:
        UserError: Another pooling.
    """
    check_choice("components.textcat.model.pooling", pooling, POOLINGS)
    return torch_model("mtl-textcat", partial(Textcat, pooling=pooling), [encoder])


def make_textcat(
    nlp: Language, name: str, model: Model, exclusive: bool, threshold: Optional[float], tune_thresholds: bool,
    label_smoothing: float, class_weights: ByName[float], scorer: Optional[Callable],
) -> "TextCategorizer":  # fmt: skip
    """Factory `mtl_textcat`: see `TextCategorizer`."""
    return TextCategorizer(
        nlp.vocab, model, name, exclusive=exclusive, threshold=threshold, tune_thresholds=tune_thresholds,
        label_smoothing=label_smoothing, class_weights=class_weights, scorer=scorer,
    )  # fmt: skip


def make_textcat_scorer() -> Callable:
    """`mtl.textcat_scorer.v1`: see `score_textcat`."""
    return score_textcat


def score_textcat(
    examples: Iterable[Example], *, labels: Iterable[str], exclusive: bool, thresholds: Dict[str, float], **kwargs: Any
) -> Dict:
    """`Scorer.score_cats` over the annotated examples, and `cats_accuracy` if categories are exclusive.

    `cats_score` is the macro F1 (exclusive) or macro AUC (multilabel), as in spaCy.
    """
    annotated = [eg for eg in examples if eg.reference.cats]
    if not annotated:
        return {}
    predicted = {id(eg.predicted) for eg in annotated}

    def cats(doc: Doc, attr: str) -> Dict[str, float]:
        """Predicted scores are moved so that each label's threshold is at 0.5, since spaCy cuts all at the same one."""
        if exclusive or id(doc) not in predicted:
            return doc.cats
        return {label: _moved(score, thresholds[label]) for label, score in doc.cats.items() if label in thresholds}

    scores = Scorer.score_cats(
        annotated, "cats", getter=cats, labels=list(labels), multi_label=not exclusive, positive_label=None, threshold=DEFAULT
    )
    if exclusive:
        known = set(labels)
        pairs = [(_best(eg.predicted.cats, known), _best(eg.reference.cats, known)) for eg in annotated]
        correct = [predicted == gold for predicted, gold in pairs if gold]
        scores["cats_accuracy"] = sum(correct) / len(correct) if correct else None
    return scores


def _moved(score: float, threshold: float) -> float:
    """A probability on a scale whose middle is the threshold. The order of probabilities stays."""
    if score >= threshold:
        return 1.0 if threshold == 1.0 else DEFAULT + DEFAULT * (score - threshold) / (1 - threshold)
    return DEFAULT * score / threshold


def _best(cats: Dict[str, float], labels: Set[str]) -> str:
    """The category with the highest score among those of this head; "" if none is above 0."""
    positive = {label: score for label, score in cats.items() if label in labels and score > 0}
    return max(positive, key=lambda label: positive[label]) if positive else ""


class TextCategorizer(LabelThresholds, Head):
    """Categories of a document.

    Args:
        exclusive (bool): Exactly one category holds (softmax), or each for itself (sigmoid).
        threshold (Optional[float]): The score from which a category holds, if they are not exclusive. null for the tuned ones.
            `doc.cats` has the scores of all categories, `doc._.categories` those that hold.
        tune_thresholds (bool): In training, tune the threshold of each category to its best F1 on the documents that the head is
            scored on, which are those of `[corpora.dev]`.
        label_smoothing (float): Share of each target that is spread over all categories, or over yes and no.
        class_weights (ByName[float]): Category -> weight of its examples in the loss; 1 for those not named.
    """

    learned_settings = ("labels", "width", "tuned_thresholds")

    def __init__(
        self, vocab, model: Model, name: str = "textcat", *, exclusive: bool, threshold: Optional[float] = None,
        tune_thresholds: bool = True, label_smoothing: float = 0.0, class_weights: ByName[float] = {}, scorer=None,
    ) -> None:  # fmt: skip
        check_range(f"components.{name}.threshold", DEFAULT if threshold is None else threshold, 0.0, 1.0)
        check_range(f"components.{name}.label_smoothing", label_smoothing, 0.0, 0.999)
        class_weights = by_name(f"components.{name}.class_weights", class_weights)
        for label, weight in class_weights.items():
            check_range(f"components.{name}.class_weights.{label}", weight, 0.0)
        super().__init__(
            vocab, model, name, task=TextcatTask(), scorer=scorer, exclusive=exclusive, threshold=threshold,
            tune_thresholds=tune_thresholds, tuned_thresholds=None, label_smoothing=label_smoothing,
            class_weights=dict(class_weights),
        )  # fmt: skip
        install_extension(Doc, "categories", f"components.{name}", default=None)

    def is_annotated(self, reference: Doc) -> bool:
        """Whether one of the head's categories is annotated; before it has any, whether any is."""
        return any(label in reference.cats for label in self.labels) if self.labels else bool(reference.cats)

    def places(self) -> Set[str]:
        return {f"doc.cats[{label!r}]" for label in self.labels}

    def score_names(self) -> Set[str]:
        names = {"cats_score", *(f"cats_{mean}_{kind}" for mean in ("micro", "macro") for kind in "prf"), "cats_macro_auc"}
        return names | ({"cats_accuracy"} if self.cfg["exclusive"] else set())

    def labels_of(self, reference: Doc) -> Iterable[str]:
        """Also the categories that are annotated as not holding."""
        if self.cfg["exclusive"] and sum(reference.cats.values()) > 1.001:
            raise UserError(
                f"the head {self.name!r} is exclusive, but the document {reference.text[:60]!r} has several categories "
                f"({', '.join(sorted(self.task.labels(reference)))}). Set components.{self.name}.exclusive = false, or correct it"
            )
        return reference.cats

    def check_labels(self) -> None:
        if self.cfg["exclusive"] and len(self.labels) < 2:
            raise UserError(
                f"the head {self.name!r} has the labels {list(self.labels)}: exclusive categories need at least two; "
                f"for one category that holds or not, set components.{self.name}.exclusive = false"
            )
        if not self.labels:
            raise UserError(f"the head {self.name!r} has no labels")
        unknown = sorted(set(self.cfg["class_weights"]) - set(self.labels))
        if unknown:
            raise UserError(
                f"components.{self.name}.class_weights names {', '.join(unknown)}; the categories are {', '.join(self.labels)}"
            )

    def outputs(self, rows: Rows, batch: EncoderBatch, drop: float) -> Outputs:
        logits = self.training_module(batch.vectors([(i, None) for i, _ in rows]), drop)
        return label_outputs(logits, range(len(rows)), [""] * len(rows), self.labels, self.cfg["exclusive"])

    def gold_loss(self, outputs: Outputs, rows: Rows) -> Optional[Loss]:
        target = torch.tensor([[float(eg.reference.cats.get(label, 0.0)) for label in self.labels] for _, eg in rows])
        known = torch.tensor([[float(label in eg.reference.cats) for label in self.labels] for _, eg in rows])
        usable = (target.sum(1) > 0) if self.cfg["exclusive"] else (known.sum(1) > 0)
        if not usable.any():
            return None
        logits = outputs.detail[usable.to(outputs.detail.device)]
        target, known = target[usable].to(logits.device), known[usable].to(logits.device)
        weights = target.new_tensor([self.cfg["class_weights"].get(label, 1.0) for label in self.labels])
        smoothing = self.cfg["label_smoothing"]
        if self.cfg["exclusive"]:
            mean, count = exclusive_loss(logits, target / target.sum(1, keepdim=True), weights, smoothing)
        else:
            mean, count = multilabel_loss(logits, target, known, weights, smoothing)
        return Loss(mean, count, outputs)

    def predict(self, docs: Iterable[Doc]) -> List[List[float]]:
        """Scores of the labels, a row for each Doc."""
        module = self.prediction_module
        with predicting():
            logits = module(self.vectors(list(docs)))
            scores = logits.softmax(-1) if self.cfg["exclusive"] else logits.sigmoid()
        return scores.tolist()

    def set_annotations(self, docs: Iterable[Doc], scores: List[List[float]]) -> None:
        docs = list(docs)
        labels = self.labels
        for doc, row, holding in zip(docs, scores, self.holding(scores)):
            doc.cats.update(zip(labels, row))
            doc._.categories = [*(label for label in doc._.categories or () if label not in labels), *holding]
        self.transformer.release(docs, self.name)

    def scorer_settings(self) -> Dict[str, Any]:
        threshold = DEFAULT if self.cfg["threshold"] is None else self.cfg["threshold"]  # for spaCy's own scorers
        return {
            "labels": self.labels, "exclusive": self.cfg["exclusive"], "threshold": threshold, "thresholds": self.thresholds
        }  # fmt: skip

    def score(self, examples: Iterable[Example], **kwargs: Any) -> Dict[str, Any]:
        annotated = [eg for eg in examples if self.is_annotated(eg.reference)]
        self.tune_thresholds(
            [[eg.predicted.cats.get(label, 0.0) for label in self.labels] for eg in annotated],
            [[_holds(eg.reference, label) for label in self.labels] for eg in annotated],
        )
        return super().score(annotated, **kwargs)


def _holds(reference: Doc, label: str) -> Optional[bool]:
    """Whether a category holds by the gold annotation; None if that does not say."""
    return reference.cats[label] > 0 if label in reference.cats else None


Language.factory(
    "mtl_textcat",
    assigns=["doc.cats"],
    default_config=Config().from_str(DEFAULT_CONFIG)["textcat"],
    default_score_weights=SCORE_WEIGHTS,
    func=make_textcat,
)
