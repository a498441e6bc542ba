"""Documents out again, to where people label: gold annotation or a pipeline's predictions, in the formats that tools import."""

import csv
import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Sequence, Tuple

from spacy.tokens import Doc

from mtl.data.docs import GROUP
from mtl.data.formats.docbin import record_of
from mtl.data.formats.table import SEPARATORS
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError, check_choice
from mtl.files import check_target, replacing

HOLDS = 0.5  # degree from which a category is exported where a format knows yes and no only
BY_TOKEN = ("conll", "datasets")  # formats with a tag for each token
Documents = Sequence[Tuple[Record, Doc]]


def export_docs(docs: Iterable[Doc], out: Path, format: str) -> Report:
    """Write documents in a format.

    Args:
        docs (Iterable[Doc]): With gold annotation, or as a pipeline has predicted.
        out (Path): The file to write; for brat and datasets the folder.
        format (str): A key of `WRITERS`.

    Returns:
        Report: How much of each annotation was written, and what the format cannot hold.

    Raises:
        UserError: There is no such format, or nothing that it can hold.
    """
    check_export(out, format)
    report = Report(format=format)
    documents = [(record_of(doc, f"document {number}"), doc) for number, doc in enumerate(docs, start=1)]
    write, held = WRITERS[format]
    kinds = {
        "categories": lambda record: record.cats, "entities": lambda record: record.entities,
        "questions": lambda record: record.questions, "scores": lambda record: record.number,
    }  # fmt: skip
    for kind, value in kinds.items():
        having = sum(value(record) is not None for record, _ in documents)
        if having:
            report.count(f"documents with {kind}" + ("" if kind in held else f", which {format} does not hold"), having)
    _count_losses(documents, format, report)
    if not any(value(record) is not None for record, _ in documents for kind, value in kinds.items() if kind in held):
        raise UserError(f"--to {format}: it holds {', '.join(held)}, and no document has any")
    with replacing(out, _marker(format)) as partial:
        write(documents, partial)
    return report


def _count_losses(documents: Documents, format: str, report: Report) -> None:
    """Count what of entities a format does not hold."""
    attributes = sum(bool(entity.attributes) for record, _ in documents for entity in record.entities or ())
    if attributes and format != "jsonl":
        report.count(f"entities with attributes, which {format} does not hold", attributes)
    if format in BY_TOKEN:
        missing = sum(len(record.entities or ()) - len(doc.ents) for record, doc in documents)
        if missing:
            report.count(f"entities off tokens or inside others, which {format} does not hold", missing)


def check_export(out: Path, format: str) -> None:
    """Check what can be checked before there are documents.

    Raises:
        UserError: There is no such format, or there is something at the path that must not be replaced.
    """
    check_choice("--to", format, tuple(WRITERS))
    check_target(out, _marker(format))


def _marker(format: str) -> str:
    return {"brat": "*.ann", "datasets": "state.json"}.get(format, "")


def labels_of(record: Record) -> List[str]:
    """The categories that hold; of those that compete, the likeliest."""
    cats = record.cats or {}
    holding = [label for label, degree in cats.items() if degree >= HOLDS]
    is_distribution = len(cats) > 1 and abs(sum(cats.values()) - 1) < 1e-3
    return [max(cats, key=lambda label: cats[label])] if is_distribution and not holding else holding


def _rows(documents: Documents) -> Iterator[Dict[str, Any]]:
    """Our own rows, with everything."""
    for record, _ in documents:
        row: Dict[str, Any] = {"text": record.text}
        if record.cats is not None:
            row["cats"] = record.cats
        if record.entities is not None:
            row["entities"] = [
                {"start": e.start, "end": e.end, "label": e.label}
                | ({"attributes": e.attributes} if e.attributes is not None else {})
                for e in record.entities
            ]  # fmt: skip
        if record.number is not None:
            row["score"] = record.number
        if record.extra.get(GROUP):
            row[GROUP] = record.extra[GROUP]
        if record.questions is not None:
            row["qas"] = _questions(record)
        yield row


def _questions(record: Record) -> List[Dict[str, Any]]:
    return [
        {"id": question.id, "question": question.text, "is_impossible": not question.answers,
         "answers": [{"text": answer.text, "answer_start": answer.start} for answer in question.answers]}
        for question in record.questions or ()
    ]  # fmt: skip


def _prodigy(documents: Documents) -> Iterator[Dict[str, Any]]:
    for record, doc in documents:
        tokens = [
            {"text": token.text, "start": token.idx, "end": token.idx + len(token), "id": token.i, "ws": bool(token.whitespace_)}
            for token in doc
        ]
        row: Dict[str, Any] = {"text": record.text, "tokens": tokens, "answer": "accept"}
        if record.entities is not None:
            row["spans"] = [_span(doc, entity) for entity in record.entities]
        if record.cats is not None:
            row |= {"options": [{"id": label, "text": label} for label in record.cats], "accept": labels_of(record)}
        yield row


def _span(doc: Doc, entity: Entity) -> Dict[str, Any]:
    """An entity of Prodigy's, with its tokens if it fits them."""
    span = doc.char_span(entity.start, entity.end)
    tokens = {} if span is None else {"token_start": span.start, "token_end": span.end - 1}
    return {"start": entity.start, "end": entity.end, "label": entity.label, **tokens}


def _doccano(documents: Documents) -> Iterator[Dict[str, Any]]:
    for record, _ in documents:
        spans = None if record.entities is None else [[e.start, e.end, e.label] for e in record.entities]
        if spans is not None and record.cats is not None:  # a project of intents and slots
            yield {"text": record.text, "cats": labels_of(record), "entities": spans}
        elif spans is not None or record.cats is not None:
            yield {"text": record.text, "label": labels_of(record) if spans is None else spans}


