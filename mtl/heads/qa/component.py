"""`mtl_qa`: answers questions about a Doc, by `doc._.ask(question)` or `doc._.questions` before the pipeline runs."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example
from thinc.api import Config, Model

from mtl.data.docs import gold_questions, widened_span
from mtl.encoder.batch import EncoderBatch
from mtl.errors import UserError, check_range
from mtl.heads.head import Head, Rows
from mtl.heads.loss import Loss
from mtl.heads.qa.metrics import best_threshold, score_answers, token_f1
from mtl.heads.qa.module import SpanHead, best_spans, span_loss
from mtl.torch_model import torch_model

GOLD, ANSWERS = "qa", "answers"  # keys of doc.spans
CHUNK_TOKENS = 50_000  # tokens of (document, question) pairs encoded at once in prediction

DEFAULT_CONFIG = """
[qa]
max_answer_tokens = 30
n_best = 1
threshold = null
tune_threshold = true

[qa.model]
@architectures = "mtl.SpanHead.v1"

[qa.model.encoder]
@architectures = "mtl.EncoderListener.v1"

[qa.scorer]
@scorers = "mtl.qa_scorer.v1"
"""
SCORE_WEIGHTS = {"qa_f1": 1.0, "qa_em": None}

Pairs = List[Tuple[int, str]]  # index of a Doc, question


@dataclass(frozen=True)
class Answer:
    """An answer to a question, or that there is none.

    span: the Doc's tokens, None where the text does not answer. score: the probability of that span, of 1 shared by all spans
    and "no answer". no_answer_score: the probability that the text does not answer. margin: logit of the best span minus
    logit of no answer; the head answers where it exceeds its threshold.
    """

    question: str
    span: Optional[Span]
    score: float
    no_answer_score: float
    margin: float

    @property
    def text(self) -> str:
        """The answer, "" where there is none."""
        return self.span.text if self.span is not None else ""

    def __str__(self) -> str:
        return self.text


@dataclass
class Candidates:
    """What is known of one pair: its best spans (score, first token, token after the last, probability), and no answer."""

    spans: List[Tuple[float, int, int, float]]
    no_answer_score: float
    no_answer_logit: float

    @property
    def margin(self) -> float:
        return self.spans[0][0] - self.no_answer_logit if self.spans else -float("inf")


def span_head_architecture(encoder: Model) -> Model:
    """Architecture `mtl.SpanHead.v1`: start and end logits a token. encoder: `mtl.EncoderListener.v1`."""
    return torch_model("mtl-qa", SpanHead, [encoder])


def make_qa(
    nlp: Language, name: str, model: Model, max_answer_tokens: int, n_best: int, threshold: Optional[float], tune_threshold: bool,
    scorer: Optional[Callable],
) -> "QuestionAnswerer":  # fmt: skip
    """Factory `mtl_qa`."""
    return QuestionAnswerer(
        nlp.vocab, model, name, max_answer_tokens=max_answer_tokens, n_best=n_best, threshold=threshold,
        tune_threshold=tune_threshold, scorer=scorer,
    )  # fmt: skip


def make_qa_scorer() -> Callable:
    """`mtl.qa_scorer.v1`: exact match and token F1 of the SQuAD 2.0 script; see `score_answers`."""
    return score_answers


class QuestionAnswerer(Head):
    """Extractive question answering with SQuAD 2.0 semantics.

    max_answer_tokens (int): the longest answer. n_best (int): how many spans to keep for an answered question.
    threshold (float): answer where margin > threshold (see `Answer`); None for the tuned one. tune_threshold (bool): while
    training, tune it to the best F1 on the documents that the head is scored on, that is `[corpora.dev]`; never once loaded.
    """

    learned = ("labels", "width", "tuned_threshold")
    reads_docs = False
    _all: "WeakSet[QuestionAnswerer]" = WeakSet()
    _by_doc: "WeakKeyDictionary[Doc, QuestionAnswerer]" = WeakKeyDictionary()  # which head a Doc went through last

    def __init__(self, vocab, model: Model, name: str = "qa", *, scorer=None, **cfg: Any) -> None:
        check_range(f"components.{name}.max_answer_tokens", cfg["max_answer_tokens"], 1)
        check_range(f"components.{name}.n_best", cfg["n_best"], 1)
        super().__init__(vocab, model, name, scorer=scorer, tuned_threshold=None, **cfg)
        self._in_training = False
        self._all.add(self)
        install_extensions()

    @property
    def threshold(self) -> float:
        """The config's threshold, else the tuned one, else 0."""
        given, tuned = self.cfg["threshold"], self.cfg["tuned_threshold"]
        return given if given is not None else tuned if tuned is not None else 0.0

    def _restore(self, saved: Dict[str, Any]) -> None:
        super()._restore(saved)
        self._in_training = False

    def is_annotated(self, reference: Doc) -> bool:
        return bool(gold_questions(reference))

    def add_label(self, label: str) -> int:
        """RAISES (UserError): it has no labels."""
        raise UserError(f"the head {self.name!r} answers questions, and has no labels")

    def as_reference(self, doc: Doc) -> Doc:
        if ANSWERS not in doc.spans:
            return doc  # nothing was asked
        answers = doc.spans[ANSWERS]
        spans = [Span(doc, span.start, span.end, label="answer", span_id=span.id) for span in answers]
        doc.spans[GOLD] = SpanGroup(doc, name=GOLD, spans=spans, attrs={"questions": dict(answers.attrs["questions"])})
        return doc

    def initialize(self, get_examples, *, nlp=None, labels=None, teacher: Optional[str] = None, teacher_steps: int = 0) -> None:
        super().initialize(get_examples, nlp=nlp, labels=labels, teacher=teacher, teacher_steps=teacher_steps)
        self._in_training = True

    def update(self, examples, *, drop=0.0, sgd=None, losses=None) -> Dict[str, float]:
        self._in_training = True
        return super().update(examples, drop=drop, sgd=sgd, losses=losses)

    def loss(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Loss]:
        pairs: Pairs = []
        spans: List[List[Tuple[int, int]]] = []
        owners: List[int] = []
        for place, (i, example) in enumerate(rows):
            group = example.reference.spans[GOLD]
            for id, question in group.attrs["questions"].items():
                owners.append(place)
                golds = [span for span in group if span.id_ == id]
                placed = [widened_span(example.predicted, gold.start_char, gold.end_char) for gold in golds]
                pairs.append((i, question))
                spans.append([(span.start, span.end) for span in placed])
        tokens = batch.vectors(pairs)
        golds, kept = [], []
        for row, (start, gold) in enumerate(zip(tokens.starts, spans)):
            seen = [(1 + s, e) for s, e in gold if tokens.aligned[start + s] and tokens.aligned[start + e - 1]]
            if seen or not gold:  # an answer that has no wordpieces teaches nothing
                kept.append(row)
                golds.append(seen or [(0, 0)])
        if not kept:
            return None
        logits = self._placed()(tokens.select(kept), drop)
        return Loss(span_loss(logits, golds), len(kept), (logits.start, logits.end), [owners[row] for row in kept])

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> List[Optional[Dict[str, Candidates]]]:
        """Per Doc the candidates for each of its `doc._.questions`, by id; None where it has no questions."""
        docs = list(docs)
        asked = [_questions(doc) for doc in docs]
        pairs = [(i, text) for i, questions in enumerate(asked) for text in questions.values()]
        found = iter(self._answer(docs, pairs, self.cfg["n_best"]))
        return [{id: next(found) for id in questions} if questions else None for questions in asked]

    def _answer(self, docs: Sequence[Doc], pairs: Pairs, count: int) -> Iterator[Candidates]:
        if not pairs:
            return
        module = self._placed()
        for chunk in _chunks(docs, pairs):
            with torch.inference_mode():
                tokens = self.transformer.encode([docs[i] for i, _ in chunk], [question for _, question in chunk])
                logits = module(tokens)
                total = logits.start.logsumexp(1) + logits.end.logsumexp(1)
            start, end, norm = (t.float().cpu().numpy() for t in (logits.start, logits.end, total))
            for row, length in enumerate(tokens.lengths):
                best = best_spans(start[row, 1 : 1 + length], end[row, 1 : 1 + length], self.cfg["max_answer_tokens"], count)
                none = float(start[row, 0] + end[row, 0])
                spans = [(score, s, e, float(np.exp(score - norm[row]))) for score, s, e in best]
                yield Candidates(spans, float(np.exp(none - norm[row])), none)

    def set_annotations(self, docs: Iterable[Doc], predictions: List[Optional[Dict[str, Candidates]]]) -> None:
        """Write `doc.spans["answers"]`: spans with the question's id, and `attrs`.

        attrs: "questions" {id: text}; "scores" a probability a span; "no_answer_scores" and "margins" {id: number}.
        """
        docs = list(docs)
        for doc, candidates in zip(docs, predictions):
            self._by_doc[doc] = self
            if candidates is not None:
                doc.spans[ANSWERS] = self._group(doc, _questions(doc), candidates)
        self.transformer.release(docs, self.name)

    def _group(self, doc: Doc, questions: Dict[str, str], candidates: Dict[str, Candidates]) -> SpanGroup:
        spans, scores = [], []
        for id, found in candidates.items():
            if found.margin > self.threshold:
                for _, start, end, probability in found.spans:
                    spans.append(Span(doc, start, end, label="answer", span_id=id))
                    scores.append(probability)
        attrs = {
            "questions": questions,
            "scores": scores,
            "no_answer_scores": {id: found.no_answer_score for id, found in candidates.items()},
            "margins": {id: found.margin for id, found in candidates.items()},
        }
        return SpanGroup(doc, name=ANSWERS, spans=spans, attrs=attrs)

    def ask(self, doc: Doc, question: str, n: int = 1) -> List[Answer]:
        """The `n` best answers; one without span where the text does not answer. RAISES (UserError): an unusable question."""
        if not isinstance(question, str) or not question.strip():
            raise UserError(f"a question is a text that is not empty, got {question!r}")
        if type(n) is not int or n < 1:
            raise UserError(f"n = {n!r}: how many answers is a whole number from 1 on")
        found = next(self._answer([doc], [(0, question)], n))
        if not found.margin > self.threshold:
            return [Answer(question, None, 0.0, found.no_answer_score, found.margin)]
        return [
            Answer(question, doc[start:end], probability, found.no_answer_score, score - found.no_answer_logit)
            for score, start, end, probability in found.spans
        ]

    # Scoring

    def score(self, examples: Iterable[Example], **kwargs: Any) -> Dict[str, Any]:
        """Answer the questions of the references, and score the answers; `nlp.evaluate` passes no questions."""
        kept = [eg for eg in examples if self.is_annotated(eg.reference)]
        if not kept or self.scorer is None:
            return {}
        asked: List[Tuple[int, str, str]] = [
            (i, id, text) for i, eg in enumerate(kept) for id, text in eg.reference.spans[GOLD].attrs["questions"].items()
        ]
        docs = [eg.predicted for eg in kept]
        found = list(self._answer(docs, [(i, text) for i, _, text in asked], 1))
        best, golds, margins = {}, {}, {}
        for (i, id, _), candidates in zip(asked, found):
            key = f"{i}/{id}"
            golds[key] = gold_texts(kept[i].reference, id)
            margins[key] = candidates.margin
            best[key] = docs[i][candidates.spans[0][1] : candidates.spans[0][2]].text if candidates.spans else ""
        if self._in_training and self.cfg["tune_threshold"]:
            rows = [(margins[key], token_f1(best[key], golds[key]), bool(golds[key])) for key in best]
            self.cfg["tuned_threshold"] = best_threshold(rows)[0]
        given = {key: text if margins[key] > self.threshold else "" for key, text in best.items()}
        return {**self.scorer(given, golds), "qa_threshold": self.threshold}


