"""The formats of labelled files, and how a file's format is recognised: by its content, because names mislead."""

from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Union

from mtl.data.formats.bioc import bioc_records, is_bioc_json, is_bioc_xml, read_bioc_xml
from mtl.data.formats.brat import is_brat, read_brat
from mtl.data.formats.conll import is_conll, read_conll
from mtl.data.formats.docbin import is_docbin, read_docbin
from mtl.data.formats.doccano import doccano_record, is_doccano, settle_empty
from mtl.data.formats.jsonl import is_own_rows, own_record
from mtl.data.formats.label_studio import check_annotated, is_label_studio, label_studio_record
from mtl.data.formats.pubtator import is_pubtator, read_pubtator
from mtl.data.formats.source import Source
from mtl.data.formats.squad import is_squad, squad_records
from mtl.data.formats.table import TableReader, is_table
from mtl.data.formats.tagged import is_spacy_json, is_token_rows, spacy_json_records, token_record
from mtl.data.records import Record, Report
from mtl.errors import UserError, check_choice

GROUP = "mtl_formats"  # the entry point group: name -> a `Format`


@dataclass(frozen=True)
class Format:
    """A format of labelled files.

    Args:
        title (str): What it is called in messages.
        fits (Callable[[Source], bool]): Whether a file has it.
        read (Callable[[Source, Report], Iterator[Record]]): Reads a file. It raises `UserError` with file and line.
    """

    title: str
    fits: Callable[[Source], bool]
    read: Callable[[Source, Report], Iterator[Record]]


def by_row(record: Callable[[Any, str, Report], Union[Record, Iterable[Record], None]]) -> Callable[..., Iterator[Record]]:
    """A reader that makes documents of one row at a time."""

    def read(source: Source, report: Report) -> Iterator[Record]:
        for where, row in source.rows():
            made = record(row, where, report)
            if isinstance(made, Record):
                yield made
            else:
                yield from made or ()

    return read


def _read_doccano(source: Source, report: Report) -> Iterator[Record]:
    records = list(by_row(doccano_record)(source, report))
    settle_empty(records)
    yield from records


def _read_label_studio(source: Source, report: Report) -> Iterator[Record]:
    yield from check_annotated(list(by_row(label_studio_record)(source, report)), source)


def _read_table(source: Source, report: Report) -> Iterator[Record]:
    reader = TableReader(source)
    report.notes.append(f"{source.path}: read {reader.described()}")
    yield from by_row(reader.record)(source, report)


# In the order in which they are tried.
FORMATS: Dict[str, Format] = {
    "docbin": Format("spaCy's DocBin", is_docbin, read_docbin),
    "brat": Format("brat standoff", is_brat, read_brat),
    "bioc-xml": Format("BioC XML", is_bioc_xml, read_bioc_xml),
    "bioc": Format("BioC JSON", is_bioc_json, by_row(bioc_records)),
    "squad": Format("SQuAD or MRQA", is_squad, by_row(squad_records)),
    "label-studio": Format("Label Studio", is_label_studio, _read_label_studio),
    "spacy-json": Format("spaCy v2 training data", is_spacy_json, by_row(spacy_json_records)),
    "doccano": Format("Doccano", is_doccano, _read_doccano),
    "tokens": Format("tokens and tags", is_token_rows, by_row(token_record)),
    "table": Format("table", is_table, _read_table),
    "jsonl": Format("JSON Lines", is_own_rows, by_row(own_record)),
    "pubtator": Format("PubTator", is_pubtator, read_pubtator),
    "conll": Format("CoNLL", is_conll, read_conll),
}


def all_formats() -> Dict[str, Format]:
    """Those of this package, after those of others."""
    others = {point.name: point.load() for point in entry_points(group=GROUP)}
    return {**others, **{name: format for name, format in FORMATS.items() if name not in others}}


def read_records(
    path: Union[str, Path], report: Report, format: str = "auto", columns: Optional[Dict[str, str]] = None
) -> Iterator[Record]:
    """Read a labelled file.

    Args:
        path (Union[str, Path]): The file, or a folder that one of the formats consists of.
        report (Report): Counts what was read, repaired and left out; gets the title of the format.
        format (str): A key of `all_formats`, or "auto" to recognise it.
        columns (Optional[Dict[str, str]]): Key of a row that has another name in the file -> that name.

    Raises:
        UserError: The format is unknown, or the file does not follow it.
    """
    formats = all_formats()
    check_choice("--format", format, ("auto", *formats))
    source = Source(Path(path), columns or {})
    found = formats[detect_format(path, columns) if format == "auto" else format]
    report.format = found.title
    return found.read(source, report)


def detect_format(path: Union[str, Path], columns: Optional[Dict[str, str]] = None) -> str:
    """Recognise a file's format.

    Args:
        path (Union[str, Path]): The file, or a folder.
        columns (Optional[Dict[str, str]]): See `read_records`.

    Returns:
        str: A key of `all_formats`.

    Raises:
        UserError: The file fits none of them.
    """
    source = Source(Path(path), columns or {})
    formats = all_formats()
    for name, format in formats.items():
        if format.fits(source):
            return name
    raise UserError(f"{path}: {_why_unknown(source)}; name it with --format ({', '.join(formats)})")


def _why_unknown(source: Source) -> str:
    if source.kind == "folder":
        return "unknown format: no file in the folder is brat's or spaCy's"
    keys: List[str] = list(source.keys())
    if keys:
        return f"unknown format: rows with the keys {', '.join(map(repr, keys))}, of which none is a text with annotation"
    return f"unknown format, which begins with {source.first_line[:60]!r}"
