"""The rows of CSV and Excel files, as objects from column to text."""

import ast
import csv
import io
import json
import re
from pathlib import Path
from typing import Any, Iterator, List, Tuple

from mtl.data.formats.reading import Reading
from mtl.data.formats.rows import Row
from mtl.data.text_files import read_text
from mtl.errors import UserError

TABLES = {".csv": "", ".tsv": "\t"}  # suffix -> delimiter, "" to find it out
DELIMITERS = ",;\t|"
Line = Tuple[int, List[Any]]  # its number, its cells


def table_rows(path: Path, reading: Reading) -> Iterator[Row]:
    """The rows of a CSV file. Its first line names the columns, unless the reading says otherwise.

    Raises:
        UserError: A line has more cells than there are columns, or the columns are not named.
    """
    yield from _named_rows(path, _csv_lines(path, reading), reading)


def excel_rows(path: Path, reading: Reading) -> Iterator[Row]:
    """The rows of an Excel file, like those of `table_rows`: of the one sheet that has any, or of that which is named.

    Raises:
        UserError: The file is damaged, or several sheets have rows.
    """
    yield from _named_rows(path, _excel_lines(path, reading), reading)


def _named_rows(path: Path, lines: Iterator[Line], reading: Reading) -> Iterator[Row]:
    header = reading.columns.get("header", "1")
    if header != "none" and not (header.isdigit() and int(header) > 0):
        raise UserError(f"{path}: --column header={header}: give the line that names the columns, from 1, or none")
    if header == "none":
        first = next(lines, (1, []))
        names = [str(i) for i in range(1, len(first[1]) + 1)]
        yield from _rows(path, names, [first])
    else:
        number, cells = next((line for line in lines if line[0] >= int(header)), (1, []))
        names = _names(path, number, cells)
    yield from _rows(path, names, lines)


def _names(path: Path, number: int, cells: List[Any]) -> List[str]:
    names = [str(name).strip() for name in cells]
    while names and not names[-1]:  # empty columns at the right, as spreadsheets have them
        names.pop()
    if len(names) > 2 and not names[0] and all(names[1:]):
        names[0] = "index"  # as pandas writes it
    if len(names) < 2 or len(set(names)) < len(names) or not all(names):
        raise UserError(
            f"{path}, line {number}: this row has to name every column, each once; it is {names}. If another line does, name it: "
            f"--column header=2; if none does, --column header=none, and columns are numbered from 1"
        )
    return names


def _rows(path: Path, names: List[str], lines: Any) -> Iterator[Row]:
    for number, cells in lines:
        if not any(str(cell).strip() for cell in cells):
            continue
        if len(cells) > len(names) and any(str(cell).strip() for cell in cells[len(names) :]):
            raise UserError(
                f"{path}, line {number}: {len(cells)} cells, and {len(names)} columns; quote cells that hold a delimiter"
            )
        padded = [*map(_literal, cells), *[""] * (len(names) - len(cells))]
        yield f"{path}, line {number}", dict(zip(names, padded))


def _literal(cell: Any) -> Any:
    """The list or object that a cell holds as text, as JSON or Python write it; else the cell."""
    text = cell.strip() if isinstance(cell, str) else ""
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return cell
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
        is_number = isinstance(value, list) and len(value) == 1 and isinstance(value[0], (int, float))  # "[1]" is a text
        return cell if is_number else value
    return cell


def _csv_lines(path: Path, reading: Reading) -> Iterator[Line]:
    text = read_text(path, reading.encoding)
    separator = re.match(r"sep=(.)\n", text)  # for Excel
    text = text[separator.end() :] if separator else text
    first = text.split("\n", 1)[0]
    suffix = Path(path.stem).suffix.lower() if path.suffix == ".gz" else path.suffix.lower()
    delimiter = separator.group(1) if separator else TABLES.get(suffix, "") or max(DELIMITERS, key=first.count)
    csv.field_size_limit(10**9)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + (2 if separator else 1)
        try:
            yield number, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{path}, line {number}: {error}; quote cells that hold a delimiter, a quote or a line end") from None


def _excel_lines(path: Path, reading: Reading) -> Iterator[Line]:
    try:
        import openpyxl
    except ImportError:
        raise UserError(f'{path}: Excel files need openpyxl: pip install "spacy-mtl[excel]", or save it as CSV') from None
    with path.open("rb") as file:  # openpyxl looks at the name of a path
        try:
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            sheets = {sheet.title: list(sheet.iter_rows(values_only=True)) for sheet in book.worksheets}
            book.close()
        except Exception as error:  # whatever a damaged archive makes it raise
            raise UserError(f"{path}: not an Excel file ({type(error).__name__}: {error})") from error
    filled = [title for title, lines in sheets.items() if any(cell is not None for line in lines for cell in line)]
    wanted = reading.columns.get("sheet")
    if wanted is not None and wanted not in sheets:
        raise UserError(f"{path}: --column sheet={wanted}: there is no such sheet; there are {', '.join(map(repr, sheets))}")
    if wanted is None and len(filled) > 1:
        raise UserError(f"{path}: several sheets have rows: {', '.join(map(repr, filled))}. Name one: --column sheet={filled[0]}")
    for number, cells in enumerate(sheets[wanted or (filled or list(sheets))[0]], start=1):
        yield number, ["" if cell is None else cell for cell in cells]
