"""Write the synthetic aircraft-maintenance corpus next to this file: train/dev/test.jsonl and domain.txt.

Standard library only, deterministic: the same SEED gives the same bytes. Run: python make_corpus.py
"""

from __future__ import annotations

import json
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import frames as F
import genres as G
import lexicon as L

SEED = 20417
SIZES = {"train": 300, "dev": 70, "test": 100}
MISSING_TRAIN = 0.20  # share of train documents lacking each annotation
MISSING_EVAL = 5  # dev/test documents lacking one annotation, per split
HELD_OUT_SHARE = 0.5  # dev/test: probability of drawing a slot from the held-out forms
UNANSWERABLE = 0.24
SUPPORT_SHARE = 0.4  # documents with a sentence of supporting evidence
FIRST_SENTENCE_SHARE = 0.5  # how often an answer in the first sentence is accepted
DOMAIN_WORDS = 76_000
DOMAIN_REPORTS = 480
NGRAM = 13
ENTITY_LABELS = ("PART", "FAULT", "ACTION", "AIRCRAFT", "LOCATION", "REF")
HERE = Path(__file__).resolve().parent

ABBREVIATIONS = {
    "maintenance": "mx", "aircraft": "A/C", "inspection": "insp", "found": "fnd", "with": "w/",
    "without": "w/o", "and": "&", "satisfactory": "satis", "mechanic": "mech", "mechanics": "mechs",
    "normal": "norm", "engineering": "engrg", "checked": "ckd", "previous": "prev", "report": "rpt",
    "first officer": "F/O", "carried out": "c/out", "departure": "dep", "approximately": "approx",
    "troubleshooting": "T/S", "symptom": "sympt",
}  # fmt: skip


# --- slots ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Slot:
    """A filled slot: `prefix` stays outside the annotation, `mark` names the answer it provides."""

    text: str
    label: str = ""
    mark: str = ""
    prefix: str = ""

    def markup(self, article: bool = True) -> str:
        inner = f"<{self.label}>{self.text}</{self.label}>" if self.label else self.text
        inner = f"<{self.mark}>{inner}</{self.mark}>" if self.mark else inner
        return (self.prefix if article else "") + inner


def is_held_out(form: str) -> bool:
    """About a quarter of all lexicon forms never occur in train annotations."""
    return zlib.crc32(form.lstrip("-").encode()) % 4 == 0


def pick(rng: random.Random, forms: Iterable[str], split: str) -> str:
    """Draw a lexicon form that the split may use."""
    forms = list(forms)
    held = [form for form in forms if is_held_out(form)]
    kept = [form for form in forms if not is_held_out(form)]
    if split == "domain" or not kept:
        return rng.choice(forms)
    if split != "train" and held and rng.random() < HELD_OUT_SHARE:
        return rng.choice(held)
    return rng.choice(kept)


def article_for(phrase: str) -> str:
    """The indefinite article with a blank, or nothing for phrases that start with "-"."""
    if phrase.startswith("-"):
        return ""
    first = phrase.split()[0]
    if first.isupper() or re.match(r"[A-Z]+\d", first):
        return "an " if first[0] in "AEFHILMNORSX" else "a "
    return "an " if first[0].lower() in "aeio" or first.startswith(("un", "O-")) else "a "


def noun_slot(phrase: str, label: str, mark: str = "") -> Slot:
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
        return f"{rng.choice(('FIM', 'TSM'))} {ata}-{sub}" + rng.choice(
            ("", f" task {rng.randrange(801, 850)}")
        )
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
    roll = rng.random()
    if roll < 0.5:
        return Slot(tail(rng), "AIRCRAFT", "aircraft")
    model = pick(rng, L.TYPES, split)
    if roll < 0.75:
        return Slot(f"{model} {tail(rng)}", "AIRCRAFT", "aircraft")
    return Slot(model, "AIRCRAFT", "aircraft", "the ")


# --- scenario ------------------------------------------------------------------------------------
@dataclass
class Scenario:
    """Everything one document may mention; `slots` maps frame slots to their fillers."""

    label: str
    system: str
    split: str
    kinds: dict[str, str] = field(default_factory=dict)  # slot of a part -> its kind
    slots: dict[str, Slot] = field(default_factory=dict)


