"""What each task's annotation says: contradictions, labels, and what no head can learn."""

from collections import Counter, defaultdict
from typing import Dict, Iterator, List, Sequence

from spacy.tokens import Doc

from mtl.data.check.facts import Item
from mtl.data.check.findings import ERROR, NOTE, WARNING, Finding, Place, found_at
from mtl.data.check.texts import TRAIN
from mtl.data.labels import alike
from mtl.registry import Task

FEW = 5  # documents with a label in training, below which it can hardly be learned
LISTED = 10  # labels that are named
OTHER_SHARES = 0.2  # total variation of the labels' shares between splits, from which they differ
LEAST_COMPARED = 50  # documents, below which shares say little


def task_findings(task: Task, items: Sequence[Item], advised: Sequence[Doc]) -> Iterator[Finding]:
    """What is wrong with a task's annotation.

    Args:
        task (Task): The task.
        items (Sequence[Item]): All documents.
        advised (Sequence[Doc]): Training documents with its annotation.
    """
    own = [item for item in items if task.title in item.facts]
    yield from _contradictions(task, own)
    yield from _labels(task, own)
    faults: Dict[str, List[Place]] = defaultdict(list)
    for item in own:
        for fault in item.facts[task.title].faults:
            faults[fault].append(Place(item.where, item.text))
    for fault, places in faults.items():
        yield from found_at(WARNING, "not learnable", f"{task.title}: {fault}", "correct them", places)
    if not any(item.split == TRAIN for item in own):
        yield Finding(ERROR, "no training data", f"{task.title}: no document in train has any", "add some, or leave the task out")
    elif len({item.split for item in own}) == 1 and len({item.split for item in items}) > 1:
        yield Finding(WARNING, "train alone", f"{task.title}: no other split has any", "add some, or nothing measures this head")
    for line in task.advice(advised):
        yield Finding(NOTE, "advice", f"{task.title}: {line}")


def _contradictions(task: Task, items: Sequence[Item]) -> Iterator[Finding]:
    """The same text with other annotation of the same thing."""
    by_text: Dict[str, List[Item]] = defaultdict(list)
    for item in items:
        by_text[item.text].append(item)
    places = []
    for group in by_text.values():
        said: Dict[str, Item] = {}
        for item in group:
            gold = item.facts[task.title].gold
            earlier = [(said[key], said[key].facts[task.title].gold[key] == value) for key, value in gold.items() if key in said]
            other = next((one for one, agrees in earlier if not agrees), None)
            if other is not None:
                places.append(Place(f"{item.where}: other {task.title} than {other.where}", item.text))
            for key in gold:
                said.setdefault(key, item)
    what = f"{task.title}: documents have the same text as another, and other annotation"
    yield from found_at(WARNING, "contradiction", what, "decide for one", places)


def label_counts(task: Task, items: Sequence[Item]) -> Dict[str, Dict[str, int]]:
    """By split and label, how many documents have it."""
    counts: Dict[str, Counter] = defaultdict(Counter)
    for item in items:
        if task.title in item.facts:
            counts[item.split].update(item.facts[task.title].labels)
    return {split: dict(by_label.most_common()) for split, by_label in counts.items()}


def _labels(task: Task, items: Sequence[Item]) -> Iterator[Finding]:
    """Labels that are in one split only, rare, spelled in two ways, everywhere, or in other shares."""
    counts: Dict[str, Counter] = defaultdict(Counter, {split: Counter(by) for split, by in label_counts(task, items).items()})
    first: Dict[str, Item] = {}
    for item in items:
        for label in item.facts[task.title].labels:
            first.setdefault(label, item)
    train, others = counts[TRAIN], [split for split in counts if split != TRAIN]
    for label in sorted({label for split in others for label in counts[split]} - set(train)):
        where = ", ".join(split for split in others if label in counts[split])
        yield Finding(ERROR, "unknown label", f"{task.title}: {label!r} is in {where} and not in train",
                      "correct it, or add training data", [first[label].where], [first[label].text])  # fmt: skip
    for group in alike(first):
        names = ", ".join(map(repr, group))
        yield Finding(WARNING, "spelling", f"{task.title}: the labels {names} differ in case or blanks alone",
                      "spell them alike: mtl convert --spelling merge", [first[label].where for label in group],
                      [first[label].text for label in group], len(group))  # fmt: skip
    rare = sorted(label for label, count in train.items() if count < FEW)
    if rare:
        what = f"{task.title}: {len(rare)} labels are in fewer than {FEW} documents of train: {_listed(rare, train)}"
        yield Finding(WARNING, "rare label", what, "label more, or merge them", count=len(rare))
    unmeasured = sorted(label for label in train if others and not any(label in counts[split] for split in others))
    if unmeasured:
        what = f"{task.title}: no other split has {_listed(unmeasured)}"
        yield Finding(NOTE, "label in train alone", what, "nothing measures them", count=len(unmeasured))
    sizes = Counter(item.split for item in items)
    yield from _one_sided(task, [item for item in items if item.split == TRAIN])
    for split in others:
        yield from _other_shares(task, train, counts[split], split, min(sizes[TRAIN], sizes[split]))


def _one_sided(task: Task, train: Sequence[Item]) -> Iterator[Finding]:
    """Labels of whole documents that always hold, or never do, where it is said of each."""
    said: Dict[str, Counter] = defaultdict(Counter)
    for item in train:
        for label, value in item.facts[task.title].gold.items():
            said[label][value] += 1
    held = {label for item in train for label in item.facts[task.title].labels}
    for label, values in said.items():
        count = sum(values.values())
        if label and held and len(values) == 1 and count >= FEW and (label in held or count == len(train)):
            how = "always" if label in held else "never"
            what = f"{task.title}: {label!r} {how} holds in the {count:,} documents of train that say"
            yield Finding(WARNING, "one-sided", what,
                          "add documents of the other kind, or nothing is learned")  # fmt: skip


def _other_shares(task: Task, train: Counter, other: Counter, split: str, size: int) -> Iterator[Finding]:
    total, other_total = sum(train.values()), sum(other.values())
    if size < LEAST_COMPARED or not total or not other_total:
        return
    differences = {label: other[label] / other_total - train[label] / total for label in {*train, *other}}
    if sum(map(abs, differences.values())) / 2 > OTHER_SHARES:
        label = max(differences, key=lambda name: abs(differences[name]))
        shares = (
            f"{label!r} is {train[label] / total:.0%} of the labels in train, and {other[label] / other_total:.0%} in {split}"
        )
        yield Finding(WARNING, "other shares", f"{task.title}: the labels of {split} are distributed otherwise: {shares}",
                      "split again: mtl split, unless this is meant")  # fmt: skip


def _listed(labels: Sequence[str], counts: Dict[str, int] = {}) -> str:
    shown = ", ".join(f"{label!r} ({counts[label]})" if counts else repr(label) for label in labels[:LISTED])
    return shown + (", ..." if len(labels) > LISTED else "")
