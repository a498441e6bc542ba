"""The moves of a narrative, in which order they come, and the frame of each."""

from __future__ import annotations

import random

from sample_corpus import context_frames, frames
from sample_corpus.scenario import Scenario

SUPPORT_FRACTION = 0.4  # of documents that have a sentence of supporting evidence


MOVES: dict[str, list[str]] = {
    "report": frames.REPORT,
    "decisive": frames.DECISIVE,
    "contrast": frames.CONTRAST,
    "out": context_frames.RULED_OUT,
    "out2": context_frames.RULED_OUT_TWO,
    "history": context_frames.HISTORY,
    "nffhistory": context_frames.HISTORY_NFF,
    "note": context_frames.NOTE,
    "trouble": context_frames.TROUBLESHOOT,
    "mel": context_frames.MEL,
    "fix": context_frames.FIX,
    "test": context_frames.TEST,
    "precaution": context_frames.PRECAUTION,
    "donor": context_frames.DONOR,
    "color": context_frames.COLOR,
}
TERSE = {
    "report": frames.REPORT_TERSE,
    "decisive": frames.DECISIVE_TERSE,
    "out": context_frames.RULED_OUT_TERSE,
    "fix": context_frames.FIX_TERSE,
}
ORDERS_TEXT = """
    color history nffhistory report mel trouble note out2 out
        contrast decisive specific support fix test precaution donor;
    contrast decisive specific report out out2 history nffhistory support
        fix precaution test trouble mel note donor color;
    history nffhistory report trouble decisive specific contrast out out2
        support fix test precaution mel donor note color;
    fix report history nffhistory trouble out out2 decisive specific
        contrast support precaution test mel donor note color;
    out out2 report contrast decisive specific history nffhistory trouble
        support fix test precaution mel note donor color;
    mel donor report nffhistory trouble note out out2 history
        support fix test decisive specific contrast precaution color;
    color trouble report out out2 contrast decisive specific support
        fix precaution test history nffhistory note mel donor;
    report decisive specific contrast support fix test out out2
        history nffhistory note precaution mel trouble donor color;
    note report history out out2 fix trouble precaution test
        nffhistory mel donor color contrast decisive specific support;
    precaution history report out out2 contrast decisive specific nffhistory
        trouble support fix test mel donor note color
"""
ORDERS = [order.split() for order in ORDERS_TEXT.split(";")]


def choose_moves(rng: random.Random, label: str) -> list[str]:
    """The moves of a document: a decisive one, something ruled out, and optional others."""
    nff = label == "NO_FAULT_FOUND"
    decisive = "specific" if nff else rng.choices(("decisive", "specific", "contrast"), (25, 50, 25))[0]
    moves = [decisive]
    if decisive != "contrast" or rng.random() < 0.5:
        moves.append(rng.choices(("out", "out2"), (76, 24))[0])
    probabilities = {
        "report": 0.92, "support": SUPPORT_FRACTION, "history": 0.66, "nffhistory": 0.12 if nff else 0.25,
        "note": 0.14, "trouble": 0.4, "mel": 0.2, "fix": 0.0 if nff else 0.72,
        "test": 0.0 if nff else 0.1, "precaution": 0.6 if nff else 0.25, "donor": 0.12,
        "color": 0.4 if nff else 0.22,
    }  # fmt: skip
    moves += [move for move, probability in probabilities.items() if rng.random() < probability]
    return moves


def order_moves(rng: random.Random, moves: list[str]) -> list[str]:
    """Sort by one of the plans, with noise; a test or precaution never opens the document."""
    order = rng.choice(ORDERS) if rng.random() < 0.75 else ORDERS[0]
    moves = sorted(moves, key=lambda move: order.index(move) + rng.gauss(0, 1.2))
    while moves[0] in ("test", "precaution", "donor", "note", "trouble", "support") and len(moves) > 1:
        moves.append(moves.pop(0))
    return moves


def choose_frame(rng: random.Random, move: str, scene: Scenario, terse: bool) -> str:
    """A frame for the move."""
    if move == "specific":
        return rng.choice(frames.DECISIVE_BY_CLASS[scene.label])
    if move == "support":
        return rng.choice(frames.SUPPORT_BY_CLASS[scene.label])
    if terse and move in TERSE and rng.random() < 0.75:
        return rng.choice(TERSE[move])
    return rng.choice(MOVES[move])
