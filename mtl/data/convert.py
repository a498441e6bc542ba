"""Convert the splits of a data set together, and check them against each other."""

from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple

import spacy
from spacy.tokens import Doc

from mtl.data.docs import record_to_doc, write_docs
from mtl.data.formats.detect import read_records
from mtl.data.records import Record, Report
from mtl.errors import UserError, check_range
from mtl.registry import registered_tasks, task_types


def convert_splits(
    files: Dict[str, Path],
    paths: Dict[str, Path],
    *,
    format: str,
    lang: str,
    shard_size: int,
    allow_unseen: bool,
    columns: Optional[Dict[str, str]] = None,
) -> Dict[str, Report]:
    """Convert the file of each split. Nothing is written unless all of them can be converted.

    Args:
        files (Dict[str, Path]): By split, the labelled file. The first is the training data, which the others are checked
            against.
        paths (Dict[str, Path]): By split, the `.spacy` file or folder to write.
        format (str): The format of the files, or "auto".
        lang (str): The language whose tokenizer is used, as in `spacy.blank`.
        shard_size (int): Documents in a shard, where a folder is written.
        allow_unseen (bool): Accept labels that the training data lacks.
        columns (Optional[Dict[str, str]]): Key of a row that has another name in the files -> that name.

    Raises:
        UserError: A file cannot be read, holds no annotation, or has a label that the training data lacks.
    """
    check_range("--shard-size", shard_size, 1)
    try:
        nlp = spacy.blank(lang)
    except ImportError:
        raise UserError(f"--lang {lang!r}: spaCy has no such language; use a code such as en, de or xx") from None
    nlp.max_length = max(nlp.max_length, 10**9)  # the limit protects spaCy's parser, which does not run here
    reports = {split: Report() for split in files}
    records = {split: list(read_records(file, reports[split], format, columns)) for split, file in files.items()}
    for split, file in files.items():
        if not records[split]:
            raise UserError(f"{file}: no document in it")
    for task in registered_tasks():
        task.complete([record for split in records.values() for record in split])
    docs: Dict[str, List[Doc]] = {
        split: [record_to_doc(record, nlp, reports[split]) for record in records[split]] for split in files
    }
    train, *others = files
    for split, file in files.items():
        _check_annotated(docs[split], file)
        _count_unread_keys(records[split], reports[split])
    for split in others:
        _check_labels(docs[train], docs[split], records[split], files[train], allow_unseen, reports[split])
        _note_repeated(records[train], records[split], train, reports[split])
    for task in registered_tasks():
        reports[train].advice += task.advice(docs[train])
    for split in files:
        write_docs(docs[split], paths[split], shard_size)
    return reports


def _check_annotated(docs: List[Doc], file: Path) -> None:
    tasks = [task for task in registered_tasks() if not task.is_auxiliary]
    if not any(task.is_annotated(doc) for doc in docs for task in tasks):
        raise UserError(
            f'{file}: none of its {len(docs):,} documents has an annotation; JSON Lines are read for "label", "labels", '
            f'"cats", "entities", "spans", "qas", "questions" and "score"'
        )


def _count_unread_keys(records: List[Record], report: Report) -> None:
    """Count the keys of JSON Lines documents that no task reads."""
    claimed = {key for task in task_types() for key in task.json_keys} | {"group"}  # which `mtl split` and `mtl check` read
    for record in records:
        for key in record.extra:
            if key not in claimed:
                report.count(f"documents with {key!r}, which is not read")


def _labels(doc: Doc) -> Set[Tuple[str, str]]:
    """The document's labels, each with what its task calls its annotation."""
    return {(task.title, label) for task in registered_tasks() if task.is_annotated(doc) for label in task.labels(doc)}


def _check_labels(
    train: List[Doc], other: List[Doc], records: List[Record], file: Path, allow_unseen: bool, report: Report
) -> None:
    known = {label for doc in train for label in _labels(doc)}
    for doc, record in zip(other, records):
        for title, label in sorted(_labels(doc) - known):
            names = ", ".join(sorted(name for kind, name in known if kind == title)) or "none"
            message = f"{record.where}: {title}: {label!r} does not occur in {file}; known: {names}"
            if not allow_unseen:
                raise UserError(f"{message}. Correct it, or accept it with --allow-unseen")
            report.note("labels that the training data lacks", message)


def _note_repeated(train: List[Record], other: List[Record], name: str, report: Report) -> None:
    seen = {record.text: record.where for record in train}
    for record in other:
        if record.text in seen:
            report.note(f"documents that are in {name} too", f"{record.where}: the same text as {seen[record.text]}")
