"""spaCy's own DocBin files: entities, categories, questions and numbers as this project stores them."""

from typing import Iterator, List, Optional

from spacy.tokens import Doc
from spacy.vocab import Vocab

from mtl.data.docs import read_docs
from mtl.data.formats.source import Source
from mtl.data.records import Entity, GoldAnswer, Question, Record, Report


def is_docbin(source: Source) -> bool:
    """Whether the file is named `.spacy`, or the folder holds such files."""
    return source.path.suffix == ".spacy" or (source.path.is_dir() and any(source.path.glob("*.spacy")))


def read_docbin(source: Source, report: Report) -> Iterator[Record]:
    """Read a file or a folder of them.

    Raises:
        UserError: A file is damaged.
    """
    files = sorted(source.path.glob("*.spacy")) if source.path.is_dir() else [source.path]
    for file in files:
        for number, doc in enumerate(read_docs(file, Vocab()), start=1):
            yield _record(doc, f"{file}, document {number}", report)


def _record(doc: Doc, where: str, report: Report) -> Record:
    entities = [Entity(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents] if doc.has_annotation("ENT_IOB") else None
    other = [key for key in doc.spans if key != "qa"]
    for key in other:
        report.count(f"spans of the group {key!r}, which are not read", len(doc.spans[key]))
    return Record(doc.text, where, cats=dict(doc.cats) or None, entities=entities, questions=_questions(doc))


def _questions(doc: Doc) -> Optional[List[Question]]:
    group = doc.spans.get("qa", None)
    if group is None or "questions" not in group.attrs:
        return None
    return [
        Question(key, text, [GoldAnswer(span.start_char, span.text) for span in group if span.id_ == key])
        for key, text in group.attrs["questions"].items()
    ]