def gold_texts(reference: Doc, id: str) -> List[str]:
    """The gold answers to a question as they were written, else as the Doc's spans give them."""
    group = reference.spans[GOLD]
    return group.attrs.get("answers", {}).get(id) or [span.text for span in group if span.id_ == id]


def _chunks(docs: Sequence[Doc], pairs: Pairs) -> Iterator[Pairs]:
    chunk: Pairs = []
    size = 0
    for pair in pairs:
        if chunk and size + len(docs[pair[0]]) > CHUNK_TOKENS:
            yield chunk
            chunk, size = [], 0
        chunk.append(pair)
        size += len(docs[pair[0]])
    if chunk:
        yield chunk


def _questions(doc: Doc) -> Dict[str, str]:
    """The Doc's questions by id. RAISES (UserError): `doc._.questions` is neither a list of texts nor {id: text}."""
    given = doc._.questions
    if given is None:
        return {}
    found = {f"q{i}": text for i, text in enumerate(given, start=1)} if isinstance(given, (list, tuple)) else given
    if not isinstance(found, dict) or not all(isinstance(text, str) and text.strip() for text in found.values()):
        raise UserError(f"doc._.questions is a list of questions, or {{id: question}}, none of them empty; got {given!r}")
    if len({str(id) for id in found}) < len(found):
        raise UserError(f"doc._.questions: two ids are the same as text; got {given!r}")
    return {str(id): text for id, text in found.items()}


