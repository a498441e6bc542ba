"""Split labelled files of all tasks at once, so that nothing of one split is in another and every label is in all of them."""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from spacy.tokens import Doc

from mtl.data.check.texts import SIMILARITY
from mtl.data.docs import write_docs
from mtl.data.duplicates import NearDuplicates, normalized
from mtl.data.formats.reading import Reading
from mtl.data.labelled import Labelled, read_labelled
from mtl.data.records import Report
from mtl.errors import UserError, check_range
from mtl.registry import registered_tasks

Want = Tuple[str, str]  # what splits should have in proportion: a task's label, or a file's documents


@dataclass
class Cluster:
    """Documents that stay together: of the same group, or with the same or nearly the same text.

    Args:
        members (List[int]): Their numbers.
        wants (Counter): How often each label is in them, and how many are of each file.
    """

    members: List[int] = field(default_factory=list)
    wants: Counter = field(default_factory=Counter)


def split_files(
    files: Sequence[Path], out: Path, fractions: Dict[str, float], *, seed: int = 0, folds: int = 0, lang: str = "en",
    reading: Reading = Reading(), reports: Optional[List[Report]] = None,
) -> Dict[str, Dict[str, int]]:  # fmt: skip
    """Split files and write the parts in spaCy's format.

    Args:
        files (Sequence[Path]): Labelled files of any format, one for each task or with all of them.
        out (Path): Where to write: `out/SPLIT/NAME.spacy`; with folds in a folder of each, `out/fold0`.
        fractions (Dict[str, float]): By split, its fraction of the documents; they sum to 1. With folds, not used.
        seed (int): Seed of the order in which equal choices are made.
        folds (int): Instead, so many folds of train and dev, whose dev parts are all documents; 0 for none.
        lang (str): The language whose tokenizer is used.
        reading (Reading): How to read the files; its column "group" names what stays together, such as a patient.
        reports (Optional[List[Report]]): Gets a report of each file.

    Returns:
        Dict[str, Dict[str, int]]: By file that was written, how often it has each label.

    Raises:
        UserError: A file cannot be read, the fractions do not sum to 1, or there are fewer clusters than splits.
    """
    if folds:
        check_range("--folds", folds, 2)
    elif abs(sum(fractions.values()) - 1) > 1e-6 or any(fraction <= 0 for fraction in fractions.values()):
        raise UserError(f"the fractions {fractions} have to be above 0 and sum to 1")
    names = [path.stem for path in files]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"two files are called {twice!r}, and outputs are named by their files: rename one")
    items = list(read_labelled({path.stem: [path] for path in files}, lang, reading, reports))
    tasks = [task for task in registered_tasks() if not task.is_auxiliary]
    if not any(task.is_annotated(item.doc) for item in items for task in tasks):
        raise UserError(f"{files[0]}: no document has an annotation")
    clusters = make_clusters(items)
    parts = {f"part{i}": 1 / folds for i in range(folds)} if folds else fractions
    written_splits = [f"fold{i}/{part}" for i in range(folds) for part in ("dev", "train")] if folds else list(fractions)
    _check_stale(out, names, written_splits)
    if len(clusters) < len(parts):
        groups = len({item.group for item in items if item.group})
        of = f" of {groups} groups" if groups else ""
        raise UserError(
            f"{len(items)} documents{of} are {len(clusters)} clusters that must stay together, too few for {len(parts)} splits"
        )
    assigned = assign(clusters, parts, seed)
    empty = [split for split, numbers in assigned.items() if not numbers]
    if empty:
        raise UserError(f"{', '.join(empty)} would be empty: there are too few documents for each label; give larger fractions")
    written: Dict[str, Dict[str, int]] = {}
    for split, numbers in _splits(assigned, list(parts), folds):
        chosen = set(numbers)
        for name in names:
            docs = [item.doc for i, item in enumerate(items) if i in chosen and item.split == name]
            path = out / split / f"{name}.spacy"
            write_docs(docs, path)
            written[str(path)] = {"documents": len(docs), **_label_counts(docs)}
    return written


