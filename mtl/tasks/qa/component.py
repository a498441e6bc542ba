"""`mtl_qa`: answers questions about a Doc, by `doc._.ask(question)` or `doc._.questions` before the pipeline runs."""

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from spacy.language import Language
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example
from thinc.api import Config, Model

from mtl.data.docs import widened_span, without_edge_space
from mtl.encoder.batch import EncoderBatch
from mtl.errors import UserError, check_range
from mtl.tasks.component import Head
from mtl.tasks.loss import Loss
from mtl.tasks.outputs import Names, Outputs
from mtl.tasks.qa.answers import ANSWERS, Answer, questions_of, register_head, remember_head
from mtl.tasks.qa.gold import GOLD, asked_questions, gold_texts
from mtl.tasks.qa.limits import TrainingLimits
from mtl.tasks.qa.metrics import best_threshold, score_answers, token_f1
from mtl.tasks.qa.module import SpanHead, SpanLogits, best_spans, span_loss
from mtl.tasks.qa.task import QATask
from mtl.tasks.training import Rows
from mtl.torch_model import predicting, torch_model

CHUNK_TOKENS = 50_000  # tokens of (document, question) pairs that are encoded at once in prediction

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


@dataclass
class Candidates:
    """The possible answers to a question.

    Args:
        spans (List[Tuple[float, int, int, float]]): The best spans: logit, first token, token after the last, probability.
        no_answer_score (float): The probability that the text does not answer.
        no_answer_logit (float): The logit of "no answer".
    """

    spans: List[Tuple[float, int, int, float]]
    no_answer_score: float
    no_answer_logit: float

    @property
    def margin(self) -> float:
        """Logit of the best span minus logit of "no answer"."""
        return self.spans[0][0] - self.no_answer_logit if self.spans else -float("inf")


UNANSWERED = Candidates([], 1.0, 0.0)  # of a question that does not fit in the window


def span_head_architecture(encoder: Model) -> Model:
    """Architecture `mtl.SpanHead.v1`: start and end logits for each token, from a linear layer.

    Args:
        encoder (Model): `mtl.EncoderListener.v1`.
    """
    return torch_model("mtl-qa", SpanHead, [encoder])


def make_qa(
    nlp: Language, name: str, model: Model, max_answer_tokens: int, n_best: int, threshold: Optional[float], tune_threshold: bool,
    scorer: Optional[Callable],
) -> "QuestionAnswerer":  # fmt: skip
    """Factory `mtl_qa`: see `QuestionAnswerer`."""
    return QuestionAnswerer(
        nlp.vocab, model, name, max_answer_tokens=max_answer_tokens, n_best=n_best, threshold=threshold,
        tune_threshold=tune_threshold, scorer=scorer,
    )  # fmt: skip


def make_qa_scorer() -> Callable:
    """Scorer `mtl.qa_scorer.v1`: exact match and token F1 of the SQuAD 2.0 script; see `score_answers`."""
    return score_answers


