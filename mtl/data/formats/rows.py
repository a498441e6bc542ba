"""The rows of JSON files, tables, parquet files and Hugging Face data sets, each with its place in the file."""

import csv
import io
import json
from itertools import chain, islice
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from mtl.data.text_files import parse_json, read_text, stream_lines
from mtl.errors import UserError

TABLES = {".csv": "", ".tsv": "\t"}  # suffix -> delimiter, "" to find it out
DELIMITERS = ",;\t|"
HUB = "hf:"  # a path that begins so is the name of a data set on the hub
Row = Tuple[str, Any]  # where it is, and its value


# JSON


def is_json(line: str) -> bool:
    """Whether a line is a whole JSON object or array."""
    try:
        return line.startswith(("{", "[")) and json.loads(line) is not None
    except (json.JSONDecodeError, RecursionError):
        return False


def _is_array_of_rows(line: str) -> bool:
    """Whether a line is an array of rows; a row itself can be an array, of a text and its annotation."""
    value = json.loads(line) if is_json(line) else None
    return isinstance(value, list) and all(isinstance(item, (dict, list)) for item in value)


def json_rows(path: Path, encoding: str) -> Iterator[Row]:
    """The values of JSON Lines, the items of a JSON array, or the one object of a file."""
    lines = ((number, line) for number, line in stream_lines(path, encoding) if line.strip())
    first = next(lines, (1, ""))
    second = next(lines, None)
    is_array = second is None and _is_array_of_rows(first[1].strip())  # all of it on one line
    if not is_array and (is_json(first[1].strip()) or _is_cut_line(first, second)):
        for number, line in chain([first], [second] if second else [], lines):
            yield f"{path}, line {number}", parse_json(line, f"{path}, line {number}")
        return
    value = parse_json(read_text(path, encoding), str(path))
    if isinstance(value, list):
        yield from ((f"{path}, item {number}", item) for number, item in enumerate(value, start=1))
    else:
        yield str(path), value


def _is_cut_line(first: Tuple[int, str], second: Optional[Tuple[int, str]]) -> bool:
    """Whether the first line is a damaged one of JSON Lines: the second is whole."""
    return second is not None and len(first[1].strip()) > 1 and is_json(second[1].strip())


# Tables


def table_rows(path: Path, encoding: str) -> Iterator[Row]:
    """The rows of a CSV file as objects from column to text; the first row names the columns."""
    yield from _named_rows(path, _csv_lines(path, encoding))


def excel_rows(path: Path, encoding: str) -> Iterator[Row]:
    """The rows of the active sheet of an Excel file, like those of `table_rows`."""
    yield from _named_rows(path, _excel_lines(path))


def _named_rows(path: Path, lines: Iterator[Tuple[int, List[Any]]]) -> Iterator[Row]:
    number, header = next(lines, (1, []))
    names = [str(name).strip() for name in header]
    while names and not names[-1]:  # empty columns at the right, as spreadsheets have them
        names.pop()
    if len(names) < 2 or len(set(names)) < len(names) or not all(names):
        raise UserError(
            f"{path}, line {number}: the first row has to name every column, each once; it is {names}. Remove what is above the "
            f"names, or add them"
        )
    for number, cells in lines:
        if not any(str(cell).strip() for cell in cells):
            continue
        if len(cells) > len(names) and any(str(cell).strip() for cell in cells[len(names) :]):
            raise UserError(
                f"{path}, line {number}: {len(cells)} cells, and {len(names)} columns; quote cells that hold a delimiter"
            )
        padded = [*cells, *[""] * (len(names) - len(cells))]
        yield f"{path}, line {number}", dict(zip(names, padded))


def _csv_lines(path: Path, encoding: str) -> Iterator[Tuple[int, List[str]]]:
    text = read_text(path, encoding)
    first = text.split("\n", 1)[0]
    suffix = Path(path.stem).suffix.lower() if path.suffix == ".gz" else path.suffix.lower()
    delimiter = TABLES.get(suffix, "") or max(DELIMITERS, key=first.count)
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
        with path.open("rb") as file:  # openpyxl looks at the name of a path
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
            for number, cells in enumerate(book.active.iter_rows(values_only=True), start=1):
                yield number, ["" if cell is None else cell for cell in cells]
            book.close()
    except Exception as error:  # whatever a damaged archive makes it raise
        raise UserError(f"{path}: not an Excel file ({type(error).__name__}: {error})") from error


# Hugging Face data sets


def parquet_rows(path: Path, encoding: str) -> Iterator[Row]:
    """The rows of a parquet file; numbers of class labels become their names where the file has these."""
    from datasets import Dataset

    try:
        data = Dataset.from_parquet(str(path), keep_in_memory=True)
    except Exception as error:  # pyarrow's and datasets' own
        raise UserError(f"{path}: the parquet file cannot be read ({type(error).__name__}: {error})") from error
    yield from _data_set_rows(data, str(path))


def saved_rows(path: Path, encoding: str) -> Iterator[Row]:
    """The rows of a folder that `Dataset.save_to_disk` has written.

    Raises:
        UserError: It cannot be read, or holds several splits.
    """
    from datasets import DatasetDict, load_from_disk

    try:
        data = load_from_disk(str(path))
    except Exception as error:  # pyarrow's and datasets' own
        raise UserError(f"{path}: the data set cannot be read ({type(error).__name__}: {error})") from error
    if isinstance(data, DatasetDict):
        raise UserError(f"{path}: a data set of several splits; give one: {', '.join(f'{path}/{split}' for split in data)}")
    yield from _data_set_rows(data, str(path))


def hub_rows(path: Path, encoding: str) -> Iterator[Row]:
    """The rows of a data set on the hub: `hf:NAME`, `hf:NAME@SPLIT` or `hf:NAME:CONFIG@SPLIT`; the split is "train" by default.

    Raises:
        UserError: It cannot be loaded.
    """
    from datasets import load_dataset

    name, _, split = str(path).removeprefix(HUB).partition("@")
    name, _, config = name.partition(":")
    try:
        data = load_dataset(name, config or None, split=split or "train")
    except Exception as error:  # of the hub, of the network, of datasets
        raise UserError(f"{path}: the data set cannot be loaded ({type(error).__name__}: {error})") from error
    yield from _data_set_rows(data, str(path))


def _data_set_rows(data: Any, path: str) -> Iterator[Row]:
    names = {column: class_names(feature) for column, feature in data.features.items()}
    for number, row in enumerate(data, start=1):
        named = {
            column: _named(value, names[column]) if names[column] is not None else value for column, value in row.items()
        }  # fmt: skip
        yield f"{path}, row {number}", named


def class_names(feature: Any) -> Optional[Callable[[int], str]]:
    """The function from number to name of a column of class labels, or of lists of them; None for others."""
    inner = getattr(feature, "feature", feature)
    inner = inner[0] if isinstance(inner, list) and len(inner) == 1 else inner
    return inner.int2str if type(inner).__name__ == "ClassLabel" else None


def _named(value: Any, name: Optional[Callable[[int], str]]) -> Any:
    if name is None:
        return value
    if value is None or value == -1:
        return None
    return [name(item) for item in value] if isinstance(value, list) else name(value)


ROWS: Dict[str, Callable[[Path, str], Iterator[Row]]] = {
    "json": json_rows, "table": table_rows, "excel": excel_rows, "parquet": parquet_rows, "data set": saved_rows, "hub": hub_rows,
}  # fmt: skip


def first_of(rows: Iterator[Row], n: int) -> List[Any]:
    """The values of the first rows."""
    return [value for _, value in islice(rows, n)]
