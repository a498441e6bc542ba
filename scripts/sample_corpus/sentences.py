"""From a sentence frame to marked-up text, and from marked-up text to text and spans."""

from __future__ import annotations

import random
import re

from sample_corpus.scenario import Scenario
from sample_corpus.slots import Slot, numbers

ABBREVIATIONS = {
    "maintenance": "mx", "aircraft": "A/C", "inspection": "insp", "found": "fnd", "with": "w/",
    "without": "w/o", "and": "&", "satisfactory": "satis", "mechanic": "mech", "mechanics": "mechs",
    "normal": "norm", "engineering": "engrg", "checked": "ckd", "previous": "prev", "report": "rpt",
    "first officer": "F/O", "carried out": "c/out", "departure": "dep", "approximately": "approx",
    "troubleshooting": "T/S", "symptom": "sympt",
}  # fmt: skip


def expand(rng: random.Random, text: str) -> str:
    """Resolve {a|b} alternatives, innermost first."""
    while "{" in text:
        text = re.sub(r"\{([^{}]*)\}", lambda m: rng.choice(m.group(1).split("|")), text)
    return text


def clip_style(rng: random.Random, text: str) -> str:
    """Logbook style, before the slots are filled: drop most articles and abbreviate some words."""
    text = re.sub(r"\b([Tt]he|[Aa]n?) (?=[a-z$])", lambda m: "" if rng.random() < 0.6 else m.group(0), text)
    for word, short in ABBREVIATIONS.items():
        if rng.random() < 0.6:
            text = re.sub(rf"(?<![$\w]){word}(?!\w)", short, text)
    return text


def fill(text: str, slots: dict[str, Slot], plain: bool = False, bare: bool = False) -> str:
    """Fill the slots. $NAMEN is the form of $NAME without its article; `bare` drops all articles of faults and aircraft."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        article = name in slots and not (bare and slots[name].label in ("FAULT", "AIRCRAFT"))
        slot = slots[name] if name in slots else slots[name.removesuffix("N")]
        return slot.text if plain else slot.markup(article)

    return re.sub(r"\$([A-Z]+[23]?N?)", value, text)


def capitalize(markup: str) -> str:
    """Capitalize the first letter, which may come after tags."""
    return re.sub(r"^((?:<[^>]+>|[\"(])*)([a-z])", lambda m: m.group(1) + m.group(2).upper(), markup)


def sentence(rng: random.Random, frame: str, scene: Scenario, terse: bool = False) -> str:
    """The marked-up sentence of a frame."""
    text = numbers(rng, expand(rng, frame))
    text = clip_style(rng, text) if terse else text
    text = fill(text, scene.slots, bare=terse and rng.random() < 0.7)
    return capitalize(re.sub(r" +([,.;:?])", r"\1", re.sub(r" {2,}", " ", text)))


def parse(markup: str) -> tuple[str, list[tuple[str, int, int]]]:
    """The text without tags, and (tag, start, end) for each pair of tags."""
    text, spans, stack = "", [], []
    for piece in re.split(r"(</?[A-Za-z]+>)", markup):
        if not re.fullmatch(r"</?[A-Za-z]+>", piece):
            text += piece
        elif piece.startswith("</"):
            tag, start = stack.pop()
            spans.append((tag, start, len(text)))
        else:
            stack.append((piece[1:-1], len(text)))
    return text, spans
