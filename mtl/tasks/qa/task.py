"""The extractive question answering task: gold in `doc.spans["qa"]`, see `mtl.tasks.qa.gold`."""

import math
from random import Random
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

from spacy.tokens import Doc, SpanGroup

from mtl.data.docs import edge_space_faults
from mtl.data.records import GoldAnswer, Question, Record, Report
from mtl.registry import Change, ProbeItem, Score, Task
from mtl.tasks.qa.answers import predicted_answers
from mtl.tasks.qa.cloze import cloze_questions
from mtl.tasks.qa.gold import (
    GOLD,
    asked_questions,
    gold_questions,
    gold_texts,
    set_gold_questions,
    set_open_questions,
)  # fmt: skip
from mtl.tasks.qa.limits import MAX_ANSWER_TOKENS
from mtl.tasks.qa.metrics import score_answers

COVERED = 0.99  # of the answers, by the length that is advised
OPEN_QUESTIONS = 2  # for each unlabelled document
NO_ANSWER = "(not answered by the text)"


class QATask(Task):
    """Questions about a document, whose answers are spans of it."""

    name = "qa"
    factory = "mtl_qa"
    title = "questions"
    order = 30
    scores = (
        Score("qa_f1", "questions: token F1"),
        Score("qa_em", "questions: exact match"),
        Score("qa_f1_answered", "questions with an answer: token F1"),
        Score("qa_f1_unanswerable", "questions without an answer: correct"),
    )
    headlines = ("qa_f1",)
    survives = frozenset({Change.SYNONYMS, Change.NOISE})

    def is_annotated(self, doc: Doc) -> bool:
        return bool(gold_questions(doc))

    def gold(self, doc: Doc) -> Dict[str, Any]:
        return {question: sorted(set(gold_texts(doc, key))) for key, question in gold_questions(doc).items()}

    def advice(self, docs: Sequence[Doc]) -> List[str]:
        """How long answers are, if the default cannot reach them; and whether none, or all, of the questions have one."""
        lengths = sorted(len(span) for doc in docs for span in doc.spans.get(GOLD, ()))
        beyond = sum(length > MAX_ANSWER_TOKENS for length in lengths)
        advice = []
        if beyond:
            enough = lengths[math.ceil(COVERED * len(lengths)) - 1]
            advice.append(
                f"{beyond:,} of {len(lengths):,} answers are longer than the default of {MAX_ANSWER_TOKENS} tokens and cannot be "
                f"predicted: set max_answer_tokens = {max(enough, MAX_ANSWER_TOKENS)} in the head's section"
            )
        unanswered = sum(not gold_texts(doc, key) for doc in docs for key in gold_questions(doc))
        asked = sum(len(gold_questions(doc)) for doc in docs)
        if asked and unanswered in (0, asked):
            advice.append(
                "no question has an answer, so there is nothing to learn"
                if unanswered
                else "every question has an answer, so the head does not learn to find none"
            )
        return advice

    def faults(self, doc: Doc) -> List[str]:
        if GOLD not in doc.spans:
            return []
        known, spans = gold_questions(doc), list(doc.spans[GOLD])
        if not known:  # as `Doc.from_docs` and `Example.from_dict` leave them
            return [f"answers without their questions (doc.spans[{GOLD!r}].attrs['questions']), which are left out"] * len(spans)
        return [
            *(f"answers to a question that doc.spans[{GOLD!r}].attrs['questions'] lacks, which are left out"
              for span in spans if span.id_ not in known),
            *edge_space_faults((span for span in spans if span.id_ in known), "answers"),
        ]  # fmt: skip

    def annotate(self, doc: Doc, record: Record, report: Report) -> None:
        if record.questions is not None:
            set_gold_questions(doc, record, record.questions, report)
            report.count("documents with questions")

    def to_record(self, doc: Doc, record: Record) -> None:
        """The gold questions; without any, those that a pipeline has answered."""
        if gold_questions(doc):
            record.questions = [
                Question(key, text, [GoldAnswer(span.start_char, span.text) for span in doc.spans[GOLD] if span.id_ == key])
                for key, text in gold_questions(doc).items()
            ]
        else:
            record.questions = [
                Question(key, answer.question, [] if answer.span is None else [GoldAnswer(answer.span.start_char, answer.text)])
                for key, answer in predicted_answers(doc).items()
            ] or None

    def signature(self, doc: Doc) -> Tuple[str, ...]:
        answers = [(span.start, span.end, span.id_) for span in doc.spans[GOLD]] if GOLD in doc.spans else []
        return (str(answers), *gold_questions(doc).values())

    def encodings(self, doc: Doc) -> Set[Optional[str]]:
        return set(asked_questions(doc).values())

    def copy_inputs(self, reference: Doc, doc: Doc) -> None:
        questions = asked_questions(reference)
        if questions and Doc.has_extension("questions"):  # which a loaded question answering head has installed
            doc._.questions = questions

    def ask(self, doc: Doc, labelled: Sequence[Doc], rng: Random) -> None:
        """Some of the labelled documents' questions, each as likely as it is frequent there; without any, questions about words
        of the text itself.
        """
        if gold_questions(doc):
            return
        known = [question for other in labelled for question in gold_questions(other).values()]
        drawn = [rng.choice(known) for _ in range(OPEN_QUESTIONS)] if known else cloze_questions(doc, rng, OPEN_QUESTIONS)
        if drawn:
            set_open_questions(doc, list(dict.fromkeys(drawn)))

    def suggested_settings(self, docs: Sequence[Doc]) -> Dict[str, Any]:
        """Answers as long as the longest, and a threshold where some questions have none."""
        longest = max((len(span) for doc in docs for span in doc.spans[GOLD]), default=1)
        has_unanswerable = any(not gold_texts(doc, key) for doc in docs for key in gold_questions(doc))
        return {"max_answer_tokens": max(10, -(-longest // 10) * 10), "tune_threshold": has_unanswerable}

    def transfer(self, doc: Doc, new: Doc, moved: Any) -> None:
        if GOLD not in doc.spans:
            return
        group = doc.spans[GOLD]
        spans = [span for answer in group if (span := moved.span(answer, new)) is not None]
        attrs = dict(group.attrs)
        if "answers" in attrs:  # a written answer that is no longer in the text is left to the spans
            attrs["answers"] = {
                question: [text for text in texts if text in new.text] for question, texts in attrs["answers"].items()
            }
        new.spans[GOLD] = SpanGroup(new, name=GOLD, spans=spans, attrs=attrs)

    def span_keys(self, doc: Doc) -> Set[str]:
        return {GOLD} & set(doc.spans)

    def trivial_baseline(self, train: Sequence[Doc], test: Sequence[Doc]) -> Dict[str, Tuple[float, str]]:
        """The better of two: the first sentence as every answer, or never an answer."""
        first_sentences, golds = {}, {}
        for i, doc in enumerate(test):
            for question_id in gold_questions(doc):
                golds[f"{i}/{question_id}"] = gold_texts(doc, question_id)
                first_sentences[f"{i}/{question_id}"] = doc.text.split(". ")[0]
        if not golds:
            return {}
        candidates = {"first sentence": score_answers(first_sentences, golds), "never an answer": score_answers({}, golds)}
        best = max(candidates, key=lambda name: candidates[name]["qa_f1"])
        return {key: (candidates[best][key], best) for key in ("qa_f1", "qa_em")}

    def usage(self, component: str) -> str:
        return 'doc._.ask("Which part?").text  # "" where the text does not answer'

    def show(self, doc: Doc, component: str) -> List[str]:
        return [f"{answer.question}  {answer.text or NO_ANSWER}" for answer in doc._.answers.values()]

    def show_gold(self, doc: Doc) -> List[str]:
        """The answers, in the order of the questions in `show`."""
        return [" | ".join(dict.fromkeys(gold_texts(doc, key))) or NO_ANSWER for key in gold_questions(doc)]

    def probe_items(self, doc: Doc) -> List[ProbeItem]:
        """For each question, which tokens are in an answer."""
        items = []
        for key, question in gold_questions(doc).items():
            inside = [False] * len(doc)
            for span in doc.spans[GOLD]:
                if span.id_ == key:
                    inside[span.start : span.end] = [True] * len(span)
            items.append(ProbeItem(question, inside))
        return items