class QuestionAnswerer(Head):
    """Extractive question answering with the semantics of SQuAD 2.0: the text may not answer a question.

    Args:
        max_answer_tokens (int): Length of the longest answer.
        n_best (int): How many spans to keep for an answered question.
        threshold (Optional[float]): The head answers if the margin exceeds it (see `Answer`). null for the tuned threshold.
        tune_threshold (bool): In training, tune the threshold to the best F1 on the documents that the head is scored on, which
            are those of `[corpora.dev]`. A loaded pipeline keeps its threshold unless it is trained further.
    """

    learned_settings = ("labels", "width", "tuned_threshold")
    reads_docs = False

    def __init__(self, vocab, model: Model, name: str = "qa", *, scorer=None, **cfg: Any) -> None:
        check_range(f"components.{name}.max_answer_tokens", cfg["max_answer_tokens"], 1)
        check_range(f"components.{name}.n_best", cfg["n_best"], 1)
        super().__init__(vocab, model, name, task=QATask(), scorer=scorer, tuned_threshold=None, **cfg)
        self._limits = TrainingLimits()
        self._fitting: Dict[str, bool] = {}  # question -> whether it fits in the window
        register_head(self)

    @property
    def threshold(self) -> float:
        """The threshold of the config, otherwise the tuned one, otherwise 0."""
        configured, tuned = self.cfg["threshold"], self.cfg["tuned_threshold"]
        return configured if configured is not None else tuned if tuned is not None else 0.0

    def _load_cfg(self, saved: Dict[str, Any]) -> None:
        super()._load_cfg(saved)
        self._in_training = False

    def add_label(self, label: str) -> int:
        """Raises a `UserError`: the head has no labels."""
        raise UserError(f"the head {self.name!r} answers questions, and has no labels")

    def initialize(self, get_examples, *, nlp=None, labels=None, teacher: Any = None) -> None:
        super().initialize(get_examples, nlp=nlp, labels=labels, teacher=teacher)
        if not self._limits.questions:
            list(self._limits.noting(eg.reference for eg in get_examples()))
        self._limits.report(self.name, self.transformer.name, self._fits, self.cfg["max_answer_tokens"])
        self._in_training = True

    def scan(self, references: Iterable[Doc]) -> None:
        self._limits = TrainingLimits()
        super().scan(self._limits.noting(references))

    def _fits(self, question: str) -> bool:
        """Whether a question leaves enough room in the encoder's window."""
        if question not in self._fitting:
            self._fitting[question] = self.transformer.encoder_fits(question)
        return self._fitting[question]

    def outputs(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Outputs]:
        """Logits of the questions that fit in the window, with or without a known answer; `initialize` names the others."""
        asked = [
            (owner, i, id, question)
            for owner, (i, example) in enumerate(rows)
            for id, question in asked_questions(example.reference).items()
            if self._fits(question)
        ]
        if not asked:
            return None
        tokens = batch.vectors([(i, question) for _, i, _, question in asked])
        logits = self.training_module(tokens, drop)
        aligned = [tokens.aligned[start : start + length] for start, length in zip(tokens.starts, tokens.lengths)]
        detail = [(owner, id, row_aligned) for (owner, _, id, _), row_aligned in zip(asked, aligned)]
        names = place_names(rows, [(owner, question) for owner, *_, question in asked])
        return Outputs((logits.start, logits.end), np.array([owner for owner, *_ in asked]), names, detail)

    def gold_loss(self, outputs: Outputs, rows: Rows) -> Optional[Loss]:
        golds: List[List[Tuple[int, int]]] = []
        usable: List[int] = []
        for row, (owner, id, aligned) in enumerate(outputs.detail):
            spans = gold_spans(rows[owner][1], id)
            columns = [(1 + start, end) for start, end in spans or () if aligned[start] and aligned[end - 1]]
            if columns or spans == []:  # there is nothing to learn from an answer without subwords
                usable.append(row)
                golds.append(columns or [(0, 0)])
        if not usable:
            return None
        start, end = outputs.tables
        return Loss(span_loss(SpanLogits(start[usable], end[usable]), golds), len(usable), outputs)

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> List[Optional[Dict[str, Candidates]]]:
        """For each Doc the candidates for each of its `doc._.questions`, by id; None if it has no questions."""
        docs = list(docs)
        questions_by_doc = [questions_of(doc) for doc in docs]
        pairs = [(i, text) for i, questions in enumerate(questions_by_doc) for text in questions.values()]
        candidates = iter(self._answer(docs, pairs, self.cfg["n_best"]))
        return [{id: next(candidates) for id in questions} if questions else None for questions in questions_by_doc]

    def _answer(self, docs: Sequence[Doc], pairs: Pairs, count: int) -> Iterator[Candidates]:
        """The candidates for each pair, `count` spans at most."""
        if not pairs:
            return
        module = self.prediction_module
        for chunk in _chunks(docs, pairs):
            with predicting():
                tokens = self.transformer.encode([docs[i] for i, _ in chunk], [question for _, question in chunk])
                logits = module(tokens)
                total = logits.start.logsumexp(1) + logits.end.logsumexp(1)
            start, end, log_z = (t.float().cpu().numpy() for t in (logits.start, logits.end, total))
            for row, length in enumerate(tokens.lengths):
                best = best_spans(start[row, 1 : 1 + length], end[row, 1 : 1 + length], self.cfg["max_answer_tokens"], count)
                no_answer = float(start[row, 0] + end[row, 0])
                spans = [(logit, s, e, float(np.exp(logit - log_z[row]))) for logit, s, e in best]
                yield Candidates(spans, float(np.exp(no_answer - log_z[row])), no_answer)

    def set_annotations(self, docs: Iterable[Doc], predictions: List[Optional[Dict[str, Candidates]]]) -> None:
        """Write `doc.spans["answers"]`: spans whose `id_` is the question's id, and attrs.

        The attrs hold "questions" {id: text}, "scores", the probability of each span, and "no_answer_scores" and "margins"
        {id: number}.
        """
        docs = list(docs)
        for doc, candidates in zip(docs, predictions):
            remember_head(doc, self)
            if candidates is not None:
                doc.spans[ANSWERS] = self._group(doc, questions_of(doc), candidates)
        self.transformer.release(docs, self.name)

    def _group(self, doc: Doc, questions: Dict[str, str], candidates_by_id: Dict[str, Candidates]) -> SpanGroup:
        spans, scores = [], []
        for id, candidates in candidates_by_id.items():
            if candidates.margin > self.threshold:
                for _, start, end, probability in candidates.spans:
                    spans.append(Span(doc, start, end, label="answer", span_id=id))
                    scores.append(probability)
        attrs = {
            "questions": questions,
            "scores": scores,
            "no_answer_scores": {id: candidates.no_answer_score for id, candidates in candidates_by_id.items()},
            "margins": {id: candidates.margin for id, candidates in candidates_by_id.items()},
        }
        return SpanGroup(doc, name=ANSWERS, spans=spans, attrs=attrs)

    def ask(self, doc: Doc, question: str, n: int = 1) -> List[Answer]:
        """Answer a question about a Doc.

        Args:
            doc (Doc): The Doc.
            question (str): The question.
            n (int): Number of answers.

        Returns:
            List[Answer]: The best answers, best first. A single one without a span if the text does not answer.

        Raises:
            UserError: The question is not a text, is empty, or is too long for the encoder's window.
        """
        if not isinstance(question, str) or not question.strip():
            raise UserError(f"a question must be a text that is not empty, got {question!r}")
        if type(n) is not int or n < 1:
            raise UserError(f"n = {n!r}: the number of answers must be an integer of at least 1")
        candidates = next(self._answer([doc], [(0, question)], n))
        no_answer_score = candidates.no_answer_score
        if not candidates.margin > self.threshold:
            return [Answer(question, None, 0.0, no_answer_score, candidates.margin)]
        return [
            Answer(question, doc[start:end], probability, no_answer_score, logit - candidates.no_answer_logit)
            for logit, start, end, probability in candidates.spans
        ]

    # Scoring

    def score(self, examples: Iterable[Example], **kwargs: Any) -> Dict[str, Any]:
        """Answer the questions of the references, and score the answers. `nlp.evaluate` does not pass the questions."""
        annotated = [eg for eg in examples if self.is_annotated(eg.reference)]
        if not annotated or self.scorer is None:
            return {}
        questions: List[Tuple[int, str, str]] = [
            (i, id, text) for i, eg in enumerate(annotated) for id, text in eg.reference.spans[GOLD].attrs["questions"].items()
        ]
        docs = [eg.predicted for eg in annotated]
        answered = self._answer(docs, [(i, text) for i, _, text in questions if self._fits(text)], 1)
        best, golds, margins = {}, {}, {}
        for i, id, text in questions:
            candidates = next(answered) if self._fits(text) else UNANSWERED
            key = f"{i}/{id}"
            golds[key] = gold_texts(annotated[i].reference, id)
            margins[key] = candidates.margin
            best[key] = docs[i][candidates.spans[0][1] : candidates.spans[0][2]].text if candidates.spans else ""
        if self._in_training and self.cfg["tune_threshold"]:
            rows = [(margins[key], token_f1(best[key], golds[key]), bool(golds[key])) for key in best]
            self.cfg["tuned_threshold"] = best_threshold(rows)[0]
        predicted = {key: text if margins[key] > self.threshold else "" for key, text in best.items()}
        scores = {**self.scorer(predicted, golds), "qa_threshold": self.threshold}
        self.remember_scores(scores)
        return scores


