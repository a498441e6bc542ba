"""Write labelled data again without what a check can remove by itself: see `fix_data`."""

from collections import defaultdict
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Sequence

from spacy.tokens import Doc

from mtl.data.check.facts import gather
from mtl.data.check.texts import TRAIN, near_pairs, repeated
from mtl.data.docs import write_docs
from mtl.data.duplicates import normalized
from mtl.data.formats.reading import Reading
from mtl.data.labelled import read_labelled
from mtl.errors import UserError
from mtl.registry import registered_tasks

LOG = "removed.jsonl"


def fix_data(files: Mapping[str, Sequence[Path]], out: Path, *, lang: str, reading: Reading) -> List[Dict[str, str]]:
    """Write a copy of labelled files without empty documents, training documents that are in another split (the same text, nearly
    the same, or of the same group), and exact repetitions. What a person has to decide stays: contradictions and labels.

    Args:
        files (Mapping[str, Sequence[Path]]): By split, its files.
        out (Path): Where to write: `out/SPLIT/NAME.spacy`.
        lang (str): The language whose tokenizer is used.
        reading (Reading): How to read the files.

    Returns:
        List[Dict[str, str]]: What was removed: "where" and "why".

    Raises:
        UserError: Two files of a split have the same name, or a file cannot be read.
    """
    for split, paths in files.items():
        names = [path.stem for path in paths]
        if len(set(names)) < len(names):
            raise UserError(f"two files of {split} are called {max(names, key=names.count)!r}: rename one")
    tasks = [task for task in registered_tasks() if not task.is_auxiliary]
    removed = _to_remove(files, lang, reading, tasks)
    for split, paths in files.items():
        for path in paths:
            write_docs(_kept({split: [path]}, lang, reading, removed), out / split / f"{path.stem}.spacy")
    return [{"where": where, "why": why} for where, why in removed.items()]


def _kept(files: Mapping[str, Sequence[Path]], lang: str, reading: Reading, removed: Dict[str, str]) -> Iterator[Doc]:
    for document in read_labelled(files, lang, reading):
        if document.where not in removed:
            yield document.doc


def _to_remove(files: Mapping[str, Sequence[Path]], lang: str, reading: Reading, tasks: Sequence) -> Dict[str, str]:
    """Where the documents are that will be removed -> why."""
    items = gather(read_labelled(files, lang, reading), tasks, {})
    removed = {item.where: "empty" for item in items if not item.text.strip()}
    by_text = defaultdict(list)
    for item in items:
        by_text[normalized(item.text)].append(item)
    by_text.pop("", None)
    outside = {item.group: item for item in items if item.split != TRAIN and item.group}
    for group in by_text.values():
        other = next((item for item in group if item.split != TRAIN), None)
        for item in group:
            if item.split == TRAIN and other is not None:
                removed.setdefault(item.where, f"the same text as {other.where}")
    for item in items:
        if item.split == TRAIN and item.group in outside:
            removed.setdefault(item.where, f"of the group {item.group!r}, as {outside[item.group].where}")
    while pairs := [(item, other) for item, other in near_pairs(_left(by_text, removed)) if TRAIN in (item.split, other.split)]:
        for item, other in pairs:
            train, held_out = (item, other) if item.split == TRAIN else (other, item)
            for twin in by_text[normalized(train.text)]:
                removed.setdefault(twin.where, f"nearly the same text as {held_out.where}")
    for item, earlier in repeated(by_text.values()):
        removed.setdefault(item.where, f"the same text and annotation as {earlier.where}")
    return removed


def _left(by_text: Dict[str, List], removed: Dict[str, str]) -> Dict[str, List]:
    left = {text: [item for item in group if item.where not in removed] for text, group in by_text.items()}
    return {text: group for text, group in left.items() if group}