def _ask(doc: Doc, question: str, n: Optional[int] = None) -> Union[Answer, List[Answer]]:
    """`doc._.ask(question)`: the best answer; `doc._.ask(question, n=3)`: a list of the best, best first."""
    head = QuestionAnswerer._by_doc.get(doc) or next(
        (head for head in QuestionAnswerer._all if head.vocab is doc.vocab and head.model.shims), None
    )
    if head is None:
        raise UserError("doc._.ask: no pipeline with an 'mtl_qa' component made this Doc; load one, and make the Doc with it")
    answers = head.ask(doc, question, 1 if n is None else n)
    return answers[0] if n is None else answers


def _answers(doc: Doc) -> Dict[str, Answer]:
    """`doc._.answers`: the best answer to each of `doc._.questions`, by id."""
    if ANSWERS not in doc.spans or "margins" not in doc.spans[ANSWERS].attrs:  # none, or somebody else's
        return {}
    group = doc.spans[ANSWERS]
    attrs = group.attrs
    best: Dict[str, Tuple[float, Optional[Span]]] = {}
    for span, score in zip(group, attrs["scores"]):
        best.setdefault(span.id_, (score, span))
    return {
        id: Answer(
            text, best.get(id, (0.0, None))[1], best.get(id, (0.0, None))[0], attrs["no_answer_scores"][id], attrs["margins"][id]
        )
        for id, text in attrs["questions"].items()
    }


def install_extensions() -> None:
    """`doc._.ask`, `doc._.questions` and `doc._.answers`, where they are not there yet."""
    if not Doc.has_extension("questions"):
        Doc.set_extension("questions", default=None)
    if not Doc.has_extension("answers"):
        Doc.set_extension("answers", getter=_answers)
    if not Doc.has_extension("ask"):
        Doc.set_extension("ask", method=_ask)


Language.factory(
    "mtl_qa",
    assigns=["doc._.answers"],
    default_config=Config().from_str(DEFAULT_CONFIG)["qa"],
    default_score_weights=SCORE_WEIGHTS,
    func=make_qa,
)
