"""The documents of labelled files, of any format or converted, with where they come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Mapping, Optional, Sequence

from spacy.tokens import Doc

from mtl.data.convert import check_columns
from mtl.data.docs import blank_pipeline, docbin_files, group_of, read_docs, record_to_doc
from mtl.data.formats.detect import read_records
from mtl.data.formats.reading import Reading
from mtl.data.formats.rows import HUB
from mtl.data.records import Report
from mtl.errors import UserError
from mtl.progress import CountProgress
from mtl.registry import registered_tasks

LOSSES = ("left out", "left unannotated", "not read", "repaired", "not annotated", "trimmed", "found near", "alone")  # in counts


@dataclass
class Labelled:
    """A document of a split.

    Args:
        doc (Doc): The document with its annotation.
        where (str): File and line, or file and number.
        split (str): "train", "dev" or "test".
        text (str): Its text, which a Doc puts together anew each time.
        file (Path): The file or folder that was given.
        group (str): What it is of, such as a patient or a contract; empty if that is not known.
    """

    doc: Doc
    where: str
    split: str
    text: str
    file: Path
    group: str = ""


def read_labelled(
    files: Mapping[str, Sequence[Path]], lang: str, reading: Reading, reports: Optional[List[Report]] = None
) -> Iterator[Labelled]:
    """Read the files of each split.

    Args:
        files (Mapping[str, Sequence[Path]]): By split, its files.
        lang (str): The language whose tokenizer is used for files that are not converted yet.
        reading (Reading): How to read these.
        reports (Optional[List[Report]]): Gets a report of each of these.

    Raises:
        UserError: A file cannot be read, or there is no such language.
    """
    nlp = blank_pipeline(lang)
    missing = [path for paths in files.values() for path in paths if not (path.exists() or str(path).startswith(HUB))]
    if missing:
        raise UserError(f"{missing[0]}: no such file")
    tasks = registered_tasks()
    own: List[Report] = []
    reports = own if reports is None else reports
    for split, paths in files.items():
        for path in paths:
            with CountProgress(f"reading {path}", "documents") as progress:
                if path.suffix == ".spacy" or (path.is_dir() and any(path.rglob("*.spacy"))):
                    for file in docbin_files(path):
                        for number, doc in enumerate(progress.over(read_docs(file, nlp.vocab)), start=1):
                            yield Labelled(doc, f"{file}, document {number}", split, doc.text, path, group_of(doc))
                    continue
                own.append(Report(path=str(path)))
                if reports is not own:
                    reports.append(own[-1])
                records = list(read_records(path, own[-1], reading))
                for task in tasks:
                    task.complete(records)
                for record in progress.over(records):
                    doc = record_to_doc(record, nlp, reports[-1])
                    yield Labelled(doc, record.where, split, record.text, path, group_of(doc))
    if own:
        check_columns(reading, own)


def left_out(reports: Sequence[Report]) -> Iterator[str]:
    """What the reports have counted as repaired or left out, a line each."""
    for report in reports:
        yield from (note for note in report.notes if note.startswith(f"{report.path}: "))  # how the file was read
        for what, count in report.counts.items():
            if any(word in what for word in LOSSES):
                yield f"{report.path}: {count:,} {what}"
