"""Write labelled data again without what a check can remove by itself: see `fix_data`."""

from collections import defaultdict
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Sequence, Tuple

from spacy.tokens import Doc

from mtl.data.check.facts import Item, gather
from mtl.data.check.texts import TRAIN, near_pairs, repeated
from mtl.data.docs import write_docs
from mtl.data.duplicates import normalized
from mtl.data.formats.reading import Reading
from mtl.data.labelled import read_labelled
from mtl.errors import UserError
from mtl.registry import Task, registered_tasks

LOG = "removed.jsonl"
Key = Tuple[str, str]  # split, where


def fix_data(files: Mapping[str, Sequence[Path]], out: Path, *, lang: str, reading: Reading) -> List[Dict[str, str]]:
    """Write a copy of labelled files without empty documents, training documents that are in another split (the same text, nearly
    the same, or of the same group), and exact repetitions. What a person has to decide stays: contradictions and labels.

    Args:
        files (Mapping[str, Sequence[Path]]): By split, its files.
        out (Path): Where to write: `out/SPLIT/NAME.spacy`.
        lang (str): The language whose tokenizer is used.
        reading (Reading): How to read the files.

    Returns:
        List[Dict[str, str]]: What was removed: "split", "where" and "why".

    Raises:
        UserError: Two files of a split have the same name, a file would be written over, or a file cannot be read.
    """
    for split, paths in files.items():
        names = [path.stem for path in paths]
        if len(set(names)) < len(names):
            raise UserError(f"two files of {split} are called {max(names, key=names.count)!r}: rename one")
        for path in paths:
            if (out / split / f"{path.stem}.spacy").resolve() == path.resolve():
                raise UserError(f"--fix {out}: would write over {path}; give another folder")
    tasks = [task for task in registered_tasks() if not task.is_auxiliary]
    removed = _to_remove(files, lang, reading, tasks)
    for split, paths in files.items():
        for path in paths:
            write_docs(_kept(split, path, lang, reading, removed), out / split / f"{path.stem}.spacy")
    return [{"split": split, "where": where, "why": why} for (split, where), why in removed.items()]


def _kept(split: str, path: Path, lang: str, reading: Reading, removed: Dict[Key, str]) -> Iterator[Doc]:
    for document in read_labelled({split: [path]}, lang, reading):
        if (split, document.where) not in removed:
            yield document.doc


def _to_remove(files: Mapping[str, Sequence[Path]], lang: str, reading: Reading, tasks: Sequence[Task]) -> Dict[Key, str]:
    """Which documents will be removed -> why."""
    items = gather(read_labelled(files, lang, reading), tasks, {})
    removed: Dict[Key, str] = {}

    def remove(item: Item, why: str) -> None:
        removed.setdefault((item.split, item.where), why)

    by_text: Dict[str, List[Item]] = defaultdict(list)
    exactly: Dict[str, List[Item]] = defaultdict(list)
    for item in items:
        if not item.text.strip():
            remove(item, "empty")
        else:
            by_text[normalized(item.text)].append(item)
            exactly[item.text].append(item)
    outside = {item.group: item for item in items if item.split != TRAIN and item.group}
    for group in by_text.values():
        held_out = next((item for item in group if item.split != TRAIN), None)
        for item in group if held_out is not None else ():
            if item.split == TRAIN and held_out is not None:
                remove(item, f"the same text as {held_out.where}")
    for item in items:
        if item.split == TRAIN and item.group in outside:
            remove(item, f"of the group {item.group!r}, as {outside[item.group].where}")
    for item, others in near_pairs(by_text):
        for other in others if item.split != TRAIN else ():
            for twin in by_text[normalized(other.text)] if other.split == TRAIN else ():
                remove(twin, f"nearly the same text as {item.where}")
    for item, earlier in repeated(exactly.values()):
        remove(item, f"the same text and annotation as {earlier.where}")
    return removed