def with_side(rng: random.Random, part: str) -> str:
    """Sometimes say which one it is: "left ...", "No. 2 ..."."""
    if rng.random() < 0.5 or re.search(rf"\b({L.UNSIDED})\b", part):
        return part
    return rng.choice(L.SIDES) + part


def part_slots(rng: random.Random, scene: Scenario) -> None:
    """Main part P (also FP when fixed), bystander Q, precaution part QP, history part HP, harness E."""
    system = L.SYSTEMS[scene.system]
    kinds = {part: kind for kind in L.KINDS for part in L.entries(system[kind])}
    usable = [
        p for p, k in kinds.items() if k != "mec" or scene.label not in ("ELECTRICAL", "NO_FAULT_FOUND")
    ]
    main = pick(rng, usable, scene.split)
    others: list[str] = []
    while len(others) < 3:
        other = pick(rng, kinds, scene.split)
        if other not in others and other != main:
            others.append(other)
    names = [with_side(rng, name) for name in (main, *others)]
    scene.kinds = {"P": kinds[main], "QP": kinds[others[1]], "HP": kinds[others[2]]}
    if rng.random() < 0.35:
        names[3], scene.kinds["HP"] = names[0], kinds[main]
    harness = pick(rng, L.HARNESSES, scene.split)
    fixed = harness if scene.label == "ELECTRICAL" and rng.random() < 0.8 else names[0]
    scene.slots |= {
        "P": Slot(names[0], "PART"),
        "E": Slot(harness, "PART"),
        "Q": Slot(names[1], "PART", "bystander"),
        "QP": Slot(names[2], "PART", "precpart"),
        "HP": Slot(names[3], "PART", "histpart"),
        "FP": Slot(fixed, "PART", "fixpart"),
    }


def fault_form(rng: random.Random, scene: Scenario, label: str, generic: float, part: str = "P") -> str:
    """A fault phrase of the class, specific to the part kind or (with that probability) generic."""
    forms = L.entries(L.GENERIC[label] if rng.random() < generic else L.FAULTS[label][scene.kinds[part]])
    sheltered = "elx" if scene.system in L.EXPOSED_SYSTEMS else "elx rot"
    if scene.system in L.INDOOR_SYSTEMS or scene.kinds[part] in sheltered.split():
        forms = [form for form in forms if form.lstrip("-") not in L.OUTDOOR]
    return pick(rng, forms, scene.split)


def action_form(rng: random.Random, scene: Scenario, label: str, part: str) -> str:
    """A corrective action that fits the class and the kind of part (or a wiring item)."""
    forms = L.entries(L.ACTIONS[label])
    if scene.slots[part] != scene.slots["E"]:
        unfit = L.UNFIT_ACTIONS[scene.kinds["HP" if part == "HP" else "P"]] + L.WIRING_ONLY
        forms = [form for form in forms if form not in unfit]
    return pick(rng, forms, scene.split)


def other_class(rng: random.Random, *taken: str) -> str:
    """A class with a cause that is not taken; if all are, one that differs from the first taken."""
    causes = L.CLASSES[:4]
    return rng.choice([c for c in causes if c not in taken] or [c for c in causes if c != taken[0]])


def cause_slots(rng: random.Random, scene: Scenario) -> None:
    """Confirmed cause, history cause and general note; the ruled-out ones are drawn per sentence."""
    if scene.label != "NO_FAULT_FOUND":
        form = fault_form(rng, scene, scene.label, generic=0.08)
        scene.slots["CAUSE"] = noun_slot(form, "FAULT", "cause")
    history = other_class(rng, scene.label) if rng.random() < 0.85 else other_class(rng)
    scene.slots["HIST"] = noun_slot(fault_form(rng, scene, history, 0.15, "HP"), "FAULT", "hist")
    scene.slots["HA"] = Slot(action_form(rng, scene, history, "HP"), "ACTION", "histact")
    note = fault_form(rng, scene, other_class(rng, scene.label), 0.4)
    scene.slots["NOTE"] = noun_slot(note, "FAULT")
    fresh_suspects(rng, scene, set())


