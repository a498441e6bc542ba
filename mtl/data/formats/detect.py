"""The formats of labelled files, and how a file's format is recognised: by its content, because names mislead."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Union

from mtl.data.formats.bioc import is_bioc_json, is_bioc_xml, read_bioc_json, read_bioc_xml
from mtl.data.formats.brat import is_brat, read_brat
from mtl.data.formats.conll import is_conll, read_conll
from mtl.data.formats.conllu import is_conllu, read_conllu
from mtl.data.formats.docbin import is_docbin, read_docbin
from mtl.data.formats.doccano import is_doccano, read_doccano
from mtl.data.formats.jsonl import is_own_rows, read_own_rows
from mtl.data.formats.label_studio import is_label_studio, read_label_studio
from mtl.data.formats.mojibake import decoded_anew
from mtl.data.formats.prodigy import is_prodigy, read_prodigy
from mtl.data.formats.pubtator import is_pubtator, read_pubtator
from mtl.data.formats.reading import Reading
from mtl.data.formats.small import (
    is_dataturks,
    is_fasttext,
    is_lighttag,
    is_manifest,
    read_dataturks,
    read_fasttext,
    read_lighttag,
    read_manifest,
)
from mtl.data.formats.source import Source, shaped
from mtl.data.formats.span_table import is_span_table, is_token_table, read_span_table, read_token_table
from mtl.data.formats.squad import is_squad, squad_records
from mtl.data.formats.table import TableReader, is_table
from mtl.data.formats.tagged import is_spacy_json, is_token_rows, spacy_json_records, token_record
from mtl.data.formats.unpack import files_in, unpacked
from mtl.data.formats.webanno import is_webanno, read_webanno
from mtl.data.records import Record, Report
from mtl.errors import UserError, check_choice

MAX_KEYS = 20  # of a file of unknown format, that are shown
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


def by_row(
    record: Callable[[Any, str, Report, Reading], Union[Record, Iterable[Record], None]], title: str = "the format"
) -> Callable[..., Iterator[Record]]:
    """A reader that makes documents of one row at a time."""

    def read(source: Source, report: Report) -> Iterator[Record]:
        for where, row in source.rows():
            with shaped(where, title):
                made = record(row, where, report, source.reading)
                found = [made] if isinstance(made, Record) else list(made or ())
            for one in found:
                one.extra |= source.group(row)
                yield one

    return read


def _read_table(source: Source, report: Report) -> Iterator[Record]:
    reader = TableReader(source)
    report.notes.append(f"{source.path}: read {reader.described()}")
    yield from by_row(reader.record)(source, report)


# In the order in which they are tried.
FORMATS: Dict[str, Format] = {
    "docbin": Format("spaCy's DocBin", is_docbin, read_docbin),
    "brat": Format("brat standoff", is_brat, read_brat),
    "bioc-xml": Format("BioC XML", is_bioc_xml, read_bioc_xml),
    "bioc": Format("BioC JSON", is_bioc_json, read_bioc_json),
    "squad": Format("SQuAD or MRQA", is_squad, by_row(squad_records, "SQuAD")),
    "label-studio": Format("Label Studio", is_label_studio, read_label_studio),
    "spacy-json": Format("spaCy v2 training data", is_spacy_json, by_row(spacy_json_records, "spaCy")),
    "prodigy": Format("Prodigy", is_prodigy, read_prodigy),
    "dataturks": Format("DataTurks", is_dataturks, read_dataturks),
    "lighttag": Format("LightTag", is_lighttag, read_lighttag),
    "sagemaker": Format("SageMaker Ground Truth", is_manifest, read_manifest),
    "doccano": Format("Doccano", is_doccano, read_doccano),
    "tokens": Format("tokens and tags", is_token_rows, by_row(token_record)),
    "span-table": Format("table of entities", is_span_table, read_span_table),
    "token-table": Format("table of tokens", is_token_table, read_token_table),
    "table": Format("table", is_table, _read_table),
    "jsonl": Format("JSON Lines", is_own_rows, read_own_rows),
    "fasttext": Format("fastText", is_fasttext, read_fasttext),
    "webanno": Format("WebAnno TSV", is_webanno, read_webanno),
    "pubtator": Format("PubTator", is_pubtator, read_pubtator),
    "conllu": Format("CoNLL-U", is_conllu, read_conllu),
    "conll": Format("CoNLL", is_conll, read_conll),
}


@cache
def all_formats() -> Dict[str, Format]:
    """Those of this package, after those of others."""
    others = {point.name: point.load() for point in entry_points(group=GROUP)}
    return {**others, **{name: format for name, format in FORMATS.items() if name not in others}}


_UNKNOWN = ""  # in place of the name of a format


class UnknownFormat(UserError):
    """A file fits none of the formats."""


def read_records(path: Union[str, Path], report: Report, reading: Reading = Reading()) -> Iterator[Record]:
    """Read labelled documents.

    Args:
        path (Union[str, Path]): A file, a folder of files of one format, or an archive of either.
        report (Report): Counts what was read, repaired and left out; gets the title of the format.
        reading (Reading): How to read.

    Raises:
        UserError: The format is unknown, or the file does not follow it.
    """
    check_choice("--format", reading.format, ("auto", *all_formats()))
    path = Path(path)
    with unpacked(path) as opened:
        inside = str(opened) if opened.is_dir() else str(opened.parent)
        try:
            for record in _read(opened, report, reading):
                record.where = record.where if opened == path else record.where.replace(inside, str(path))
                yield record
        except UserError as error:
            if opened == path:
                raise
            raise UserError(str(error).replace(inside, str(path))) from None
        if opened != path:
            report.notes[:] = [note.replace(inside, str(path)) for note in report.notes]


def _read(path: Path, report: Report, reading: Reading) -> Iterator[Record]:
    whole = Source(path, reading)
    name = _format_of(whole)
    if name or whole.kind != "folder":
        yield from _read_source(whole, name or detect_format(whole), report)
        return
    by_format: Dict[str, List[Source]] = defaultdict(list)
    for file in files_in(path):
        source = Source(file, reading)
        by_format[_format_of(source) or (_UNKNOWN if reading.format == "auto" else reading.format)].append(source)
    unknown = by_format.pop(_UNKNOWN, [])
    if not by_format:
        raise UnknownFormat(f"{path}: no file in the folder has a known format ({', '.join(all_formats())})")
    if len(by_format) > 1:
        found = "; ".join(f"{name}: {_names(sources)}" for name, sources in by_format.items())
        raise UserError(f"{path}: the folder has files of several formats ({found}); give them one by one, or in folders of one")
    for source in unknown:
        report.note("files left out because their format is unknown", f"{source.path}: its format is unknown")
    for name, sources in by_format.items():
        report.count("files", len(sources))
        for source in sources:
            yield from _read_source(source, name, report)


def _names(sources: List[Source]) -> str:
    return ", ".join(source.path.name for source in sources[:3]) + (", ..." if len(sources) > 3 else "")


def _read_source(source: Source, name: str, report: Report) -> Iterator[Record]:
    format = all_formats()[name]
    report.format = format.title
    with shaped(str(source.path), format.title):
        for record in format.read(source, report):
            _check(record)
            yield decoded_anew(record, report) if "text" in source.reading.repair else record
    report.columns |= source.found


def _check(record: Record) -> None:
    """Check what every reader has to give.

    Raises:
        UserError: A text is no string, or a place no number.
    """
    if not isinstance(record.text, str):
        raise UserError(f"{record.where}: the text is {record.text!r}, and not a string")
    for entity in record.entities or ():
        if type(entity.start) is not int or type(entity.end) is not int or not entity.label.strip():
            raise UserError(f"{record.where}: an entity has whole numbers and a label, got {entity}")


def _format_of(source: Source) -> str:
    """The key of the source's format, which is asked for or recognised; "" if it is unknown."""
    formats = all_formats()
    if source.reading.format != "auto":
        return source.reading.format if source.kind != "folder" or formats[source.reading.format].fits(source) else _UNKNOWN
    return next((name for name, format in formats.items() if format.fits(source)), _UNKNOWN)


def detect_format(source: Source) -> str:
    """Recognise a file's format.

    Returns:
        str: A key of `all_formats`.

    Raises:
        UnknownFormat: The file fits none of them.
    """
    name = _format_of(source)
    if name:
        return name
    raise UnknownFormat(f"{source.path}: {_why_unknown(source)} name it with --format ({', '.join(all_formats())})")


def _why_unknown(source: Source) -> str:
    keys: List[str] = list(source.key_values())
    if keys:
        inner = [f"{key}.{name}" for key, value in source.key_values().items() if isinstance(value, dict) for name in value]
        shown = ", ".join(map(repr, [*keys, *inner][:MAX_KEYS]))
        return (
            f"unknown format: rows with the keys {shown}, of which none is a text with annotation. Name them, as in --column "
            f"text={inner[0] if inner else keys[0]} --column label=KEY (or labels, entities); or"
        )
    return f"unknown format, which begins with {source.first_line[:60]!r};"
