"""Annotated documents, composed sentence by sentence."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from sample_corpus.plans import choose_frame, choose_moves, order_moves
from sample_corpus.scenario import Scenario, fresh_suspects, make_scenario
from sample_corpus.sentences import parse, sentence
from sample_corpus.slots import Slot

ENTITY_LABELS = ("PART", "FAULT", "ACTION", "AIRCRAFT", "LOCATION", "REF")


@dataclass
class Document:
    """A document with its entities and everything that questions are made from."""

    text: str
    label: str
    entities: list[tuple[str, int, int]]
    marks: list[tuple[str, int, int, int]]  # answer key, start, end, sentence index
    frames: dict[str, str]  # move -> frame used
    bounds: list[int]  # end offset of each sentence
    scene: Scenario
    suspects: list[Slot]


def add_typo(rng: random.Random, text: str, spans: list[tuple[str, int, int]]) -> str:
    """Swap two inner letters of a long lower-case word outside of all annotation."""
    words = [m for m in re.finditer(r"\b[a-z]{6,}\b", text) if not any(s < m.end() and m.start() < e for _, s, e in spans)]
    if not words:
        return text
    at = (word := rng.choice(words)).start() + rng.randint(1, len(word.group()) - 3)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def make_document(rng: random.Random, label: str, split: str) -> Document:
    """An annotated report, drawn again until its length is right."""
    while True:
        scene = make_scenario(rng, label, split)
        moves = order_moves(rng, choose_moves(rng, label))
        doc = compose(rng, scene, moves, terse=rng.random() < 0.28)
        if 45 <= len(doc.text.split()) <= 100 and 3 <= len(moves) <= 7:
            return doc


def compose(rng: random.Random, scene: Scenario, moves: list[str], terse: bool) -> Document:
    """A document of one sentence per move."""
    text, entities, marks, used, bounds, suspects = "", [], [], {}, [], []
    classes: set[str] = set()
    for index, move in enumerate(moves):
        if move in ("out", "out2", "contrast"):
            drawn = fresh_suspects(rng, scene, classes)
            classes.update(drawn if move == "out2" else drawn[:1])
            suspects.append(scene.slots["OUT"])
        if move == "test" and any(key == "test" for key, *_ in marks):
            continue
        used[move] = choose_frame(rng, move, scene, terse)
        piece, spans = parse(sentence(rng, used[move], scene, terse))
        offset = len(text) + 1 if text else 0
        text = f"{text} {piece}" if text else piece
        entities += [(t, s + offset, e + offset) for t, s, e in spans if t in ENTITY_LABELS]
        marks += [(t, s + offset, e + offset, index) for t, s, e in spans if t not in ENTITY_LABELS]
        bounds.append(len(text))
    if rng.random() < 0.2:
        text = add_typo(rng, text, entities + [m[:3] for m in marks])
    if terse and rng.random() < 0.2:
        text = text.upper()
    return Document(text, scene.label, sorted(entities, key=lambda x: x[1]), marks, used, bounds, scene, suspects)