def fresh_suspects(rng: random.Random, scene: Scenario, used: set[str]) -> tuple[str, str]:
    """Draw OUT and OUT2 from two classes other than the gold one, and BY, a check that fits OUT."""
    first = other_class(rng, scene.label, *used)
    second = other_class(rng, scene.label, first, *used)
    while second == first:
        second = other_class(rng, scene.label)
    out, out2 = (fault_form(rng, scene, c, 0.45) for c in (first, second))
    scene.slots["OUT"] = noun_slot(out, "FAULT", "ruled")
    scene.slots["OUT2"] = noun_slot(out2, "FAULT", "ruled")
    scene.slots["BY"] = Slot(pick(rng, L.entries(L.MEANS[first]), scene.split), mark="ruledby")
    return first, second


def context_slots(rng: random.Random, scene: Scenario) -> None:
    """Symptom, phase, reporter, aircraft, places, references, actions, test and dates."""
    system, split = L.SYSTEMS[scene.system], scene.split
    ground = rng.random() < 0.25
    crew = L.REPORTERS + (L.CABIN_REPORTERS if scene.system in L.CABIN_SYSTEMS else [])
    places: list[str] = []
    while len(places) < 3:
        places.append(pick(rng, [x for x in L.entries(system["locs"]) if x not in places], split))
    donor = tail(rng)
    tests = L.TESTS + 2 * L.entries(L.SYSTEM_TESTS[scene.system])
    ata = system["ata"]

    def place_slot(form: str, mark: str) -> Slot:
        preposition, name = form.split("|")
        return Slot(name, "LOCATION", mark, preposition + " ")

    scene.slots |= {
        "Y": noun_slot(pick(rng, L.entries(system["symptoms"]), split), "FAULT", "notice"),
        "PH": Slot(numbers(rng, rng.choice(L.GROUND_PHASES if ground else L.PHASES)), mark="phase"),
        "WHO": Slot(rng.choice(L.GROUND_REPORTERS if ground else crew), mark="reporter"),
        "AC": aircraft_slot(rng, split),
        "AC2": Slot(donor, "AIRCRAFT", "otheraircraft"),
        "DON": Slot(donor, "AIRCRAFT", "donor"),
        "TYPE": Slot(rng.choice(L.TYPES)),
        "LOC": place_slot(places[0], "loc"),
        "LOC2": place_slot(places[1], "otherloc"),
        "LOC3": place_slot(places[2], "otherloc"),
        "FIX": Slot(action_form(rng, scene, scene.label, "FP"), "ACTION", "fix"),
        "QA": Slot(pick(rng, L.entries(L.PRECAUTION_ACTIONS[scene.kinds["QP"]]), split), "ACTION", "precact"),
        "REF": Slot(reference(rng, ata, "AMM"), "REF", "fixref"),
        "REFT": Slot(reference(rng, ata, "AMM"), "REF", "checkref"),
        "REF2": Slot(reference(rng, rng.choice(("12", "20", ata)), "AMM"), "REF", "precref"),
        "TSREF": Slot(reference(rng, ata, "FIM"), "REF", "tsref"),
        "MEL": Slot(reference(rng, ata, "MEL"), "REF", "melref"),
        "SB": Slot(reference(rng, ata, "SB"), "REF"),
        "CMM": Slot(reference(rng, ata, "CMM"), "REF"),
        "WHEN": Slot(numbers(rng, rng.choice(L.WHENS)), mark="histwhen"),
        "TEST": Slot(numbers(rng, rng.choice(tests)), mark="test"),
    }


def make_scenario(rng: random.Random, label: str, split: str) -> Scenario:
    scene = Scenario(label, rng.choice(list(L.SYSTEMS)), split)
    part_slots(rng, scene)
    cause_slots(rng, scene)
    context_slots(rng, scene)
    return scene


# --- sentences -----------------------------------------------------------------------------------
def expand(rng: random.Random, text: str) -> str:
    """Resolve {a|b} alternatives, innermost first."""
    while "{" in text:
        text = re.sub(r"\{([^{}]*)\}", lambda m: rng.choice(m.group(1).split("|")), text)
    return text


