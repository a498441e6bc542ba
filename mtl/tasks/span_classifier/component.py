"""`mtl_span_classifier`: sets attributes of entities, or of the spans of a group."""

from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from thinc.api import Config, Model

from mtl.data.docs import widened_span
from mtl.encoder.batch import EncoderBatch
from mtl.errors import UserError, check_range
from mtl.extensions import install_extension
from mtl.tasks.component import Head
from mtl.tasks.loss import Loss
from mtl.tasks.outputs import Outputs, label_outputs
from mtl.tasks.span_classifier.gold import KEY, TAKEN, set_span_labels, span_labels
from mtl.tasks.span_classifier.metrics import score_labels
from mtl.tasks.span_classifier.module import SpanClassifier
from mtl.tasks.span_classifier.task import SpanClassifierTask
from mtl.tasks.textcat.module import exclusive_loss, multilabel_loss
from mtl.tasks.thresholds import DEFAULT, LabelThresholds
from mtl.tasks.training import Rows
from mtl.torch_model import predicting, torch_model

DEFAULT_CONFIG = """
[span_classifier]
key = "attributes"
spans = "ents"
exclusive = false
threshold = null
tune_thresholds = true

[span_classifier.model]
@architectures = "mtl.SpanClassifier.v1"

[span_classifier.model.encoder]
@architectures = "mtl.EncoderListener.v1"

[span_classifier.scorer]
@scorers = "mtl.span_classifier_scorer.v1"
"""
SCORE_WEIGHTS = {"attributes_f": 1.0, "attributes_end_to_end_f": None}
ENTITIES = "ents"  # the value of `spans` that stands for doc.ents


def span_classifier_architecture(encoder: Model) -> Model:
    """Architecture `mtl.SpanClassifier.v1`: a linear layer on the mean of a span's token vectors.

    Args:
        encoder (Model): `mtl.EncoderListener.v1`.
    """
    return torch_model("mtl-span-classifier", SpanClassifier, [encoder])


def make_span_classifier(
    nlp: Language, name: str, model: Model, key: str, spans: str, exclusive: bool, threshold: Optional[float],
    tune_thresholds: bool, scorer: Optional[Callable],
) -> "SpanLabeller":  # fmt: skip
    """Factory `mtl_span_classifier`: see `SpanLabeller`."""
    return SpanLabeller(
        nlp.vocab, model, name, key=key, spans=spans, exclusive=exclusive, threshold=threshold, tune_thresholds=tune_thresholds,
        scorer=scorer,
    )  # fmt: skip


def make_span_classifier_scorer() -> Callable:
    """`mtl.span_classifier_scorer.v1`: see `score_labels`."""
    return score_labels


@dataclass
class SpanScores:
    """Predictions for the spans of several Docs.

    Args:
        spans (List[List[Span]]): For each Doc its spans.
        scores (np.ndarray): Shape (all spans, labels): probabilities.
    """

    spans: List[List[Span]]
    scores: np.ndarray


