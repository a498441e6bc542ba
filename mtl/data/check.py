"""What is wrong with labelled data, found before anything is trained on it: all files, splits and tasks together."""

import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Sequence, Set, Tuple

from spacy.tokens import Doc

from mtl.data.convert import check_columns
from mtl.data.docs import blank_pipeline, docbin_files, read_docs, record_to_doc
from mtl.data.duplicates import NearDuplicates, normalized
from mtl.data.formats.detect import read_records
from mtl.data.formats.reading import Reading
from mtl.data.formats.rows import HUB
from mtl.data.records import Report
from mtl.errors import UserError
from mtl.registry import Task, registered_tasks

ERROR, WARNING, NOTE = "error", "warning", "note"
LEVELS = (ERROR, WARNING, NOTE)
TRAIN, GROUP = "train", "group"
FEW = 5  # documents with a label in training, below which it can hardly be learned
TINY, HUGE = 3, 5000  # words
ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ufeff]|Ã[\x80-\xbf¤¶¼©¨]|â€")  # control, replaced, decoded twice
MAX_PLACES = 5  # of a finding that are listed
SIMILARITY = 0.8  # from which texts are nearly the same


@dataclass
class Finding:
    """One thing that is wrong.

    Args:
        level (str): "error" (scores would be wrong, or training fails), "warning" or "note".
        kind (str): What kind it is, for programs.
        message (str): What, and how often.
        todo (str): What to do.
        places (List[str]): Where, the first few.
        count (int): How often.
    """

    level: str
    kind: str
    message: str
    todo: str = ""
    places: List[str] = field(default_factory=list)
    count: int = 1


@dataclass
class Labelled:
    """A document of a split.

    Args:
        doc (Doc): The document with its annotation.
        where (str): File and line, or file and number.
        split (str): "train", "dev" or "test".
        text (str): Its text, which a Doc puts together anew each time.
        group (str): What it is of, such as a patient or a contract; empty if that is not known.
    """

    doc: Doc
    where: str
    split: str
    text: str
    group: str = ""


def check_data(files: Mapping[str, Sequence[Path]], *, lang: str = "en", reading: Reading = Reading()) -> Dict[str, Any]:
    """Check labelled files of any format, or converted ones.

    Args:
        files (Mapping[str, Sequence[Path]]): By split, its files, of all tasks; "train" has to be there.
        lang (str): The language whose tokenizer is used for files that are not converted yet.
        reading (Reading): How to read files that are not converted yet.

    Returns:
        Dict[str, Any]: "documents" by split, "annotated" by task and split, and "findings", errors first.

    Raises:
        UserError: A file cannot be read.
    """
    items = list(read_labelled(files, lang, reading))
    tasks = [task for task in registered_tasks() if not task.is_auxiliary]
    present = [task for task in tasks if any(task.is_annotated(item.doc) for item in items)]
    findings = [
        *_texts(items), *_shared_texts(items), *(finding for task in present for finding in _task_findings(task, items)),
    ]  # fmt: skip
    if not present:
        findings.append(Finding(ERROR, "no annotation", "no document has an annotation", "give labelled files"))
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    annotated = {task.title: Counter(item.split for item in items if task.is_annotated(item.doc)) for task in present}
    return {
        "documents": dict(Counter(item.split for item in items)),
        "annotated": {title: dict(counts) for title, counts in annotated.items()},
        "findings": [asdict(finding) for finding in findings],
    }


def read_labelled(files: Mapping[str, Sequence[Path]], lang: str, reading: Reading) -> Iterator[Labelled]:
    """Read the files of each split.

    Raises:
        UserError: A file cannot be read, or there is no such language.
    """
    nlp = blank_pipeline(lang)
    missing = [path for paths in files.values() for path in paths if not (path.exists() or str(path).startswith(HUB))]
    if missing:
        raise UserError(f"{missing[0]}: no such file")
    reports: List[Report] = []
    for split, paths in files.items():
        for path in paths:
            if path.suffix == ".spacy" or (path.is_dir() and any(path.rglob("*.spacy"))):
                for file in docbin_files(path):
                    for number, doc in enumerate(read_docs(file, nlp.vocab), start=1):
                        yield Labelled(doc, f"{file}, document {number}", split, doc.text)
                continue
            reports.append(Report())
            records = list(read_records(path, reports[-1], reading))
            for task in registered_tasks():
                task.complete(records)
            for record in records:
                group = record.extra.get(GROUP)
                doc = record_to_doc(record, nlp, Report())
                yield Labelled(doc, record.where, split, record.text, "" if group is None else str(group))
    if reports:
        check_columns(reading, reports)


