"""Convert the splits of a data set together, and check them against each other."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Dict, List

from spacy.tokens import DocBin

from mtl.data.docs import blank_pipeline, read_docs, replacing_docs
from mtl.data.formats.detect import read_records
from mtl.data.formats.jsonl import KEYS
from mtl.data.formats.reading import Reading
from mtl.data.labels import Spelling, settle_spellings
from mtl.data.records import Record, Report
from mtl.data.shards import Label, make_shards
from mtl.errors import UserError, check_range
from mtl.progress import CountProgress
from mtl.registry import registered_tasks, task_types

ADVISED = 5000  # training documents that are looked at for advice
SHARD_SIZE = 2000  # documents
MAX_FILE = 400_000_000  # characters of the documents in one file; about 10 GB of memory


@dataclass
class Split:
    """A split while it is converted.

    Args:
        file (Path): The labelled file.
        report (Report): What was read, repaired and left out.
        records (List[Record]): Its documents, until they are converted.
        first (Dict[Label, str]): Each label -> where it was first seen.
        is_annotated (bool): Whether a document has an annotation.
    """

    file: Path
    report: Report = field(default_factory=Report)
    records: List[Record] = field(default_factory=list)
    first: Dict[Label, str] = field(default_factory=dict)
    is_annotated: bool = False


def convert_splits(
    files: Dict[str, Path],
    paths: Dict[str, Path],
    *,
    reading: Reading = Reading(),
    lang: str = "en",
    shard_size: int = SHARD_SIZE,
    processes: int = 0,
    allow_unseen: bool = False,
    spelling: Spelling = "refuse",
) -> Dict[str, Report]:
    """Convert the file of each split. Nothing is written unless all of them can be converted.

    The records are held in memory, the documents are not if `paths` are folders.

    Args:
        files (Dict[str, Path]): By split, the labelled file. The first is the training data, which the others are checked
            against.
        paths (Dict[str, Path]): By split, the `.spacy` file or folder to write.
        reading (Reading): How to read the files.
        lang (str): The language whose tokenizer is used, as in `spacy.blank`.
        shard_size (int): Documents in a shard, where a folder is written.
        processes (int): How many processes; 0 for all cores if there are many documents, else one.
        allow_unseen (bool): Accept labels that the training data lacks.
        spelling (Spelling): What to do with labels that differ in case or blanks alone: see `settle_spellings`.

    Raises:
        UserError: A file cannot be read, holds no annotation, or has a label that the training data lacks.
    """
    check_range("--shard-size", shard_size, 1)
    vocab = blank_pipeline(lang).vocab  # a wrong language is found first
    splits = {name: Split(file) for name, file in files.items()}
    for split in splits.values():
        with CountProgress(f"reading {split.file}", "documents") as progress:
            split.records += progress.over(read_records(split.file, split.report, reading))
        if not split.records:
            raise UserError(f"{split.file}: no document in it")
        _count_unread_keys(split)
    check_columns(reading, [split.report for split in splits.values()])
    records = [record for split in splits.values() for record in split.records]
    settle_spellings(records, spelling, next(iter(splits.values())).report)
    for task in registered_tasks():
        task.complete(records)
    del records  # which the splits give up one by one
    train, *others = splits.values()
    for split in others:
        _note_repeated(train, split)
    for name, split in splits.items():
        _check_size(split, paths[name])
    with ExitStack() as stack:
        for name, split in splits.items():
            partial = stack.enter_context(replacing_docs(paths[name]))
            _write(split, partial, paths[name].suffix == ".spacy", lang, shard_size, processes)
            _check_annotated(split)
        for split in others:
            _check_labels(train, split, allow_unseen)
    docs = list(islice(read_docs(paths[next(iter(splits))], vocab), ADVISED))
    train.report.advice += [line for task in registered_tasks() for line in task.advice(docs)]
    return {name: split.report for name, split in splits.items()}


def _write(split: Split, path: Path, is_file: bool, lang: str, size: int, processes: int) -> None:
    """Write the documents of a split, whose records are given up on the way."""
    if not is_file:
        path.mkdir()
    whole = DocBin()
    with CountProgress(f"converting {split.file}", "documents", len(split.records)) as progress:
        for number, shard in enumerate(make_shards(split.records, lang, SHARD_SIZE if is_file else size, processes)):
            split.report.add(shard.report)
            split.first = {**shard.first, **split.first}
            split.is_annotated |= shard.is_annotated
            if is_file:
                whole.merge(DocBin().from_bytes(shard.docs))
            else:
                (path / f"{number:05d}.spacy").write_bytes(shard.docs)
            progress.advance(shard.size, shard.characters)
    if is_file:
        whole.to_disk(path)


def _check_size(split: Split, path: Path) -> None:
    characters = sum(len(record.text) for record in split.records)
    if path.suffix == ".spacy" and characters > MAX_FILE:
        raise UserError(
            f"{split.file}: {characters / 1e6:,.0f} MB of text are too much for one .spacy file, which is read as a whole; write "
            f"folders of them: --shard-size {SHARD_SIZE}"
        )


def check_columns(reading: Reading, reports: List[Report]) -> None:
    """Check that every column that was named is in one of the files.

    Raises:
        UserError: One is in none.
    """
    found = {key for report in reports for key in report.columns}
    for key, name in reading.columns.items():
        if key not in found:
            raise UserError(f"--column {key.split(':')[0]}={name}: no file has {name!r}")


def _check_annotated(split: Split) -> None:
    if not split.is_annotated:
        count, title = split.report.counts["documents"], split.report.format
        raise UserError(
            f"{split.file}, read as {title}: none of its {count:,} documents has an annotation; rows are read for "
            f'"label", "labels", "cats", "entities", "spans", "qas", "questions" and "score". Name others with --column, as in '
            f"label=Type{_unread(split)}"
        )


def _unread(split: Split) -> str:
    keys = [what.split("'")[1] for what in split.report.counts if "which is not read" in what and "'" in what]
    return f". Keys that are not read: {', '.join(map(repr, keys))}" if keys else ""


def _count_unread_keys(split: Split) -> None:
    """Count the keys of JSON Lines documents that no task reads, and name the key that one may stand for."""
    claimed = {key for task in task_types() for key in task.json_keys} | {"group"}  # which `mtl split` and `mtl check` read
    for record in split.records:
        for key in record.extra:
            if key not in claimed:
                split.report.count(f"documents with {key!r}, which is not read")
    for what in [what for what in split.report.counts if what.endswith("which is not read")]:
        key = what.split("'")[1] if "'" in what else what
        meant = get_close_matches(key.lower(), [*KEYS, *claimed], n=1, cutoff=0.8)
        if meant:
            split.report.counts[f"{what}; is {meant[0]!r} meant?"] = split.report.counts.pop(what)


def _check_labels(train: Split, other: Split, allow_unseen: bool) -> None:
    for (title, label), where in sorted(other.first.items()):
        if (title, label) in train.first:
            continue
        names = ", ".join(sorted(name for kind, name in train.first if kind == title)) or "none"
        message = f"{where}: {title}: {label!r} does not occur in {train.file}; known: {names}"
        if not allow_unseen:
            raise UserError(f"{message}. Correct it, or accept it with --allow-unseen")
        other.report.note("labels that the training data lacks", message)


def _note_repeated(train: Split, other: Split) -> None:
    seen = {record.text: record.where for record in train.records}
    for record in other.records:
        if record.text in seen:
            other.report.note("documents that are in train too", f"{record.where}: the same text as {seen[record.text]}")
