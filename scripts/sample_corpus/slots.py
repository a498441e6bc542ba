"""Filled slots, and how a lexicon form is drawn: the forms held out from the training split, articles, numbers, references."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sample_corpus import lexicon

HELD_OUT_FRACTION = 0.5  # of the slots of dev and test documents that are drawn from the held-out forms


@dataclass(frozen=True)
class Slot:
    """A filled slot. The `prefix` stays outside of the annotation; `mark` names the answer that the slot provides."""

    text: str
    label: str = ""
    mark: str = ""
    prefix: str = ""

    def markup(self, article: bool = True) -> str:
        """The text in tags of its label and mark, with or without the prefix."""
        inner = f"<{self.label}>{self.text}</{self.label}>" if self.label else self.text
        inner = f"<{self.mark}>{inner}</{self.mark}>" if self.mark else inner
        return (self.prefix if article else "") + inner


def is_held_out(form: str) -> bool:
    """Whether the form never occurs in train annotations, as is so for about a quarter of all forms."""
    return zlib.crc32(form.lstrip("-").encode()) % 4 == 0


def pick(rng: random.Random, forms: Iterable[str], split: str) -> str:
    """Draw a lexicon form that the split may use."""
    forms = list(forms)
    held_out = [form for form in forms if is_held_out(form)]
    train_forms = [form for form in forms if not is_held_out(form)]
    if split == "domain" or not train_forms:
        return rng.choice(forms)
    if split != "train" and held_out and rng.random() < HELD_OUT_FRACTION:
        return rng.choice(held_out)
    return rng.choice(train_forms)


def article_for(phrase: str) -> str:
    """The indefinite article with a space after it; "" for phrases that start with "-"."""
    if phrase.startswith("-"):
        return ""
    first = phrase.split()[0]
    if first.isupper() or re.match(r"[A-Z]+\d", first):
        return "an " if first[0] in "AEFHILMNORSX" else "a "
    return "an " if first[0].lower() in "aeio" or first.startswith(("un", "O-")) else "a "


def noun_slot(phrase: str, label: str, mark: str = "") -> Slot:
    """A noun phrase with its article as the prefix."""
    return Slot(phrase.lstrip("-"), label, mark, article_for(phrase))


def numbers(rng: random.Random, text: str) -> str:
    """Fill the number placeholders #HI (flight level), #LO, #MIN, #K and #SMALL."""
    makers: dict[str, Callable[[], str]] = {
        "HI": lambda: str(rng.randrange(140, 400, 10)),
        "LO": lambda: str(rng.randrange(500, 9500, 100)),
        "MIN": lambda: str(rng.randint(12, 58)),
        "SMALL": lambda: str(rng.randint(2, 9)),
        "K": lambda: f"{rng.randint(2, 28)},{rng.randrange(100, 1000)}",
    }
    return re.sub(r"#(HI|LO|MIN|SMALL|K)", lambda m: makers[m.group(1)](), text)


def reference(rng: random.Random, ata: str, manual: str) -> str:
    """An invented manual reference of the given kind."""
    sub, subject = rng.randrange(10, 60), rng.choice(("00", "11", "12", "21", "31", "41"))
    if manual == "MEL":
        return f"MEL {ata}-{sub}-{rng.randint(1, 9)}"
    if manual == "FIM":
        return f"{rng.choice(('FIM', 'TSM'))} {ata}-{sub}" + rng.choice(("", f" task {rng.randrange(801, 850)}"))
    if manual == "SB":
        return f"SB {ata}-{rng.randrange(1000, 1200)}"
    if manual == "CMM":
        return f"CMM {ata}-{sub}-{subject}"
    kind = rng.choices(("AMM", "AMM task"), (3, 1))[0]
    return f"{kind} {ata}-{sub}-{subject}"


def tail(rng: random.Random) -> str:
    """An invented registration (no country uses the prefix) or fleet number."""
    if rng.random() < 0.3:
        return f"ship {rng.randrange(201, 990)}"
    return "QX-" + "".join(rng.choice("ABCDEFGHJKLMNPRSTUVWYZ") for _ in range(3))


def aircraft_slot(rng: random.Random, split: str) -> Slot:
    """A type, a registration, or both."""
    roll = rng.random()
    if roll < 0.5:
        return Slot(tail(rng), "AIRCRAFT", "aircraft")
    model = pick(rng, lexicon.TYPES, split)
    if roll < 0.75:
        return Slot(f"{model} {tail(rng)}", "AIRCRAFT", "aircraft")
    return Slot(model, "AIRCRAFT", "aircraft", "the ")
