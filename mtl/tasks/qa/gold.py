"""How questions and their answers are annotated in a Doc.

`doc.spans["qa"]` holds the answer spans, each with its question's id as `span.id_`; its attrs hold "questions" {id: text} and,
where the answers are known as they were written, "answers" {id: texts}. A question without a span has no answer in the text.

Questions whose answers nobody has annotated, for a teacher to answer, are in the attrs of `doc.spans["open_questions"]`.
"""

from typing import Dict, List, Optional, Sequence, Tuple

from spacy.tokens import Doc, Span, SpanGroup

from mtl.data.docs import trimmed_offsets, widened_span
from mtl.data.records import GoldAnswer, Question, Record, Report
from mtl.errors import UserError

GOLD, OPEN = "qa", "open_questions"  # keys of doc.spans
REPAIR_DISTANCE = 48  # characters on each side of an offset in which an answer's text is looked for


def gold_questions(doc: Doc) -> Dict[str, str]:
    """The questions that the document is annotated for, by id."""
    return dict(doc.spans[GOLD].attrs.get("questions", {})) if GOLD in doc.spans else {}


def asked_questions(doc: Doc) -> Dict[str, str]:
    """The questions of the document, by id: those that it is annotated for, or else the open ones."""
    return gold_questions(doc) or (dict(doc.spans[OPEN].attrs.get("questions", {})) if OPEN in doc.spans else {})


def set_open_questions(doc: Doc, questions: Sequence[str]) -> None:
    """Ask questions of a document that is not annotated for any."""
    doc.spans[OPEN] = SpanGroup(doc, name=OPEN, attrs={"questions": {str(i): text for i, text in enumerate(questions)}})


def gold_texts(doc: Doc, question_id: str) -> List[str]:
    """The gold answers to a question as they were written, or else as the spans give them."""
    group = doc.spans[GOLD]
    return group.attrs.get("answers", {}).get(question_id) or [span.text for span in group if span.id_ == question_id]


def set_gold_questions(doc: Doc, record: Record, questions: Sequence[Question], report: Report) -> None:
    """Annotate a document with questions and answers given by character offset.

    A wrong offset is repaired if the answer's text is close by; otherwise the answer is left out. Both are counted.

    Raises:
        UserError: An empty question, or an id that is used twice.
    """
    texts: Dict[str, str] = {}
    answers: Dict[str, List[str]] = {}
    spans: List[Span] = []
    for question in questions:
        if not question.text.strip():
            raise UserError(f"{record.where}: question {question.id!r} is empty")
        if question.id in texts:
            raise UserError(f"{record.where}: the question id {question.id!r} is used twice")
        located = [place for answer in question.answers if (place := _locate(doc.text, answer, record, report)) is not None]
        offsets = _without_edge_space(doc.text, located, record, report)
        if question.answers and not offsets:
            report.count("questions left out because none of their answers is in the text")
            continue
        texts[question.id] = question.text
        answers[question.id] = [doc.text[start:end] for start, end in offsets]
        report.count("questions" if offsets else "questions without an answer")
        report.largest("words in the longest question", len(question.text.split()))
        for start, end in offsets:
            span = widened_span(doc, start, end, label="answer", span_id=question.id)
            report.largest("tokens in the longest answer", len(span))
            if (span.start_char, span.end_char) != (start, end):
                report.count("answers widened to whole tokens")
            spans.append(span)
    doc.spans[GOLD] = SpanGroup(doc, name=GOLD, spans=spans, attrs={"questions": texts, "answers": answers})


def _without_edge_space(text: str, places: Sequence[Tuple[int, int]], record: Record, report: Report) -> List[Tuple[int, int]]:
    """The answers' offsets without white space at the edges, and without answers that are nothing else."""
    trimmed = []
    for start, end in places:
        first, last = trimmed_offsets(text, start, end)
        if first == last:
            report.note("answers of white space left out", f"{record.where}: answer {text[start:end]!r}")
            continue
        if (first, last) != (start, end):
            report.note("answers trimmed of white space", f"{record.where}: answer {text[start:end][:60]!r}")
        trimmed.append((first, last))
    return trimmed


def _locate(text: str, answer: GoldAnswer, record: Record, report: Report) -> Optional[Tuple[int, int]]:
    """The answer's offsets: as given, or the nearest place within `REPAIR_DISTANCE` that has its text."""
    size = len(answer.text)
    if size and text[answer.start : answer.start + size] == answer.text:
        return answer.start, answer.start + size
    low = max(0, answer.start - REPAIR_DISTANCE)
    window = text[low : answer.start + size + REPAIR_DISTANCE]
    starts = [low + i for i in range(len(window)) if size and window.startswith(answer.text, i)]
    if starts:
        start = min(starts, key=lambda s: abs(s - answer.start))
        report.note(
            "answer offsets repaired",
            f"{record.where}: answer {answer.text[:60]!r} is at {start}, not at {answer.start}; repaired",
        )
        return start, start + size
    report.note(
        "answers left out because their text is not near the offset",
        f"{record.where}: answer {answer.text[:60]!r} is not at {answer.start}, where the text is "
        f"{text[answer.start : answer.start + min(size, 60)]!r}; left out",
    )
    return None
