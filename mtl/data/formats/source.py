"""A labelled file before its format is known: its first lines, and the rows of JSON, tables and parquet files."""

import csv
import io
import json
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from mtl.data.records import parse_json, read_text, stream_lines
from mtl.errors import UserError

SAMPLED = 50  # rows that are looked at to recognise a format
TABLES = {".csv": "", ".tsv": "\t", ".xlsx": "", ".xlsm": ""}  # suffix -> delimiter, "" to find it out
DELIMITERS = ",;\t|"
PARQUET = b"PAR1"  # a parquet file begins with it
Row = Tuple[str, Any]  # where it is, and its value


@dataclass
class Source:
    """A file to read.

    Args:
        path (Path): The file or folder.
        columns (Dict[str, str]): Key of a row that has another name in the file -> that name.
    """

    path: Path
    columns: Dict[str, str] = field(default_factory=dict)

    @cached_property
    def kind(self) -> str:
        """What it is made of: "folder", "table", "parquet", "json" or "text"."""
        if self.path.is_dir():
            return "folder"
        suffix = self.path.suffix.lower()
        if suffix in TABLES:
            return "table"
        if suffix != ".gz" and self.path.is_file():
            with self.path.open("rb") as file:
                if file.read(4) == PARQUET:
                    return "parquet"
        first = self.first_line
        return "json" if (first.startswith(("{", "[")) and not first.startswith("[[")) or _is_json(first) else "text"

    @cached_property
    def first_line(self) -> str:
        """The first line that is not blank, without white space at its edges."""
        for _, line in stream_lines(self.path):
            if line.strip():
                return line.strip()
        raise UserError(f"{self.path}: the file is empty")

    @cached_property
    def first_rows(self) -> List[Any]:
        """Some rows from the start; none if the file has no rows."""
        return [value for _, value in islice(self.rows(), SAMPLED)] if self.kind in ("table", "parquet", "json") else []

    @property
    def first_objects(self) -> List[Dict[str, Any]]:
        """Those of the first rows that are JSON objects."""
        return [row for row in self.first_rows if isinstance(row, dict)]

    def keys(self) -> Dict[str, Any]:
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
            UserError: The file is damaged, or lacks a column that is asked for.
        """
        readers = {"table": table_rows, "parquet": parquet_rows, "json": json_rows}
        for where, value in readers[self.kind](self.path):
            yield where, self._renamed(value, where) if self.columns and isinstance(value, dict) else value

    def _renamed(self, row: Dict[str, Any], where: str) -> Dict[str, Any]:
        """The row under the names of our keys. Of several files only some may have a name, but a table says what it lacks."""
        for key, name in self.columns.items():
            if name not in row and self.kind in ("table", "parquet"):
                raise UserError(f"{where}: --column {key}={name}: there is no {name!r}; there are {', '.join(map(repr, row))}")
        present = {key: name for key, name in self.columns.items() if name in row}
        rest = {key: value for key, value in row.items() if key not in present.values() and key not in present}
        return {**rest, **{key: row[name] for key, name in present.items()}}


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return line.startswith(("{", "["))


def _is_array_of_rows(line: str) -> bool:
    """Whether a line is an array of rows; a row itself can be an array, of a text and its annotation."""
    value = json.loads(line) if _is_json(line) else None
    return isinstance(value, list) and all(isinstance(item, (dict, list)) for item in value)


def json_rows(path: Path) -> Iterator[Row]:
    """The values of JSON Lines, the items of a JSON array, or the one object of a file."""
    lines = ((number, line) for number, line in stream_lines(path) if line.strip())
    first, second = next(lines, (1, "")), next(lines, None)
    is_array = second is None and _is_array_of_rows(first[1].strip())  # all of it on one line
    if _is_json(first[1].strip()) and not is_array:
        for number, line in (part for part in (first, second) if part is not None):
            yield f"{path}, line {number}", parse_json(line, f"{path}, line {number}")
        for number, line in lines:
            yield f"{path}, line {number}", parse_json(line, f"{path}, line {number}")
        return
    value = parse_json(read_text(path), str(path))
    if isinstance(value, list):
        yield from ((f"{path}, item {number}", item) for number, item in enumerate(value, start=1))
    else:
        yield str(path), value


def table_rows(path: Path) -> Iterator[Row]:
    """The rows of a CSV or Excel file as objects from column to text; the first row names the columns."""
    lines = _excel_lines(path) if path.suffix.lower().startswith(".xls") else _csv_lines(path)
    number, header = next(lines, (1, []))
    names = [str(name).strip() for name in header]
    if len(names) < 2 or len(set(names)) < len(names) or not all(names):
        raise UserError(f"{path}, line {number}: the first row has to name every column, each once; it is {names}")
    for number, cells in lines:
        if not any(str(cell).strip() for cell in cells):
            continue
        if len(cells) > len(names) and any(str(cell).strip() for cell in cells[len(names) :]):
            raise UserError(
                f"{path}, line {number}: {len(cells)} cells, and {len(names)} columns; quote cells that hold a delimiter"
            )
        padded = [*cells, *[""] * (len(names) - len(cells))]
        yield f"{path}, line {number}", dict(zip(names, padded))


def _csv_lines(path: Path) -> Iterator[Tuple[int, List[str]]]:
    text = read_text(path)
    first = text.split("\n", 1)[0]
    delimiter = TABLES[path.suffix.lower()] or max(DELIMITERS, key=first.count)
    csv.field_size_limit(10**9)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            yield number, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{path}, line {number}: {error}; quote cells that hold a delimiter, a quote or a line end") from None


def _excel_lines(path: Path) -> Iterator[Tuple[int, List[Any]]]:
    try:
        import openpyxl
    except ImportError:
        raise UserError(f'{path}: Excel files need openpyxl: pip install "spacy-mtl[excel]", or save it as CSV') from None
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # whatever a damaged archive makes it raise
        raise UserError(f"{path}: not an Excel file ({type(error).__name__}: {error})") from error
    for number, cells in enumerate(book.active.iter_rows(values_only=True), start=1):
        yield number, ["" if cell is None else cell for cell in cells]
    book.close()


def parquet_rows(path: Path) -> Iterator[Row]:
    """The rows of a parquet file; numbers of class labels become their names where the file has these."""
    from datasets import Dataset

    try:
        data = Dataset.from_parquet(str(path), keep_in_memory=True)
    except Exception as error:  # pyarrow's and datasets' own
        raise UserError(f"{path}: the parquet file cannot be read ({type(error).__name__}: {error})") from error
    yield from dataset_rows(data, str(path))


def dataset_rows(data: Any, path: str) -> Iterator[Row]:
    """The rows of a Hugging Face dataset."""
    names = {column: _class_names(feature) for column, feature in data.features.items()}
    for number, row in enumerate(data, start=1):
        named = {
            column: _named(value, names[column]) if names[column] is not None else value for column, value in row.items()
        }  # fmt: skip
        yield f"{path}, row {number}", named


def _class_names(feature: Any) -> Any:
    """The function from number to name of a column of class labels, or of lists of them; None for others."""
    inner = getattr(feature, "feature", feature)
    inner = inner[0] if isinstance(inner, list) and len(inner) == 1 else inner
    return inner.int2str if type(inner).__name__ == "ClassLabel" else None


def _named(value: Any, name: Any) -> Any:
    if value is None or value == -1:
        return None
    return [name(item) for item in value] if isinstance(value, list) else name(value)
