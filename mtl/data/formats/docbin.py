"""spaCy's own DocBin files: entities, categories, questions and numbers as this project stores them."""

from typing import Iterator

from spacy.tokens import Doc
from spacy.vocab import Vocab

from mtl.data.docs import GROUP, docbin_files, group_of, read_docs
from mtl.data.formats.source import Source
from mtl.data.records import Record, Report
from mtl.registry import Task, registered_tasks


def is_docbin(source: Source) -> bool:
    """Whether the file is named `.spacy`, or the folder holds such files."""
    return source.path.suffix == ".spacy" or (source.path.is_dir() and any(source.path.rglob("*.spacy")))


def read_docbin(source: Source, report: Report) -> Iterator[Record]:
    """Read a file or a folder of them.

    Raises:
        UserError: A file is damaged.
    """
    for file in docbin_files(source.path):
        for number, doc in enumerate(read_docs(file, Vocab()), start=1):
            for task in registered_tasks():
                if type(task).to_record is Task.to_record and not task.is_auxiliary and len(doc) and task.is_annotated(doc):
                    report.count(f"documents with {task.title}, which are left out: use the .spacy file itself")
            yield record_of(doc, f"{file}, document {number}")


def record_of(doc: Doc, where: str) -> Record:
    """What a Doc is annotated with, gold or predicted, for the tasks that records hold."""
    record = Record(doc.text, where, extra={GROUP: group_of(doc)} if group_of(doc) else {})
    for task in registered_tasks():
        task.to_record(doc, record)
    return record