def clip_style(rng: random.Random, text: str) -> str:
    """Logbook style: drop most articles, abbreviate some words (before the slots are filled)."""
    text = re.sub(r"\b([Tt]he|[Aa]n?) (?=[a-z$])", lambda m: "" if rng.random() < 0.6 else m.group(0), text)
    for word, short in ABBREVIATIONS.items():
        if rng.random() < 0.6:
            text = re.sub(rf"(?<![$\w]){word}(?!\w)", short, text)
    return text


def fill(text: str, slots: dict[str, Slot], plain: bool = False, bare: bool = False) -> str:
    """Put the slots in; $NAMEN is the form without its article, `bare` drops articles everywhere."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        article = name in slots and not (bare and slots[name].label in ("FAULT", "AIRCRAFT"))
        slot = slots[name] if name in slots else slots[name.removesuffix("N")]
        return slot.text if plain else slot.markup(article)

    return re.sub(r"\$([A-Z]+[23]?N?)", value, text)


def capitalize(markup: str) -> str:
    """Upper-case the first letter, which may stand behind tags."""
    return re.sub(r"^((?:<[^>]+>|[\"(])*)([a-z])", lambda m: m.group(1) + m.group(2).upper(), markup)


def sentence(rng: random.Random, frame: str, scene: Scenario, terse: bool = False) -> str:
    text = numbers(rng, expand(rng, frame))
    text = clip_style(rng, text) if terse else text
    text = fill(text, scene.slots, bare=terse and rng.random() < 0.7)
    return capitalize(re.sub(r" +([,.;:?])", r"\1", re.sub(r" {2,}", " ", text)))


def parse(markup: str) -> tuple[str, list[tuple[str, int, int]]]:
    """Strip the tags; return the text and (tag, start, end) for each."""
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


# --- narrative plans -----------------------------------------------------------------------------
MOVES: dict[str, list[str]] = {
    "report": F.REPORT, "decisive": F.DECISIVE, "contrast": F.CONTRAST, "out": F.RULED_OUT,
    "out2": F.RULED_OUT_TWO, "history": F.HISTORY, "nffhistory": F.HISTORY_NFF, "note": F.NOTE,
    "trouble": F.TROUBLESHOOT, "mel": F.MEL, "fix": F.FIX, "test": F.TEST, "precaution": F.PRECAUTION,
    "donor": F.DONOR, "color": F.COLOR,
}  # fmt: skip
TERSE = {
    "report": F.REPORT_TERSE, "decisive": F.DECISIVE_TERSE, "out": F.RULED_OUT_TERSE, "fix": F.FIX_TERSE,
}  # fmt: skip
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
    """Which moves the document makes: a decisive one, something ruled out, and optional others."""
    nff = label == "NO_FAULT_FOUND"
    decisive = "specific" if nff else rng.choices(("decisive", "specific", "contrast"), (25, 50, 25))[0]
    moves = [decisive]
    if decisive != "contrast" or rng.random() < 0.5:
        moves.append(rng.choices(("out", "out2"), (76, 24))[0])
    chances = {
        "report": 0.92, "support": SUPPORT_SHARE, "history": 0.66, "nffhistory": 0.12 if nff else 0.25,
        "note": 0.14, "trouble": 0.4, "mel": 0.2, "fix": 0.0 if nff else 0.72,
        "test": 0.0 if nff else 0.1, "precaution": 0.6 if nff else 0.25, "donor": 0.12,
        "color": 0.4 if nff else 0.22,
    }  # fmt: skip
    moves += [move for move, chance in chances.items() if rng.random() < chance]
    return moves


def order_moves(rng: random.Random, moves: list[str]) -> list[str]:
    """Sort by one of the plans, with noise; a test or precaution never opens the document."""
    order = rng.choice(ORDERS) if rng.random() < 0.75 else ORDERS[0]
    moves = sorted(moves, key=lambda move: order.index(move) + rng.gauss(0, 1.2))
    while moves[0] in ("test", "precaution", "donor", "note", "trouble", "support") and len(moves) > 1:
        moves.append(moves.pop(0))
    return moves


def choose_frame(rng: random.Random, move: str, scene: Scenario, terse: bool) -> str:
    if move == "specific":
        return rng.choice(F.DECISIVE_BY_CLASS[scene.label])
    if move == "support":
        return rng.choice(F.SUPPORT_BY_CLASS[scene.label])
    if terse and move in TERSE and rng.random() < 0.75:
        return rng.choice(TERSE[move])
    return rng.choice(MOVES[move])


# --- documents -----------------------------------------------------------------------------------
@dataclass
class Document:
    text: str
    label: str
    entities: list[tuple[str, int, int]]
    marks: list[tuple[str, int, int, int]]  # answer key, start, end, sentence index
    frames: dict[str, str]  # move -> frame used
    bounds: list[int]  # end offset of each sentence
    scene: Scenario
    suspects: list[Slot]


def add_typo(rng: random.Random, text: str, spans: list[tuple[str, int, int]]) -> str:
    """Swap two inner letters of one long lower-case word outside all annotations."""
    words = [
        m
        for m in re.finditer(r"\b[a-z]{6,}\b", text)
        if not any(s < m.end() and m.start() < e for _, s, e in spans)
    ]
    if not words:
        return text
    at = (word := rng.choice(words)).start() + rng.randint(1, len(word.group()) - 3)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def make_document(rng: random.Random, label: str, split: str) -> Document:
    """One report, annotated; retried until its length is right."""
    while True:
        scene = make_scenario(rng, label, split)
        moves = order_moves(rng, choose_moves(rng, label))
        doc = compose(rng, scene, moves, terse=rng.random() < 0.28)
        if 45 <= len(doc.text.split()) <= 100 and 3 <= len(moves) <= 7:
            return doc


def compose(rng: random.Random, scene: Scenario, moves: list[str], terse: bool) -> Document:
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
    return Document(
        text, scene.label, sorted(entities, key=lambda x: x[1]), marks, used, bounds, scene, suspects
    )


# --- questions -----------------------------------------------------------------------------------
def answer_span(rng: random.Random, doc: Document, kind: str) -> tuple[int, int] | None:
    """The place of the answer in the text, or None if there is not exactly one answer."""
    found = [m for m in doc.marks if m[0] == kind]
    if len({doc.text[m[1] : m[2]].lower() for m in found}) != 1:
        return None
    if kind == "ruled" and len({m[1] for m in doc.marks if m[0] == "ruled"}) != 1:
        return None
    if kind in ("fixref", "fixpart", "fix") and (doc.label == "NO_FAULT_FOUND" or "fix" not in doc.frames):
        return None
    later = [m for m in found if m[3] > 0] or found
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
    slots = dict(doc.scene.slots)
    if doc.suspects:
        slots["OUT"] = doc.suspects[0]
    if kind == "fix" and not answerable:
        slots["FP"] = slots["Q"]
    return fill(
        expand(rng, rng.choice(F.QUESTIONS[kind])).replace(" ?", "?").replace("  ", " "), slots, plain=True
    )


def make_questions(rng: random.Random, doc: Document) -> list[dict[str, object]]:
    """Two to four questions of different kinds, about a quarter of them without an answer."""
    spans = {kind: span for kind in F.QUESTIONS if (span := answer_span(rng, doc, kind))}
    spans = {k: s for k, s in spans.items() if s[0] > doc.bounds[0] or rng.random() < FIRST_SENTENCE_SHARE}
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


# --- data sets -----------------------------------------------------------------------------------
def missing_keys(rng: random.Random, split: str, size: int) -> list[set[str]]:
    """For each document the annotations it lacks (never all three)."""
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
    row: dict[str, object] = {
        "id": doc_id,
        "text": doc.text,
        "label": doc.label,
        "entities": [{"start": s, "end": e, "label": t} for t, s, e in doc.entities],
        "qas": [{"id": f"{doc_id}-q{n}", **qa} for n, qa in enumerate(qas, 1)],
    }
    return {key: value for key, value in row.items() if key not in lacking}


def make_split(
    rng: random.Random, split: str, size: int, first_id: int, seen: set[str]
) -> list[dict[str, object]]:
    labels = [L.CLASSES[i % len(L.CLASSES)] for i in range(size)]
    rng.shuffle(labels)
    rows: list[dict[str, object]] = []
    for label, lacking in zip(labels, missing_keys(rng, split, size), strict=True):
        while True:
            doc = make_document(rng, label, split)
            qas = make_questions(rng, doc)
            if len(qas) >= 2 and doc.text.lower() not in seen:
                break
        seen.add(doc.text.lower())
        rows.append(to_row(doc, f"MX-{first_id + len(rows):04d}", qas, lacking))
    return rows


# --- unlabelled domain text ----------------------------------------------------------------------
def plain_sentences(rng: random.Random, pool: list[str], count: int, scene: Scenario) -> str:
    chosen = rng.sample(pool, min(count, len(pool)))
    parts = []
    for frame in chosen:
        fresh_suspects(rng, scene, set())
        parts.append(parse(sentence(rng, frame, scene))[0])
    return " ".join(parts)


def domain_scene(rng: random.Random) -> Scenario:
    return make_scenario(rng, other_class(rng), "domain")


def shop_report(rng: random.Random) -> list[str]:
    scene = domain_scene(rng)
    middle = rng.choice((F.DECISIVE, F.DECISIVE_BY_CLASS[scene.label], F.CONTRAST))
    return [
        plain_sentences(rng, G.SHOP_INTRO, rng.randint(2, 4), scene),
        plain_sentences(rng, G.SHOP_BODY, rng.randint(3, 6), scene),
        plain_sentences(rng, middle, 1, scene) + " " + plain_sentences(rng, F.RULED_OUT, 2, scene),
        plain_sentences(rng, G.SHOP_END, rng.randint(1, 3), scene),
    ]


def lesson(rng: random.Random, pool: list[str]) -> list[str]:
    """Training notes and troubleshooting guides: several paragraphs on one system."""
    system, paragraphs = "", []
    for _ in range(rng.randint(2, 4)):
        scene = domain_scene(rng)
        while system and scene.system != system:
            scene = domain_scene(rng)
        system = scene.system
        paragraphs.append(plain_sentences(rng, pool, rng.randint(3, 6), scene))
    return paragraphs


def bulletin(rng: random.Random) -> list[str]:
    scene = domain_scene(rng)
    story = compose(rng, scene, order_moves(rng, choose_moves(rng, scene.label)), terse=False).text
    opening, closing = (plain_sentences(rng, G.BULLETIN, rng.randint(3, 5), scene) for _ in range(2))
    return [opening, story, closing]


def handover(rng: random.Random) -> list[str]:
    items = []
    for _ in range(rng.randint(4, 8)):
        items.append(plain_sentences(rng, G.HANDOVER, 1, domain_scene(rng)))
    return items


def domain_documents(rng: random.Random) -> Iterable[list[str]]:
    """Short reports first, then the longer genres without end."""
    for _ in range(DOMAIN_REPORTS):
        yield [make_document(rng, rng.choice(L.CLASSES), "domain").text]
    makers: list[Callable[[random.Random], list[str]]] = [
        shop_report, lambda r: lesson(r, G.TRAINING), lambda r: lesson(r, G.GUIDE), bulletin, handover,
    ]  # fmt: skip
    while True:
        yield rng.choice(makers)(rng)


def ngrams(text: str, size: int = NGRAM) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def make_domain(rng: random.Random, held: Iterable[str], labelled: Iterable[str]) -> list[list[str]]:
    """Unlabelled documents; paragraphs that share a 13-gram with dev/test are dropped."""
    forbidden = set().union(*(ngrams(text) for text in held))
    texts = {text.lower() for text in labelled}
    documents: list[list[str]] = []
    words = 0
    for paragraphs in domain_documents(rng):
        kept = [p for p in paragraphs if not ngrams(p) & forbidden and p.lower() not in texts]
        if kept and not ngrams(" ".join(kept)) & forbidden:
            documents.append(kept)
            words += sum(len(p.split()) for p in kept)
        if words >= DOMAIN_WORDS:
            break
    rng.shuffle(documents)
    return documents


# --- validation ----------------------------------------------------------------------------------
def require(condition: object, message: str) -> None:
    if not condition:
        raise ValueError(message)


def check_row(row: dict, lacks_all: set[str]) -> None:
    """Offsets, boundaries and overlaps of one document."""
    text, name = row["text"], row["id"]
    require(45 <= len(text.split()) <= 100, f"{name}: length {len(text.split())}")
    require(lacks_all & row.keys(), f"{name}: no annotation at all")
    end_before = 0
    for ent in row.get("entities", []):
        start, end = ent["start"], ent["end"]
        mention = text[start:end]
        require(mention and mention == mention.strip(), f"{name}: bad span {start}-{end}")
        require(start >= end_before, f"{name}: overlap at {start}")
        require(ent["label"] in ENTITY_LABELS, f"{name}: label {ent['label']}")
        require(not re.search(r"\w", text[start - 1 : start] + text[end : end + 1]), f"{name}: cuts a word")
        end_before = end
    for qa in row.get("qas", []):
        require(qa["question"][0].isupper() and qa["question"].endswith("?"), f"{qa['id']}: {qa['question']}")
        for answer in qa["answers"]:
            start = answer["answer_start"]
            require(text[start : start + len(answer["text"])] == answer["text"], f"{qa['id']}: offset")
            require(1 <= len(answer["text"].split()) <= 12, f"{qa['id']}: answer length")


def validate(splits: dict[str, list[dict]], domain: list[list[str]]) -> None:
    """Raise on any defect of the data, then print the counts."""
    texts = [row["text"].lower() for rows in splits.values() for row in rows]
    require(len(texts) == len(set(texts)), "duplicate text")
    body = "\n\n".join("\n".join(paragraphs) for paragraphs in domain).lower()
    require(not any(text in body for text in texts), "labelled text inside domain.txt")
    require(
        len(body.split()) >= 70_000 and len(domain) >= 700,
        f"domain too small: {len(body.split())}, {len(domain)}",
    )
    tasks = {"label", "entities", "qas"}
    for split, rows in splits.items():
        require(len(rows) == SIZES[split], f"{split}: {len(rows)} rows")
        for row in rows:
            check_row(row, tasks)
        lacking = Counter(task for row in rows for task in tasks - row.keys())
        require(split != "train" or all(50 <= lacking[t] <= 70 for t in tasks), f"{split}: missing {lacking}")
        labels = Counter(row["label"] for row in rows if "label" in row)
        require(max(labels.values()) <= 0.28 * sum(labels.values()), f"{split}: labels {labels}")
        qas = [qa for row in rows for qa in row.get("qas", [])]
        empty = sum(not qa["answers"] for qa in qas)
        require(0.18 <= empty / len(qas) <= 0.33, f"{split}: {empty} of {len(qas)} unanswerable")
        ents = Counter(ent["label"] for row in rows for ent in row.get("entities", []))
        print(f"{split:6} docs {len(rows)} lacking {dict(sorted(lacking.items()))}")
        print(f"       labels {dict(sorted(labels.items()))}")
        print(f"       entities {dict(sorted(ents.items()))} questions {len(qas)} unanswerable {empty}")
    print(f"domain documents {len(domain)} words {len(body.split())}")


def main() -> None:
    seen: set[str] = set()
    splits: dict[str, list[dict]] = {}
    first_id = 1
    for split, size in SIZES.items():
        splits[split] = make_split(random.Random(f"{SEED}-{split}"), split, size, first_id, seen)
        first_id += size
    held = [row["text"] for split in ("dev", "test") for row in splits[split]]
    domain = make_domain(
        random.Random(f"{SEED}-domain"), held, [row["text"] for r in splits.values() for row in r]
    )
    validate(splits, domain)
    for split, rows in splits.items():
        lines = (json.dumps(row, ensure_ascii=False) for row in rows)
        (HERE / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    body = "\n\n".join("\n".join(paragraphs) for paragraphs in domain)
    (HERE / "domain.txt").write_text(body + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
