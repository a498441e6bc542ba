"""The labelled splits as rows of JSON Lines."""

from __future__ import annotations

import random

from sample_corpus import lexicon
from sample_corpus.documents import Document, make_document
from sample_corpus.questions import make_questions

MISSING_TRAIN = 0.20  # fraction of train documents that lack each annotation
MISSING_EVAL = 5  # dev and test documents that lack one annotation, per split


def missing_keys(rng: random.Random, split: str, size: int) -> list[set[str]]:
    """For each document the annotations that it lacks, never all three."""
    tasks = ("label", "entities", "qas")
    lacking: list[set[str]] = [set() for _ in range(size)]
    if split != "train":
        for index in rng.sample(range(size), MISSING_EVAL):
            lacking[index].add(rng.choice(tasks))
        return lacking
    for task in tasks:
        free = [i for i in range(size) if len(lacking[i]) < 2]
        for index in rng.sample(free, round(size * MISSING_TRAIN)):
            lacking[index].add(task)
    return lacking


def to_row(doc: Document, doc_id: str, qas: list[dict[str, object]], lacking: set[str]) -> dict[str, object]:
    """The JSON Lines row of a document, without the annotations that it lacks."""
    row: dict[str, object] = {
        "id": doc_id,
        "text": doc.text,
        "label": doc.label,
        "entities": [{"start": s, "end": e, "label": t} for t, s, e in doc.entities],
        "qas": [{"id": f"{doc_id}-q{n}", **qa} for n, qa in enumerate(qas, 1)],
    }
    return {key: value for key, value in row.items() if key not in lacking}


def make_split(rng: random.Random, split: str, size: int, first_id: int, seen_texts: set[str]) -> list[dict[str, object]]:
    """The rows of a split, with balanced classes and no text seen before."""
    labels = [lexicon.CLASSES[i % len(lexicon.CLASSES)] for i in range(size)]
    rng.shuffle(labels)
    rows: list[dict[str, object]] = []
    for label, lacking in zip(labels, missing_keys(rng, split, size), strict=True):
        while True:
            doc = make_document(rng, label, split)
            qas = make_questions(rng, doc)
            if len(qas) >= 2 and doc.text.lower() not in seen_texts:
                break
        seen_texts.add(doc.text.lower())
        rows.append(to_row(doc, f"MX-{first_id + len(rows):04d}", qas, lacking))
    return rows