def _check_stale(out: Path, names: Sequence[str], splits: Sequence[str]) -> None:
    """Check that the folder has no parts of an earlier split, whose documents would be in two.

    Raises:
        UserError: It has.
    """
    for name in names:
        for file in [*out.glob(f"*/{name}.spacy"), *out.glob(f"*/*/{name}.spacy")]:
            if file.parent.relative_to(out).as_posix() not in splits:
                raise UserError(f"{file}: is of an earlier split into other parts; remove it, or give another folder")


def _splits(assigned: Dict[str, List[int]], parts: List[str], folds: int) -> Iterator[Tuple[str, List[int]]]:
    """The name of each split to write, with its documents."""
    if not folds:
        yield from assigned.items()
        return
    for i, part in enumerate(parts):
        yield f"fold{i}/dev", assigned[part]
        yield f"fold{i}/train", [number for other in parts if other != part for number in assigned[other]]


def make_clusters(items: Sequence[Labelled]) -> List[Cluster]:
    """Join documents that must not be parted, and count what each cluster has."""
    parent = list(range(len(items)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    first: Dict[Tuple[str, str], int] = {}
    finder = NearDuplicates(SIMILARITY)
    kept: List[int] = []
    for number, item in enumerate(items):
        keys = [("text", normalized(item.text))] + ([("group", item.group)] if item.group else [])
        is_new = keys[0] not in first
        for key in keys:
            parent[root(number)] = root(first.setdefault(key, number))
        if is_new:
            for found in finder.add(item.text):
                parent[root(number)] = root(kept[found])
            kept.append(number)
    clusters: Dict[int, Cluster] = defaultdict(Cluster)
    for number, item in enumerate(items):
        cluster = clusters[root(number)]
        cluster.members.append(number)
        cluster.wants.update([("documents of", item.split), *_labels(item.doc)])
    return list(clusters.values())


def assign(clusters: Sequence[Cluster], fractions: Dict[str, float], seed: int) -> Dict[str, List[int]]:
    """Spread clusters over splits, those with the rarest labels first, each to the split that lacks most of that label.

    Source: iterative stratification, Sechidis et al. 2011 (https://doi.org/10.1007/978-3-642-23808-6_10), on clusters.

    Args:
        clusters (Sequence[Cluster]): What stays together.
        fractions (Dict[str, float]): By split, its fraction.
        seed (int): Decides between equal choices.

    Returns:
        Dict[str, List[int]]: By split, the numbers of its documents, in order.
    """
    rng = random.Random(seed)
    totals: Counter = Counter()
    for cluster in clusters:
        totals.update(cluster.wants)
    lacking = {
        split: Counter({want: fraction * total for want, total in totals.items()}) for split, fraction in fractions.items()
    }
    size = sum(len(cluster.members) for cluster in clusters)
    room = {split: fraction * size for split, fraction in fractions.items()}
    order = list(clusters)
    rng.shuffle(order)
    order.sort(key=lambda cluster: (min(totals[want] for want in cluster.wants), -len(cluster.members)))
    assigned: Dict[str, List[int]] = {split: [] for split in fractions}
    for cluster in order:
        rarest = min(cluster.wants, key=lambda want: totals[want])
        best = max(fractions, key=lambda split: (lacking[split][rarest], room[split], rng.random()))
        assigned[best] += cluster.members
        room[best] -= len(cluster.members)
        for want, count in cluster.wants.items():
            lacking[best][want] -= count
    return {split: sorted(numbers) for split, numbers in assigned.items()}


def _labels(doc: Doc) -> List[Want]:
    """The document's labels, each with its task, and whether a task is annotated in it at all."""
    found: List[Want] = []
    for task in registered_tasks():
        if not task.is_auxiliary and task.is_annotated(doc):
            found += [("annotated", task.title), *((task.title, label) for label in sorted(task.labels(doc)))]
    return found


def _label_counts(docs: Sequence[Doc]) -> Dict[str, int]:
    counts = Counter(f"{title}: {label}" for doc in docs for title, label in _labels(doc) if title != "annotated")
    return dict(sorted(counts.items()))
