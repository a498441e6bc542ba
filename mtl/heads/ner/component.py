"""`mtl_ner`: sets `doc.ents`, and `doc.spans["ner"]` with the probability of each entity."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional

import numpy as np
import torch
from spacy.language import Language
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example
from thinc.api import Config, Model

from mtl.encoder.batch import EncoderBatch
from mtl.errors import UserError
from mtl.heads.head import Head, Rows, vectors_of
from mtl.heads.loss import Loss
from mtl.heads.ner.crf import span_probabilities, spans_of, viterbi
from mtl.heads.ner.gold import allowed_tags
from mtl.heads.ner.module import Tagger, aligned_steps
from mtl.torch_model import torch_model

DEFAULT_CONFIG = """
[ner]
confidence = true

[ner.model]
@architectures = "mtl.CRFTagger.v1"

[ner.model.encoder]
@architectures = "mtl.EncoderListener.v1"

[ner.scorer]
@scorers = "mtl.ner_scorer.v1"
"""
SCORE_WEIGHTS = {"ents_f": 1.0, "ents_p": None, "ents_r": None, "ents_per_type": None}


def crf_tagger_architecture(encoder: Model) -> Model:
    """Architecture `mtl.CRFTagger.v1`: a linear layer and a CRF over BIO tags. encoder: `mtl.EncoderListener.v1`."""
    return torch_model("mtl-ner", Tagger, [encoder])


def make_ner(nlp: Language, name: str, model: Model, confidence: bool, scorer: Optional[Callable]) -> "EntityTagger":
    """Factory `mtl_ner`."""
    return EntityTagger(nlp.vocab, model, name, confidence=confidence, scorer=scorer)


def make_ner_scorer() -> Callable:
    """`mtl.ner_scorer.v1`: see `score_ner`."""
    return score_ner


def score_ner(examples: Iterable[Example], **kwargs: Any) -> Dict[str, Any]:
    """Precision, recall and F1 of exact entities over the annotated examples; spans over unannotated tokens do not count."""
    kept = [eg for eg in examples if eg.reference.has_annotation("ENT_IOB")]
    return get_ner_prf(kept) if kept else {}


@dataclass
class Entities:
    """Entities of several Docs, in order. tokens are counted in their own Doc."""

    doc: np.ndarray
    start: np.ndarray
    end: np.ndarray
    label: np.ndarray
    score: Optional[np.ndarray]


class EntityTagger(Head):
    """Entities of a document.

    confidence (bool): also write `doc.spans[name]`, the entities with `.attrs["scores"]`, the probability of each under the CRF.
    """

    def __init__(self, vocab, model: Model, name: str = "ner", *, confidence: bool = True, scorer=None) -> None:
        super().__init__(vocab, model, name, scorer=scorer, confidence=confidence)

    def is_annotated(self, reference: Doc) -> bool:
        return reference.has_annotation("ENT_IOB")

    def labels_of(self, reference: Doc) -> Iterable[str]:
        return {ent.label_ for ent in reference.ents}

    def check_labels(self) -> None:
        if not self.labels:
            raise UserError(f"the head {self.name!r} has no labels: the annotated documents hold no entity")

    def loss(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Loss]:
        tokens = batch.vectors([(i, None) for i, _ in rows])
        vectors, lengths, steps = aligned_steps(tokens)
        if not len(steps):
            return None
        bounds = np.cumsum(lengths)
        own = np.split(steps, bounds[:-1])
        allowed = [
            allowed_tags(example, self.cfg["labels"], kept - start) for (_, example), kept, start in zip(rows, own, tokens.starts)
        ]
        mean, emissions = self._placed().loss(vectors, lengths[lengths > 0], np.concatenate(allowed), drop)
        return Loss(mean, len(steps), (emissions,), np.repeat(np.arange(len(rows)), lengths))

    def predict(self, docs: Iterable[Doc]) -> Entities:
        """The best valid tag sequence of each Doc, as entities."""
        docs = list(docs)
        module = self._placed()
        with torch.inference_mode():
            tokens = vectors_of(self, docs)
            vectors, lengths, steps = aligned_steps(tokens)
            emissions = module(vectors).float().cpu().numpy()
            transitions, start = (scores.float().cpu().numpy() for scores in module.scores())
        used = lengths[lengths > 0]
        spans = spans_of(viterbi(emissions, transitions, start, used), used)
        score = None
        if self.cfg["confidence"]:
            with np.errstate(divide="ignore"):
                wide = [array.astype(np.float64) for array in (emissions, transitions, start)]
                score = span_probabilities(wide[0], wide[1], wide[2], used, spans)
        first, last = steps[spans[0]], steps[spans[1] - 1]
        doc = np.searchsorted(tokens.starts + tokens.lengths, first, side="right")
        return Entities(doc, first - tokens.starts[doc], last + 1 - tokens.starts[doc], spans[2], score)

    def set_annotations(self, docs: Iterable[Doc], entities: Entities) -> None:
        """Write `doc.ents`, and `doc.spans[name]` with the probabilities. Entities that others have set stay, as in spaCy."""
        docs = list(docs)
        ids = [self.vocab.strings.add(label) for label in self.cfg["labels"]]
        found: List[List[Span]] = [[] for _ in docs]
        for i, start, end, label in zip(*(a.tolist() for a in (entities.doc, entities.start, entities.end, entities.label))):
            found[i].append(Span(docs[i], start, end, label=ids[label]))
        scores = np.zeros(len(entities.doc)) if entities.score is None else entities.score
        rows = np.split(scores, np.searchsorted(entities.doc, np.arange(1, len(docs))))
        for doc, spans, row in zip(docs, found, rows):
            others = self._set_by_others(doc)
            if others:
                free = np.array([not any(token.ent_type for token in span) for span in spans], dtype=bool)
                spans, row = [span for span, kept in zip(spans, free) if kept], row[free]
            doc.set_ents([*others, *spans], default="outside")
            if entities.score is not None:
                doc.spans[self.name] = SpanGroup(doc, name=self.name, spans=spans, attrs={"scores": row.tolist()})
        self.transformer.release(docs, self.name)

    def as_reference(self, doc: Doc) -> Doc:
        """Entities of which the teacher is less than half sure are left open, where it wrote their probabilities."""
        if self.name not in doc.spans:
            return doc
        group = doc.spans[self.name]
        sure = [score >= 0.5 for score in group.attrs["scores"]]
        kept = [Span(doc, span.start, span.end, label=span.label) for span, one in zip(group, sure) if one]
        unsure = [span for span, one in zip(group, sure) if not one]
        doc.set_ents(kept, missing=unsure, default="outside")
        return doc

    def _set_by_others(self, doc: Doc) -> List[Span]:
        """The entities that stand on the Doc, less those that this head wrote when the Doc went through it before."""
        if not doc.ents:
            return []
        own = {(span.start, span.end, span.label) for span in doc.spans.get(self.name, ())}
        others = [ent for ent in doc.ents if (ent.start, ent.end, ent.label) not in own]
        doc.set_ents(others, default="outside")
        return others


Language.factory(
    "mtl_ner",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
    default_config=Config().from_str(DEFAULT_CONFIG)["ner"],
    default_score_weights=SCORE_WEIGHTS,
    func=make_ner,
)
