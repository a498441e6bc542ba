"""Questions about a document, with and without an answer."""

from __future__ import annotations

import random
import re

from sample_corpus import question_frames
from sample_corpus.documents import Document
from sample_corpus.sentences import expand, fill

UNANSWERABLE = 0.24  # fraction of questions without an answer
FIRST_SENTENCE_FRACTION = 0.5  # of answers in the first sentence that are accepted


def answer_span(rng: random.Random, doc: Document, kind: str) -> tuple[int, int] | None:
    """(start, end) of the answer; None if there is not exactly one."""
    marks = [m for m in doc.marks if m[0] == kind]
    if len({doc.text[m[1] : m[2]].lower() for m in marks}) != 1:
        return None
    if kind == "ruled" and len({m[1] for m in doc.marks if m[0] == "ruled"}) != 1:
        return None
    if kind in ("fixref", "fixpart", "fix") and (doc.label == "NO_FAULT_FOUND" or "fix" not in doc.frames):
        return None
    later = [m for m in marks if m[3] > 0] or marks
    return rng.choice(later)[1:3]


def unanswerable_kinds(doc: Document) -> list[str]:
    """Question kinds that this text raises but does not answer."""
    keys = {m[0] for m in doc.marks}
    refs = any(label == "REF" for label, *_ in doc.entities)
    nff, fixed = doc.label == "NO_FAULT_FOUND", "fix" in doc.frames
    decisive = "".join(doc.frames.get(m, "") for m in ("decisive", "specific", "contrast"))
    rules = {
        "cause": nff,
        "ruled": not keys & {"ruled"} and "note" not in doc.frames,
        "loc": "loc" not in keys and (nff or not re.search(r"\$(P|E|Q)\b|test|shop|bench", decisive))
        and doc.label != "ELECTRICAL" and "otherloc" in keys,
        "fixpart": not fixed and not nff and keys & {"precpart", "histpart"},
        "fix": "bystander" in keys and ("$Q" in doc.frames.get("trouble", "")),
        "fixref": "fixref" not in keys and not nff and refs,
        "phase": "phase" not in keys and "report" in doc.frames,
        "hist": "hist" not in keys and "nffhistory" not in doc.frames,
    }  # fmt: skip
    return [kind for kind, holds in rules.items() if holds]


KIND_WEIGHTS = {"cause": 3, "ruled": 3, "loc": 3, "fixpart": 2, "fix": 2, "fixref": 2, "notice": 1.5, "phase": 1.5, "hist": 2}


def question_text(rng: random.Random, doc: Document, kind: str, answerable: bool) -> str:
    """A wording of the question."""
    slots = dict(doc.scene.slots)
    if doc.suspects:
        slots["OUT"] = doc.suspects[0]
    if kind == "fix" and not answerable:
        slots["FP"] = slots["Q"]
    return fill(expand(rng, rng.choice(question_frames.QUESTIONS[kind])).replace(" ?", "?").replace("  ", " "), slots, plain=True)


def make_questions(rng: random.Random, doc: Document) -> list[dict[str, object]]:
    """Two to four questions of different kinds, about a quarter of them without an answer."""
    spans = {kind: span for kind in question_frames.QUESTIONS if (span := answer_span(rng, doc, kind))}
    spans = {k: s for k, s in spans.items() if s[0] > doc.bounds[0] or rng.random() < FIRST_SENTENCE_FRACTION}
    missing = unanswerable_kinds(doc)
    rows: list[dict[str, object]] = []
    for _ in range(rng.choice((3, 3, 4))):
        without = missing and (not spans or rng.random() < UNANSWERABLE)
        pool = list(missing) if without else list(spans)
        if not pool:
            break
        kind = rng.choices(pool, [KIND_WEIGHTS[k] for k in pool])[0]
        start, end = (0, 0) if without else spans[kind]
        answers = [] if without else [{"text": doc.text[start:end], "answer_start": start}]
        rows.append({"question": question_text(rng, doc, kind, not without), "answers": answers})
        spans.pop(kind, None)
        missing = [k for k in missing if k != kind]
    return rows