# The texts themselves


def _texts(items: Sequence[Labelled]) -> Iterator[Finding]:
    """Empty, tiny and huge documents, and characters that hardly are meant."""
    kinds: List[Tuple[str, str, Callable[[str], bool], str, str]] = [
        (ERROR, "empty", lambda text: not text.strip(), "documents are empty", "remove them"),
        (NOTE, "tiny", lambda text: 0 < len(text.split()) < TINY, f"documents have fewer than {TINY} words",
         "see if they are complete"),
        (WARNING, "huge", lambda text: len(text.split()) > HUGE, f"documents have more than {HUGE:,} words",
         "cut them where they have sections: a batch holds at least one document"),
        (WARNING, "odd characters", lambda text: ODD.search(text) is not None,
         "documents have control characters, or such as come from a wrong encoding (Ã©, â€)", "save the source as UTF-8"),
    ]  # fmt: skip
    for level, kind, applies, what, todo in kinds:
        yield from _finding(level, kind, what, todo, [item.where for item in items if applies(item.text)])


def _shared_texts(items: Sequence[Labelled]) -> Iterator[Finding]:
    """Texts that are in two splits, of whatever tasks: a shared encoder sees all of them."""
    by_text: Dict[str, List[Labelled]] = defaultdict(list)
    for item in items:
        by_text[normalized(item.text)].append(item)
    by_text.pop("", None)
    same, near = [], []
    for group in by_text.values():
        same += _across_splits(group[0], group[1:])
    by_group: Dict[str, List[Labelled]] = defaultdict(list)
    for item in items:
        by_group[item.group].append(item)
    by_group.pop("", None)
    torn = [
        f"{item.where}: of the group {item.group!r}, as {group[0].where}"
        for group in by_group.values() for item in group if item.split != group[0].split
    ]  # fmt: skip
    yield from _finding(
        ERROR, "group in two splits", "documents are of a group that is in another split", "split by groups", torn
    )
    finder = NearDuplicates(SIMILARITY)
    kept: List[Labelled] = []
    for item in sorted((group[0] for group in by_text.values()), key=lambda item: item.split != TRAIN):
        found = finder.find(item.text)
        if found is None:
            kept.append(item)
        elif kept[found].split != item.split:
            near.append(f"{item.where}: nearly the same as {kept[found].where}")
    todo = "remove them from the training data, or split again: mtl split"
    yield from _finding(ERROR, "same text in two splits", "documents have the text of one in another split", todo, same)
    what = f"documents share {SIMILARITY:.0%} of their 5-word sequences with one of another split"
    yield from _finding(WARNING, "nearly the same text in two splits", what, todo, near)


def _across_splits(first: Labelled, others: Iterable[Labelled]) -> List[str]:
    return [f"{item.where}: the same text as {first.where}" for item in others if item.split != first.split]


# What each task's annotation says


def _task_findings(task: Task, items: Sequence[Labelled]) -> Iterator[Finding]:
    own = [item for item in items if task.is_annotated(item.doc)]
    yield from _conflicts(task, own)
    yield from _labels(task, own)
    faults: Counter = Counter(fault for item in own for fault in task.faults(item.doc))
    for fault, count in faults.items():
        yield Finding(WARNING, "not learnable", f"{task.title}: {fault} ({count})", "correct them", count=count)
    train = [item.doc for item in own if item.split == TRAIN]
    if not train:
        yield Finding(ERROR, "no training data", f"{task.title}: no document in train has any", "add some, or leave the task out")
    elif len({item.split for item in own}) == 1 and len({item.split for item in items}) > 1:
        yield Finding(WARNING, "train alone", f"{task.title}: no other split has any", "add some, or nothing measures this head")
    for line in task.advice(train):
        yield Finding(NOTE, "advice", f"{task.title}: {line}")


