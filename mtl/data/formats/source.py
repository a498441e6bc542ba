"""A labelled file before its format is known: what it is made of, its first lines, its rows."""

from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Set, Tuple

from mtl.data.formats.names import LABEL_NAMES, LIST_NAMES, SCORE_NAMES, TEXT_NAMES
from mtl.data.formats.reading import LAYOUT, Reading
from mtl.data.formats.rows import HUB, Row, first_of, hub_rows, is_json, json_rows, parquet_rows, saved_rows
from mtl.data.formats.table_rows import DELIMITERS, TABLES, excel_rows, table_rows
from mtl.data.formats.unpack import is_excel
from mtl.data.text_files import NotUtf8, read_text, stream_lines
from mtl.errors import UserError

SAMPLED = 50  # rows that are looked at to recognise a format
ROWS: Dict[str, Callable[[Path, Reading], Iterator[Row]]] = {
    "json": json_rows, "table": table_rows, "excel": excel_rows, "parquet": parquet_rows, "data set": saved_rows, "hub": hub_rows,
}  # fmt: skip
ROW_KINDS = frozenset(ROWS)
SAVED = ("state.json", "dataset_dict.json")  # one of which a folder of `datasets` has
# What a file begins with -> what it is.
MAGIC: Dict[bytes, str] = {
    b"PAR1": "parquet", b"PK\x03\x04": "zip", b"\xd0\xcf\x11\xe0": "old Excel", b"%PDF": "PDF", b"{\\rtf": "RTF",
}  # fmt: skip
CANNOT = {
    "old Excel": "is an .xls or .doc file of Office before 2007; save it as .xlsx or CSV",
    "PDF": "is a PDF; extract its text first",
    "RTF": "is RTF; save it as text",
    "zip": "is a zip archive, which cannot stand here",
}