def place_names(rows: Rows, asked: Pairs) -> Callable[[int], Names]:
    """The names of tables of questions by tokens: a token stands for the characters where it starts and ends."""

    def names(example: int) -> Names:
        doc = rows[example][1].predicted
        starts, ends = [token.idx for token in doc], [token.idx + len(token) for token in doc]
        return Names([question for owner, question in asked if owner == example], [["", *starts], ["", *ends]], are_places=True)

    return names


def gold_spans(example: Example, question_id: str) -> Optional[List[Tuple[int, int]]]:
    """The answers to a question as tokens of the predicted Doc; none if the text has none; None if all are white space."""
    gold = [span for span in example.reference.spans[GOLD] if span.id_ == question_id]
    placed = [widened_span(example.predicted, span.start_char, span.end_char) for span in gold]
    trimmed = [span for widened in placed if (span := without_edge_space(widened)) is not None]
    return [(span.start, span.end) for span in trimmed] if trimmed or not placed else None


def _chunks(docs: Sequence[Doc], pairs: Pairs) -> Iterator[Pairs]:
    """The pairs in chunks of at most `CHUNK_TOKENS` tokens, unless one pair alone has more."""
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


Language.factory(
    "mtl_qa",
    assigns=["doc._.answers"],
    default_config=Config().from_str(DEFAULT_CONFIG)["qa"],
    default_score_weights=SCORE_WEIGHTS,
    func=make_qa,
)