class SpanLabeller(LabelThresholds, Head):
    """Labels of entities, or of the spans of a group: one of several, or any number at once.

    In training it learns from the annotated spans; in prediction it labels the spans that components before it have set, so put
    it behind them in the pipeline. Labels are written to `doc.spans[key]`, and can be read from a span as `span._.<key>`.

    Args:
        key (str): The key of `doc.spans` with the annotation, gold and predicted.
        spans (str): Which spans to label: "ents" for `doc.ents`, or a key of `doc.spans`.
        exclusive (bool): Exactly one label holds (softmax), or each for itself (sigmoid).
        threshold (Optional[float]): The probability from which a label holds, if they are not exclusive. null for the tuned ones.
        tune_thresholds (bool): In training, tune the threshold of each label to its best F1 on the documents that the head is
            scored on, which are those of `[corpora.dev]`.
    """

    learned_settings = ("labels", "width", "tuned_thresholds")

    def __init__(
        self, vocab, model: Model, name: str = "span_classifier", *, key: str, spans: str, exclusive: bool,
        threshold: Optional[float] = None, tune_thresholds: bool = True, scorer=None,
    ) -> None:  # fmt: skip
        check_range(f"components.{name}.threshold", DEFAULT if threshold is None else threshold, 0.0, 1.0)
        if not key.isidentifier() or key == spans or key in (set(TAKEN) - {KEY}):
            raise UserError(
                f"components.{name}.key = {key!r}: it must be a name of letters, digits and '_', as in span._.negation, and "
                f"another than that of the spans"
            )
        super().__init__(
            vocab, model, name, task=SpanClassifierTask(key), scorer=scorer, key=key, spans=spans, exclusive=exclusive,
            threshold=threshold, tune_thresholds=tune_thresholds, tuned_thresholds=None,
        )  # fmt: skip
        install_extension(Span, key, f"components.{name}.key", getter=_label_getter(key))

    def places(self) -> Set[str]:
        return {f"doc.spans[{self.cfg['key']!r}]"}

    def check_labels(self) -> None:
        if len(self.labels) < (2 if self.cfg["exclusive"] else 1):
            raise UserError(
                f"the head {self.name!r} has the labels {list(self.labels)}: exclusive labels need at least two; for one that "
                f"holds or not, set components.{self.name}.exclusive = false"
            )

    def outputs(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Outputs]:
        """Logits of the spans that the references have, labelled or not, and that have subwords."""
        tokens = batch.vectors([(i, None) for i, _ in rows])
        places: List[Tuple[int, int, int]] = []  # row, first token, token after the last
        spans: List[Tuple[int, int, int]] = []  # row, first character, character after the last
        for row, (_, example) in enumerate(rows):
            start = int(tokens.starts[row])
            for first, last in self._span_offsets(example):
                placed = widened_span(example.predicted, first, last)
                if tokens.aligned[start + placed.start : start + placed.end].any():
                    places.append((row, start + placed.start, start + placed.end))
                    spans.append((row, first, last))
        if not places:
            return None
        owners, starts, ends = np.array(places).T
        logits = self.training_module(tokens, starts, ends, drop)
        names = [span[1:] for span in spans]
        return replace(label_outputs(logits, owners, names, self.labels, self.cfg["exclusive"]), detail=(logits, spans))

    def _span_offsets(self, example: Example) -> List[Tuple[int, int]]:
        """The spans to learn from, as characters: those with gold labels, or the unlabelled ones of the reference."""
        reference = example.reference
        labelled = [span for span, _ in span_labels(reference, self.cfg["key"])]
        return [(span.start_char, span.end_char) for span in labelled or self._spans_of(reference)]

    def gold_loss(self, outputs: Outputs, rows: Rows) -> Optional[Loss]:
        held = {
            (row, span.start_char, span.end_char): labels
            for row, (_, example) in enumerate(rows)
            for span, labels in span_labels(example.reference, self.cfg["key"])
        }
        logits, spans = outputs.detail
        target = torch.tensor([[float(label in held[span]) for label in self.labels] for span in spans])
        if self.cfg["exclusive"]:
            usable = target.sum(1) == 1
            target, logits = target[usable], logits[usable.to(logits.device)]
        if not len(target):
            return None
        target = target.to(logits.device)
        weights = torch.ones(len(self.labels), device=logits.device)
        if self.cfg["exclusive"]:
            mean, count = exclusive_loss(logits, target, weights, 0.0)
        else:
            mean, count = multilabel_loss(logits, target, torch.ones_like(target), weights, 0.0)
        return Loss(mean, count, outputs)

    def predict(self, docs: Iterable[Doc]) -> SpanScores:
        """Probabilities of the labels for the spans of each Doc."""
        docs = list(docs)
        return self._classify(docs, [self._spans_of(doc) for doc in docs])

    def _spans_of(self, doc: Doc) -> List[Span]:
        """The spans of a Doc that are to be labelled."""
        if self.cfg["spans"] == ENTITIES:
            return list(doc.ents)
        return list(doc.spans.get(self.cfg["spans"], ()))

    def _classify(self, docs: Sequence[Doc], spans: List[List[Span]]) -> SpanScores:
        module = self.prediction_module
        if not any(spans):
            return SpanScores(spans, np.zeros((0, len(self.labels)), dtype=np.float32))
        with predicting():
            tokens = self.vectors(docs)
            starts, ends = (
                np.array([offset + getattr(span, edge) for offset, row in zip(tokens.starts, spans) for span in row])
                for edge in ("start", "end")
            )
            logits = module(tokens, starts, ends)
            scores = logits.softmax(-1) if self.cfg["exclusive"] else logits.sigmoid()
        return SpanScores(spans, scores.cpu().numpy())

    def set_annotations(self, docs: Iterable[Doc], predictions: SpanScores) -> None:
        """Write `doc.spans[key]`: the spans, their labels, and the probability of each label."""
        docs = list(docs)
        rows = iter(predictions.scores.tolist())
        for doc, spans in zip(docs, predictions.spans):
            scores = [next(rows) for _ in spans]
            by_label = [dict(zip(self.labels, row)) for row in scores]
            set_span_labels(doc, self.cfg["key"], spans, self.holding(scores), scores=by_label)
        self.transformer.release(docs, self.name)

    def score(self, examples: Iterable[Example], **kwargs: Any) -> Dict[str, Any]:
        """Label the gold spans and score the labels; also score what the pipeline has predicted, spans and labels together."""
        annotated = [eg for eg in examples if self.is_annotated(eg.reference)]
        if not annotated or self.scorer is None:
            return {}
        key = self.cfg["key"]
        gold = [span_labels(eg.reference, key) for eg in annotated]
        docs = [eg.predicted for eg in annotated]
        placed = [[widened_span(doc, span.start_char, span.end_char) for span, _ in spans] for doc, spans in zip(docs, gold)]
        probabilities = self._classify(docs, placed).scores.tolist()
        held = [set(labels) for spans in gold for _, labels in spans]
        self.tune_thresholds(probabilities, [[label in labels for label in self.labels] for labels in held])
        on_gold_spans = list(zip(held, map(set, self.holding(probabilities))))
        end_to_end = [(_items(spans), _items(span_labels(doc, key))) for doc, spans in zip(docs, gold)]
        self.transformer.release(docs, self.name)
        scores = {f"{key}_{metric}": value for metric, value in self.scorer(on_gold_spans).items()}
        scores[f"{key}_end_to_end_f"] = self.scorer(end_to_end)["f"]
        self.remember_scores(scores)
        return scores


def _items(spans: Sequence[tuple]) -> set:
    return {(span.start_char, span.end_char, label) for span, labels in spans for label in labels}


def _label_getter(key: str) -> Callable[[Span], List[str]]:
    """The getter behind `span._.<key>`: the labels of the span, none if it has not been labelled."""

    def labels(span: Span) -> List[str]:
        for labelled, held in span_labels(span.doc, key):
            if (labelled.start, labelled.end) == (span.start, span.end):
                return held
        return []

    return labels


Language.factory(
    "mtl_span_classifier",
    requires=[],
    assigns=["span._.attributes"],
    default_config=Config().from_str(DEFAULT_CONFIG)["span_classifier"],
    default_score_weights=SCORE_WEIGHTS,
    func=make_span_classifier,
)