@dataclass
class Source:
    """A file to read.

    Args:
        path (Path): The file or folder.
        reading (Reading): How.
        found (Set[str]): Which of the named columns it turned out to have.
    """

    path: Path
    reading: Reading = field(default_factory=Reading)
    found: Set[str] = field(default_factory=set)

    @property
    def columns(self) -> Mapping[str, str]:
        """See `Reading`."""
        return self.reading.columns

    @cached_property
    def kind(self) -> str:
        """What it is made of: "folder", "text", or one of `ROWS`.

        Raises:
            UserError: It is a file of a kind that cannot hold annotation.
        """
        if str(self.path).startswith(HUB):
            return "hub"
        if self.path.is_dir():
            return "data set" if any((self.path / name).is_file() for name in SAVED) else "folder"
        found = next((kind for start, kind in MAGIC.items() if self._start.startswith(start)), "")
        suffixes = self.path.suffixes[-2:] if self.path.suffix == ".gz" else self.path.suffixes[-1:]
        if found == "zip" and is_excel(self.path):
            return "excel"
        if found in CANNOT:
            raise UserError(f"{self.path}: {CANNOT[found]}")
        if found:
            return found
        if suffixes and suffixes[0].lower() in TABLES and not self.first_line.startswith("#"):
            return "table"
        if self.path.suffix.lower() in (".xlsx", ".xlsm"):
            return "excel"
        if self.path.suffix == ".spacy":
            return "docbin"
        first = self.first_line
        if _names_columns(first):
            return "table"
        return "json" if (first.startswith(("{", "[")) and not first.startswith("[[")) or is_json(first) else "text"

    @cached_property
    def _start(self) -> bytes:
        if not self.path.is_file():
            return b""
        with self.path.open("rb") as file:
            return file.read(4096)

    def lines(self) -> Iterator[Tuple[int, str]]:
        """The lines with their numbers from 1. Raises the errors of `stream_lines`."""
        try:
            yield from stream_lines(self.path, self.reading.encoding)
        except NotUtf8 as error:
            raise self._advised(error) from None

    @cached_property
    def text(self) -> str:
        """All of it. Raises the errors of `read_text`."""
        try:
            return read_text(self.path, self.reading.encoding)
        except NotUtf8 as error:
            raise self._advised(error) from None

    def _advised(self, error: UserError) -> UserError:
        return UserError(f"{error}, or name its encoding: --encoding cp1252")

    @cached_property
    def first_line(self) -> str:
        """The first line that is not blank, without white space at its edges."""
        for _, line in self.lines():
            if line.strip():
                return line.strip()
        raise UserError(f"{self.path}: the file is empty")

    @cached_property
    def first_rows(self) -> List[Any]:
        """Some rows from the start; none if the file has no rows."""
        return first_of(self.rows(), SAMPLED) if self.kind in ROW_KINDS else []

    @property
    def first_objects(self) -> List[Dict[str, Any]]:
        """Those of the first rows that are JSON objects."""
        return [row for row in self.first_rows if isinstance(row, dict)]

    def key_values(self) -> Dict[str, Any]:
        """Every key of the first rows, with the first value that is neither null nor empty."""
        found: Dict[str, Any] = {}
        for row in self.first_objects:
            for key, value in row.items():
                if found.get(key) in (None, [], {}, ""):
                    found[key] = value
        return found

    def rows(self) -> Iterator[Row]:
        """The rows with their places.

        Raises:
            UserError: The file is damaged, has no rows, or lacks a column that is asked for.
        """
        if self.kind not in ROW_KINDS:
            raise UserError(f"{self.path}: it has no rows, such as JSON, CSV, Excel and parquet files have")
        try:
            for where, value in ROWS[self.kind](self.path, self.reading):
                yield where, self._renamed(value, where) if self.columns and isinstance(value, dict) else value
        except NotUtf8 as error:
            raise self._advised(error) from None

    def group(self, row: Any) -> Dict[str, Any]:
        """What `Record.extra` says of the group of a row, such as its patient, which is under "group"; {} without any."""
        data = row.get("data") if isinstance(row, dict) else None
        found = next((part["group"] for part in (row, data) if isinstance(part, dict) and "group" in part), None)
        return {} if found in (None, "") else {"group": found}

    def _renamed(self, row: Dict[str, Any], where: str) -> Dict[str, Any]:
        """The row under the names of our keys. Of several files only some may have a name, but a table says what it lacks."""
        named = {key: name for key, name in self.columns.items() if key not in LAYOUT}
        present = {key: name for key, name in named.items() if _value(row, name) is not _ABSENT}
        lacking = [key for key in named if key not in present]
        if lacking and self.kind != "json":
            key, names = lacking[0], ", ".join(map(repr, row))
            raise UserError(f"{where}: --column {key}={self.columns[key]}: there is no {self.columns[key]!r}; there are {names}")
        self.found |= set(present) | (set(self.columns) & LAYOUT)
        rest = {key: value for key, value in row.items() if key not in present.values() and key not in present}
        return {**rest, **{key: _value(row, name) for key, name in present.items()}}


@contextmanager
def shaped(where: str, title: str) -> Iterator[None]:
    """Around code that takes a row apart: what it stumbles over is a fault of the row. (`mtl --verbose` shows the traceback.)

    Raises:
        UserError: The row has not the shape of the format.
    """
    try:
        yield
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{where}: a row that {title} does not write ({reason})") from error


def _names_columns(line: str) -> bool:
    """Whether a line of a file without a telling suffix names columns, of which one is a text and another a label."""
    for delimiter in DELIMITERS:
        names = [cell.strip().strip('"').lower() for cell in line.split(delimiter)]
        if len(names) > 1 and len(set(names)) == len(names) and set(names) & set(TEXT_NAMES):
            return bool(set(names) & {*LABEL_NAMES, *LIST_NAMES, *SCORE_NAMES})
    return False


_ABSENT = object()


def _value(row: Dict[str, Any], name: str) -> Any:
    """What the row has under a name, which may lead into objects, as in `meta.body`; `_ABSENT` if it has nothing there."""
    if name in row:
        return row[name]
    head, dot, rest = name.partition(".")
    inner = row.get(head)
    if dot and isinstance(inner, dict):
        return _value(inner, rest)
    return _ABSENT if not isinstance(row.get("data"), dict) else row["data"].get(name, _ABSENT)