def _label_studio(documents: Documents) -> List[Dict[str, Any]]:
    tasks = []
    for record, _ in documents:
        result: List[Dict[str, Any]] = [
            {"from_name": "label", "to_name": "text", "type": "labels", "value": {
                "start": _utf16(record.text, e.start), "end": _utf16(record.text, e.end), "text": record.text[e.start : e.end],
                "labels": [e.label]}}
            for e in record.entities or ()
        ]  # fmt: skip
        if record.cats is not None:
            value = {"choices": labels_of(record)}
            result.append({"from_name": "category", "to_name": "text", "type": "choices", "value": value})
        tasks.append({"data": {"text": record.text}, "annotations": [{"result": result}]})
    return tasks


def _utf16(text: str, position: int) -> int:
    """The UTF-16 units before a character, which is what Label Studio counts."""
    return len(text[:position].encode("utf-16-le")) // 2


def _squad(documents: Documents) -> Dict[str, Any]:
    paragraphs = [
        {"context": record.text, "qas": [{**qa, "id": f"{number}-{qa['id']}"} for qa in _questions(record)]}
        for number, (record, _) in enumerate(documents, start=1) if record.questions is not None
    ]  # fmt: skip
    return {"version": "v2.0", "data": [{"title": "export", "paragraphs": paragraphs}]}


def _write_conll(documents: Documents, path: Path) -> None:
    lines: List[str] = []
    for record, doc in documents:
        if record.entities is None:
            continue
        lines += ["-DOCSTART- O", ""]
        words = (token.text for token in doc if not token.is_space)
        lines += [*(f"{word} {tag}" for word, tag in zip(words, _iob(doc))), ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def _write_csv(documents: Documents, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "labels"])
        chosen = [(record.text, labels_of(record)) for record, _ in documents if record.cats is not None]
        has_marks = any(mark in label for _, labels in chosen for label in labels for mark in SEPARATORS)
        for text, labels in chosen:
            writer.writerow([text, json.dumps(labels, ensure_ascii=False) if has_marks else "|".join(labels)])


def _write_brat(documents: Documents, folder: Path) -> None:
    folder.mkdir()
    width = len(str(len(documents)))
    for number, (record, _) in enumerate(documents, start=1):
        if record.entities is None:
            continue
        with (folder / f"{number:0{width}}.txt").open("w", encoding="utf-8", newline="") as file:
            file.write(record.text)
        lines = [
            f"T{i}\t{e.label.replace(' ', '_')} {e.start} {e.end}\t{' '.join(record.text[e.start : e.end].split())}"
            for i, e in enumerate(record.entities, start=1)
        ]
        (folder / f"{number:0{width}}.ann").write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def _write_data_set(documents: Documents, folder: Path) -> None:
    """A Hugging Face data set: categories as `labels`, entities as IOB tags of `tokens`; null where nothing is annotated."""
    from datasets import ClassLabel, Dataset, Features, Value
    from datasets import Sequence as ListOf

    tags = sorted({f"{prefix}-{e.label}" for record, _ in documents for e in record.entities or () for prefix in "BI"})
    columns: Dict[str, List[Any]] = {"text": [record.text for record, _ in documents]}
    features: Dict[str, Any] = {"text": Value("string")}
    if any(record.cats is not None for record, _ in documents):
        names = sorted({label for record, _ in documents for label in record.cats or ()})
        columns["labels"] = [None if record.cats is None else labels_of(record) for record, _ in documents]
        features["labels"] = ListOf(ClassLabel(names=names))
    if any(record.entities is not None for record, _ in documents):
        columns["tokens"] = [[token.text for token in doc if not token.is_space] for _, doc in documents]
        columns["ner_tags"] = [None if record.entities is None else _iob(doc) for record, doc in documents]
        features |= {"tokens": ListOf(Value("string")), "ner_tags": ListOf(ClassLabel(names=["O", *tags]))}
    Dataset.from_dict(columns, features=Features(features)).save_to_disk(str(folder))


def _iob(doc: Doc) -> List[str]:
    return [
        f"{token.ent_iob_}-{'_'.join(token.ent_type_.split())}" if token.ent_type_ else "O" for token in doc if not token.is_space
    ]


def _as_lines(rows: Callable[[Documents], Iterable[Dict[str, Any]]]) -> Callable[[Documents, Path], None]:
    def write(documents: Documents, path: Path) -> None:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(documents)), encoding="utf-8")

    return write


def _as_json(value: Callable[[Documents], Any]) -> Callable[[Documents, Path], None]:
    def write(documents: Documents, path: Path) -> None:
        path.write_text(json.dumps(value(documents), ensure_ascii=False, indent=1), encoding="utf-8")

    return write


# name -> the writer, and what the format holds
WRITERS: Dict[str, Tuple[Callable[[Documents, Path], None], Sequence[str]]] = {
    "jsonl": (_as_lines(_rows), ("categories", "entities", "questions", "scores")),
    "prodigy": (_as_lines(_prodigy), ("categories", "entities")),
    "doccano": (_as_lines(_doccano), ("entities", "categories")),
    "label-studio": (_as_json(_label_studio), ("categories", "entities")),
    "brat": (_write_brat, ("entities",)),
    "conll": (_write_conll, ("entities",)),
    "squad": (_as_json(_squad), ("questions",)),
    "csv": (_write_csv, ("categories",)),
    "datasets": (_write_data_set, ("categories", "entities")),
}
