"""What one document may mention: a system, its parts, the cause, what was ruled out, and all other slots."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

from sample_corpus import lexicon, systems
from sample_corpus.slots import Slot, aircraft_slot, noun_slot, numbers, pick, reference, tail


@dataclass
class Scenario:
    """Everything that one document may mention."""

    label: str
    system: str
    split: str
    kinds: dict[str, str] = field(default_factory=dict)  # slot of a part -> its kind
    slots: dict[str, Slot] = field(default_factory=dict)  # name of a slot in the frames -> its filler


def with_side(rng: random.Random, part: str) -> str:
    """The part, sometimes with its side or number: "left ...", "No. 2 ..."."""
    if rng.random() < 0.5 or re.search(rf"\b({lexicon.UNSIDED})\b", part):
        return part
    return rng.choice(lexicon.SIDES) + part


def part_slots(rng: random.Random, scene: Scenario) -> None:
    """Main part P (also FP when fixed), bystander Q, precaution part QP, history part HP, harness E."""
    system = systems.SYSTEMS[scene.system]
    kinds = {part: kind for kind in lexicon.KINDS for part in lexicon.entries(system[kind])}
    usable = [p for p, k in kinds.items() if k != "mec" or scene.label not in ("ELECTRICAL", "NO_FAULT_FOUND")]
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
    harness = pick(rng, lexicon.HARNESSES, scene.split)
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
    forms = lexicon.entries(lexicon.GENERIC[label] if rng.random() < generic else lexicon.FAULTS[label][scene.kinds[part]])
    sheltered = "elx" if scene.system in lexicon.EXPOSED_SYSTEMS else "elx rot"
    if scene.system in lexicon.INDOOR_SYSTEMS or scene.kinds[part] in sheltered.split():
        forms = [form for form in forms if form.lstrip("-") not in lexicon.OUTDOOR]
    return pick(rng, forms, scene.split)


def action_form(rng: random.Random, scene: Scenario, label: str, part: str) -> str:
    """A corrective action that fits the class and the kind of part (or a wiring item)."""
    forms = lexicon.entries(lexicon.ACTIONS[label])
    if scene.slots[part] != scene.slots["E"]:
        unfit = lexicon.UNFIT_ACTIONS[scene.kinds["HP" if part == "HP" else "P"]] + lexicon.WIRING_ONLY
        forms = [form for form in forms if form not in unfit]
    return pick(rng, forms, scene.split)


def other_class(rng: random.Random, *taken: str) -> str:
    """A class with a cause that is not taken. If all are taken, one that differs from the first."""
    causes = lexicon.CLASSES[:4]
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
    scene.slots["BY"] = Slot(pick(rng, lexicon.entries(lexicon.MEANS[first]), scene.split), mark="ruledby")
    return first, second


def context_slots(rng: random.Random, scene: Scenario) -> None:
    """Symptom, phase, reporter, aircraft, places, references, actions, test and dates."""
    system, split = systems.SYSTEMS[scene.system], scene.split
    ground = rng.random() < 0.25
    crew = lexicon.REPORTERS + (lexicon.CABIN_REPORTERS if scene.system in lexicon.CABIN_SYSTEMS else [])
    places: list[str] = []
    while len(places) < 3:
        places.append(pick(rng, [x for x in lexicon.entries(system["locs"]) if x not in places], split))
    donor = tail(rng)
    tests = lexicon.TESTS + 2 * lexicon.entries(lexicon.SYSTEM_TESTS[scene.system])
    ata = system["ata"]

    def place_slot(form: str, mark: str) -> Slot:
        """A place with its preposition as the prefix."""
        preposition, name = form.split("|")
        return Slot(name, "LOCATION", mark, preposition + " ")

    scene.slots |= {
        "Y": noun_slot(pick(rng, lexicon.entries(system["symptoms"]), split), "FAULT", "notice"),
        "PH": Slot(numbers(rng, rng.choice(lexicon.GROUND_PHASES if ground else lexicon.PHASES)), mark="phase"),
        "WHO": Slot(rng.choice(lexicon.GROUND_REPORTERS if ground else crew), mark="reporter"),
        "AC": aircraft_slot(rng, split),
        "AC2": Slot(donor, "AIRCRAFT", "otheraircraft"),
        "DON": Slot(donor, "AIRCRAFT", "donor"),
        "TYPE": Slot(rng.choice(lexicon.TYPES)),
        "LOC": place_slot(places[0], "loc"),
        "LOC2": place_slot(places[1], "otherloc"),
        "LOC3": place_slot(places[2], "otherloc"),
        "FIX": Slot(action_form(rng, scene, scene.label, "FP"), "ACTION", "fix"),
        "QA": Slot(pick(rng, lexicon.entries(lexicon.PRECAUTION_ACTIONS[scene.kinds["QP"]]), split), "ACTION", "precact"),
        "REF": Slot(reference(rng, ata, "AMM"), "REF", "fixref"),
        "REFT": Slot(reference(rng, ata, "AMM"), "REF", "checkref"),
        "REF2": Slot(reference(rng, rng.choice(("12", "20", ata)), "AMM"), "REF", "precref"),
        "TSREF": Slot(reference(rng, ata, "FIM"), "REF", "tsref"),
        "MEL": Slot(reference(rng, ata, "MEL"), "REF", "melref"),
        "SB": Slot(reference(rng, ata, "SB"), "REF"),
        "CMM": Slot(reference(rng, ata, "CMM"), "REF"),
        "WHEN": Slot(numbers(rng, rng.choice(lexicon.WHENS)), mark="histwhen"),
        "TEST": Slot(numbers(rng, rng.choice(tests)), mark="test"),
    }


def make_scenario(rng: random.Random, label: str, split: str) -> Scenario:
    """Fill all slots for a document of the class."""
    scene = Scenario(label, rng.choice(list(systems.SYSTEMS)), split)
    part_slots(rng, scene)
    cause_slots(rng, scene)
    context_slots(rng, scene)
    return scene