def _conflicts(task: Task, items: Sequence[Labelled]) -> Iterator[Finding]:
    """The same text with other annotation."""
    by_text: Dict[str, List[Labelled]] = defaultdict(list)
    for item in items:
        by_text[item.text].append(item)
    places = []
    for group in by_text.values():
        gold = [task.show_gold(item.doc) for item in group] if len(group) > 1 else []
        places += [f"{item.where}: other {task.title} than {group[0].where}" for item, own in zip(group, gold) if own != gold[0]]
    what = f"{task.title}: documents have the same text as another, and other annotation"
    yield from _finding(WARNING, "contradiction", what, "decide for one", places)


def _labels(task: Task, items: Sequence[Labelled]) -> Iterator[Finding]:
    """Labels that are in one split only, rare, spelled in two ways, or everywhere."""
    counts: Dict[str, Counter] = defaultdict(Counter)  # split -> label -> documents
    first: Dict[str, str] = {}
    for item in items:
        for label in task.labels(item.doc):
            counts[item.split][label] += 1
            first.setdefault(label, item.where)
    train, others = counts[TRAIN], [split for split in counts if split != TRAIN]
    for label in sorted({label for split in others for label in counts[split]} - set(train)):
        where = ", ".join(split for split in others if label in counts[split])
        yield Finding(ERROR, "unknown label", f"{task.title}: {label!r} is in {where} and not in train",
                      "correct it, or add training data", [first[label]])  # fmt: skip
    yield from _spellings(task, first)
    rare = sorted(label for label, count in train.items() if count < FEW)
    if rare:
        shown = ", ".join(f"{label!r} ({train[label]})" for label in rare[:10]) + (", ..." if len(rare) > 10 else "")
        what = f"{task.title}: {len(rare)} labels are in fewer than {FEW} documents of train: {shown}"
        yield Finding(WARNING, "rare label", what, "label more, or merge them", count=len(rare))
    unmeasured = sorted(label for label in train if others and not any(label in counts[split] for split in others))
    if unmeasured:
        shown = ", ".join(map(repr, unmeasured[:10])) + (", ..." if len(unmeasured) > 10 else "")
        yield Finding(NOTE, "label in train alone", f"{task.title}: no other split has {shown}", "nothing measures them",
                      count=len(unmeasured))  # fmt: skip
    documents = sum(item.split == TRAIN for item in items)
    if len(train) == 1 and documents > 1 and next(iter(train.values())) == documents:
        yield Finding(WARNING, "one-sided", f"{task.title}: every document of train has {next(iter(train))!r}, the only label",
                      "add documents without it, or nothing is learned")  # fmt: skip


def _spellings(task: Task, first: Dict[str, str]) -> Iterator[Finding]:
    """Labels that differ in case, blanks, hyphens or underscores alone."""
    alike: Dict[str, Set[str]] = defaultdict(set)
    for label in first:
        alike[re.sub(r"[\s_-]+", "", label).casefold()].add(label)
    for group in alike.values():
        if len(group) > 1:
            names = ", ".join(map(repr, sorted(group)))
            yield Finding(WARNING, "spelling", f"{task.title}: the labels {names} differ in case or blanks alone",
                          "spell them alike", [first[label] for label in sorted(group)])  # fmt: skip


def _finding(level: str, kind: str, what: str, todo: str, places: List[str]) -> Iterator[Finding]:
    """A finding with its first places; none if there are no places."""
    if places:
        yield Finding(level, kind, f"{len(places):,} {what}", todo, places[:MAX_PLACES], len(places))


def check_lines(result: Dict[str, Any]) -> Iterator[str]:
    """The result of `check_data` as lines for a person."""
    yield "documents: " + ", ".join(f"{split} {count:,}" for split, count in result["documents"].items())
    for title, counts in result["annotated"].items():
        yield f"  {title}: " + ", ".join(f"{split} {count:,}" for split, count in counts.items())
    for finding in result["findings"]:
        yield f"{finding['level']}: {finding['message']}" + (f". {finding['todo'].capitalize()}" if finding["todo"] else "")
        yield from (f"    {place}" for place in finding["places"])
        if finding["count"] > len(finding["places"]) > 0:
            yield f"    ... and {finding['count'] - len(finding['places']):,} more"


def worst(result: Dict[str, Any]) -> str:
    """The level of the worst finding; "" if there is none."""
    levels = {finding["level"] for finding in result["findings"]}
    return next((level for level in LEVELS if level in levels), "")
