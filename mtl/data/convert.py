"""Convert the splits of a task together, and check them against each other."""

from pathlib import Path
from typing import Dict, Iterable, List

import spacy
from spacy.tokens import Doc

from mtl.data.docs import read_records, record_to_doc, write_docs
from mtl.data.records import Record, Report
from mtl.errors import UserError, check_range


def convert_splits(
    files: Dict[str, Path], paths: Dict[str, Path], *, format: str, lang: str, shard_size: int, allow_unseen: bool
) -> Dict[str, Report]:
    """Convert each split's file to its path; nothing is written unless all can be.

    files: split -> labelled file; the first is training data, the others are checked against it.
    RAISES (UserError): a file cannot be read; a label that training data lacks; a document without any annotation at all.
    """
    check_range("--shard-size", shard_size, 1)
    try:
        nlp = spacy.blank(lang)
    except ImportError:
        raise UserError(f"--lang {lang!r}: spaCy has no such language; use a code such as en, de or xx") from None
    nlp.max_length = max(nlp.max_length, 10**9)  # the limit is for spaCy's parser
    reports = {split: Report() for split in files}
    records = {split: list(read_records(file, reports[split], format)) for split, file in files.items()}
    for split, file in files.items():
        _check_annotated(records[split], file)
    train, *others = files
    for split in others:
        _check_labels(records[train], records[split], files[train], allow_unseen, reports[split])
        _note_repeated(records[train], records[split], train, reports[split])
    _complete_categories(record for split in records.values() for record in split)
    docs: Dict[str, List[Doc]] = {
        split: [record_to_doc(record, nlp, reports[split]) for record in records[split]] for split in files
    }
    for split in files:
        write_docs(docs[split], paths[split], shard_size)
    return reports


def _check_annotated(records: List[Record], file: Path) -> None:
    if not records:
        raise UserError(f"{file}: no document in it")
    if all(r.cats is None and r.entities is None and r.questions is None and r.number is None for r in records):
        raise UserError(
            f'{file}: none of its {len(records):,} documents has an annotation; JSON Lines are read for "label", "labels", '
            f'"cats", "entities", "spans", "qas", "questions" and "score"'
        )


def _labels(record: Record) -> List[tuple]:
    cats = [("category", label) for label, value in (record.cats or {}).items() if value]
    return cats + [("entity type", entity.label) for entity in record.entities or ()]


def _check_labels(train: List[Record], other: List[Record], file: Path, allow_unseen: bool, report: Report) -> None:
    known = {label for record in train for label in _labels(record)}
    for record in other:
        for kind, label in _labels(record):
            if (kind, label) in known:
                continue
            names = ", ".join(sorted(name for k, name in known if k == kind)) or "none"
            message = f"{record.where}: the {kind} {label!r} is never seen in {file}; known: {names}"
            if not allow_unseen:
                raise UserError(f"{message}. Correct it, or accept it with --allow-unseen")
            report.note("labels that training data lacks", message)


def _note_repeated(train: List[Record], other: List[Record], name: str, report: Report) -> None:
    seen = {record.text: record.where for record in train}
    for record in other:
        if record.text in seen:
            report.note(f"documents that are in {name} too", f"{record.where}: the same text as {seen[record.text]}")


def _complete_categories(records: Iterable[Record]) -> None:
    """Where a file gives only the categories that hold, all others known from any split are 0."""
    everything = list(records)
    labels = sorted({label for record in everything for label in record.cats or ()})
    for record in everything:
        if record.cats is not None and record.cats_complete:
            record.cats = {label: record.cats.get(label, 0.0) for label in labels}
