"""`mtl_ner`: sets `doc.ents`, and `doc.spans["ner"]` with the probability of each entity."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set

import numpy as np
import torch
from spacy.language import Language
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc, Span, SpanGroup, Token
from spacy.training import Example
from thinc.api import Config, Model

from mtl.encoder.batch import EncoderBatch
from mtl.errors import UserError
from mtl.tasks.component import Head
from mtl.tasks.loss import Loss
from mtl.tasks.ner.bio import bio_spans
from mtl.tasks.ner.crf import crf_loss, forward_backward, soft_crf_loss, span_probabilities
from mtl.tasks.ner.gold import allowed_tags, unannotated
from mtl.tasks.ner.module import CRFTagger
from mtl.tasks.ner.offsets import Offsets, character_scores, gold_entities
from mtl.tasks.ner.task import NERTask, trimmed_entities
from mtl.tasks.ner.viterbi import viterbi
from mtl.tasks.outputs import Outputs, SoftLoss, Targets, combined, soft_cross_entropy
from mtl.tasks.token_rows import aligned_steps, token_names, tokens_by_item
from mtl.tasks.training import Rows
from mtl.torch_model import predicting, torch_model

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
SCORE_WEIGHTS = {"ents_f": 1.0, "ents_p": None, "ents_r": None, "ents_char_f": None, "ents_per_type": None}


def crf_tagger_architecture(encoder: Model) -> Model:
    """Architecture `mtl.CRFTagger.v1`: a linear layer and a CRF over BIO tags.

    Args:
        encoder (Model): `mtl.EncoderListener.v1`.
    """
    return torch_model("mtl-ner", CRFTagger, [encoder])


def make_ner(nlp: Language, name: str, model: Model, confidence: bool, scorer: Optional[Callable]) -> "EntityTagger":
    """Factory `mtl_ner`: see `EntityTagger`."""
    return EntityTagger(nlp.vocab, model, name, confidence=confidence, scorer=scorer)


def make_ner_scorer() -> Callable:
    """Scorer `mtl.ner_scorer.v1`: see `score_ner`."""
    return score_ner


def score_ner(examples: Iterable[Example], **kwargs: Any) -> Dict[str, Any]:
    """Precision, recall and F1 of exact entities over the annotated examples. Spans over unannotated tokens do not count.

    "ents_char_f" also counts the gold entities whose edges lie inside tokens, which the others leave out.
    """
    annotated = [_with_trimmed_gold(eg) for eg in examples if eg.reference.has_annotation("ENT_IOB")]
    if not annotated:
        return {}
    characters = character_scores((_scored_entities(eg), gold_entities(eg.reference)) for eg in annotated)
    return {**get_ner_prf(annotated), "ents_char_f": characters["f"]}


def _scored_entities(example: Example) -> List[Offsets]:
    """The predicted entities by characters, without those over unannotated tokens, which are neither right nor wrong."""
    open_places = unannotated(example.reference)
    entities = [(ent.start_char, ent.end_char, ent.label_) for ent in example.predicted.ents]
    return [(s, e, label) for s, e, label in entities if not any(first < e and s < last for first, last in open_places)]


def _with_trimmed_gold(example: Example) -> Example:
    """The example, or one whose gold entities have no white space at their edges, as predicted ones have none."""
    trimmed = trimmed_entities(example.reference)
    if trimmed == list(example.reference.ents):
        return example
    reference = example.reference.copy()
    missing = [reference[token.i : token.i + 1] for token in reference if token.ent_iob == 0]
    spans = [Span(reference, span.start, span.end, label=span.label) for span in trimmed]
    reference.set_ents(spans, missing=missing, default="outside")
    return Example(example.predicted, reference)


@dataclass
class Entities:
    """Entities of several Docs, in order.

    Args:
        doc (np.ndarray): Shape (entities,): index of the Doc.
        start (np.ndarray): Shape (entities,): first token.
        end (np.ndarray): Shape (entities,): the token after the last.
        label (np.ndarray): Shape (entities,): index of the label.
        score (Optional[np.ndarray]): Shape (entities,): probability, if it was asked for.
    """

    doc: np.ndarray
    start: np.ndarray
    end: np.ndarray
    label: np.ndarray
    score: Optional[np.ndarray]


class EntityTagger(Head):
    """Entities of a document, in `doc.ents`.

    Args:
        confidence (bool): Also write `doc.spans[name]`: the entities, with the probability of each under the CRF in
            `.attrs["scores"]`.
    """

    def __init__(self, vocab, model: Model, name: str = "ner", *, confidence: bool = True, scorer=None) -> None:
        super().__init__(vocab, model, name, task=NERTask(), scorer=scorer, confidence=confidence)

    def score_names(self) -> Set[str]:
        return {"ents_f", "ents_p", "ents_r", "ents_char_f"}

    def check_labels(self) -> None:
        if not self.labels:
            raise UserError(f"the head {self.name!r} has no labels: there is no entity in the annotated documents")

    def outputs(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Outputs]:
        """Emissions of the tokens that have subwords. The detail holds these tokens of each Doc."""
        tokens = batch.vectors([(i, None) for i, _ in rows])
        vectors, lengths, steps = aligned_steps(tokens)
        if not len(steps):
            return None
        module, by_doc = self.training_module, tokens_by_item(lengths, steps, tokens)
        owners = np.repeat(np.arange(len(rows)), lengths)
        return Outputs((module(vectors, drop),), owners, token_names(rows, by_doc, module.tags), by_doc)

    def gold_loss(self, outputs: Outputs, rows: Rows) -> Optional[Loss]:
        tokens_by_doc: List[np.ndarray] = outputs.detail
        allowed = [allowed_tags(eg, self.cfg["labels"], tokens) for (_, eg), tokens in zip(rows, tokens_by_doc)]
        lengths = np.array([len(tokens) for tokens in tokens_by_doc])
        (emissions,) = outputs.tables
        transitions, start = self.training_module.scores()
        mean = crf_loss(emissions, transitions, start, np.concatenate(allowed), lengths[lengths > 0])
        return Loss(mean, len(emissions), outputs)

    def targets(self, outputs: Outputs, example: int, temperature: float) -> Targets:
        """The CRF's probabilities of each token's tags, and as detail the expected number of each transition."""
        rows = outputs.rows_of(example)
        scores = (outputs.tables[0][rows], *self.training_module.scores())
        emissions, transitions, start = (part.double().cpu().numpy() / temperature for part in scores)
        marginals = forward_backward(emissions, transitions, start, np.array([len(emissions)]))
        tables = [torch.from_numpy(marginals.unary).float()]
        return Targets(outputs.names(example), tables, torch.from_numpy(marginals.pair))

    def soft_loss(self, outputs: Outputs, targets: Sequence[Sequence[Targets]], temperature: float) -> Optional[SoftLoss]:
        """The cross-entropy of whole tag sequences, where tokens and tags are the teacher's; of single tags elsewhere."""
        is_same = [len(members) == 1 and members[0].names == outputs.names(i) for i, members in enumerate(targets)]
        parts = [soft_cross_entropy(outputs, [[] if same else t for t, same in zip(targets, is_same)], temperature)]
        whole = [i for i, same in enumerate(is_same) if same and len(targets[i][0].probabilities[0])]
        if whole:
            rows = np.concatenate([np.arange(len(outputs.owners))[outputs.rows_of(i)] for i in whole])
            unary = np.concatenate([targets[i][0].probabilities[0].double().numpy() for i in whole])
            pair = np.sum([targets[i][0].detail.numpy() for i in whole], axis=0)  # type: ignore[union-attr]
            lengths = np.bincount(outputs.owners[rows], minlength=len(targets))
            scores = (outputs.tables[0][torch.from_numpy(rows)], *self.training_module.scores())
            emissions, transitions, start = (part / temperature for part in scores)
            mean = soft_crf_loss(emissions, transitions, start, unary, pair, lengths[lengths > 0])
            parts.append(SoftLoss(mean * temperature**2, len(rows)))
        return combined(parts)

    def predict(self, docs: Iterable[Doc]) -> Entities:
        """The best valid tag sequence of each Doc, as entities."""
        docs = list(docs)
        module = self.prediction_module
        with predicting():
            tokens = self.vectors(docs)
            vectors, lengths, steps = aligned_steps(tokens)
            emissions = module(vectors).float().cpu().numpy()
            transitions, start = (scores.float().cpu().numpy() for scores in module.scores())
        lengths = lengths[lengths > 0]
        spans = bio_spans(viterbi(emissions, transitions, start, lengths))
        score = None
        if self.cfg["confidence"]:
            with np.errstate(divide="ignore"):
                double = [array.astype(np.float64) for array in (emissions, transitions, start)]
                score = span_probabilities(double[0], double[1], double[2], lengths, spans)
        first, last = steps[spans[0]], steps[spans[1] - 1]
        doc = np.searchsorted(tokens.starts + tokens.lengths, first, side="right")
        return Entities(doc, first - tokens.starts[doc], last + 1 - tokens.starts[doc], spans[2], score)

    def set_annotations(self, docs: Iterable[Doc], entities: Entities) -> None:
        """Write `doc.ents`, and `doc.spans[name]` with the probabilities. As in spaCy, entities set by others stay."""
        docs = list(docs)
        ids = [self.vocab.strings.add(label) for label in self.cfg["labels"]]
        spans_by_doc: List[List[Span]] = [[] for _ in docs]
        for i, start, end, label in zip(*(a.tolist() for a in (entities.doc, entities.start, entities.end, entities.label))):
            spans_by_doc[i].append(Span(docs[i], start, end, label=ids[label]))
        scores = np.zeros(len(entities.doc)) if entities.score is None else entities.score
        scores_by_doc = np.split(scores, np.searchsorted(entities.doc, np.arange(1, len(docs))))
        for doc, spans, doc_scores in zip(docs, spans_by_doc, scores_by_doc):
            blocked = [doc[token.i : token.i + 1] for token in doc if is_blocked(token)] if doc.has_annotation("ENT_IOB") else []
            others = self._set_by_others(doc)
            if others or blocked:
                closed = {token.i for span in (*others, *blocked) for token in span}
                is_free = np.array([closed.isdisjoint(range(span.start, span.end)) for span in spans], dtype=bool)
                spans, doc_scores = [span for span, free in zip(spans, is_free) if free], doc_scores[is_free]
            doc.set_ents([*others, *spans], blocked=blocked, default="outside")
            if entities.score is not None:
                doc.spans[self.name] = SpanGroup(doc, name=self.name, spans=spans, attrs={"scores": doc_scores.tolist()})
        self.transformer.release(docs, self.name)

    def _set_by_others(self, doc: Doc) -> List[Span]:
        """Remove from the Doc the entities that this head wrote when the Doc went through it before; returns the others."""
        if not doc.ents:
            return []
        previous = {(span.start, span.end, span.label) for span in doc.spans.get(self.name, ())}
        others = [ent for ent in doc.ents if (ent.start, ent.end, ent.label) not in previous]
        doc.set_ents(others, default="outside")
        return others


def is_blocked(token: Token) -> bool:
    """Whether another component has said that no entity may be here (`doc.set_ents(blocked=...)`)."""
    return token.ent_iob_ == "B" and not token.ent_type


Language.factory(
    "mtl_ner",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
    default_config=Config().from_str(DEFAULT_CONFIG)["ner"],
    default_score_weights=SCORE_WEIGHTS,
    func=make_ner,
)
