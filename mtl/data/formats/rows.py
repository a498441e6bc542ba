"""The rows of JSON files, parquet files and Hugging Face data sets, each with its place in the file."""

import json
import re
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from mtl.data.formats.names import TEXT_NAMES
from mtl.data.formats.reading import Reading
from mtl.data.text_files import parse_json, read_text, stream_lines
from mtl.errors import UserError

BLANKS = re.compile(r"\s*")
PARTS = {"passages", "paragraphs", "sentences", "entities", "annotations", "tokens", "spans"}  # of a document
HUB = "hf:"  # a path that begins so is the name of a data set on the hub
Row = Tuple[str, Any]  # where it is, and its value


# JSON


def is_json(line: str) -> bool:
    """Whether a line is a whole JSON object or array."""
    try:
        return line.startswith(("{", "[")) and json.loads(line) is not None
    except (ValueError, RecursionError):  # also of a number of thousands of digits
        return False


def _is_array_of_rows(line: str) -> bool:
    """Whether a line is an array of rows; a row itself can be an array, of a text and its annotation."""
    value = json.loads(line) if is_json(line) else None
    return isinstance(value, list) and all(isinstance(item, (dict, list)) for item in value)


def json_rows(path: Path, reading: Reading) -> Iterator[Row]:
    """The values of JSON Lines, the items of a JSON array, or the one object of a file."""
    lines = ((number, line) for number, line in stream_lines(path, reading.encoding) if line.strip())
    first = next(lines, (1, ""))
    second = next(lines, None)
    is_array = second is None and _is_array_of_rows(first[1].strip())  # all of it on one line
    is_alone = (
        second is None and first[1].strip().startswith("{") and is_json(first[1].strip())
    )  # an object on one line may hold the rows
    if not is_array and not is_alone and (is_json(first[1].strip()) or _is_cut_line(first, second)):
        for number, line in chain([first], [second] if second else [], lines):
            yield f"{path}, line {number}", parse_json(line, f"{path}, line {number}")
        return
    whole = f"{path}, line {first[0]}" if is_alone else str(path)
    value = _json_values(read_text(path, reading.encoding), whole)
    value = _wrapped_rows(value) if isinstance(value, dict) else value
    if isinstance(value, list):
        yield from ((f"{path}, item {number}", item) for number, item in enumerate(value, start=1))
    else:
        yield whole, value


def _json_values(text: str, where: str) -> Any:
    """The JSON value of a text; a list of them if several objects follow each other.

    Raises:
        UserError: It is not valid JSON.
    """
    try:
        return parse_json(text, where)
    except UserError:
        values: List[Any] = []
        position = 0
        decoder = json.JSONDecoder()
        while position < len(text):
            try:
                value, position = decoder.raw_decode(text, position)
            except (ValueError, RecursionError):
                values = []
                break
            values.append(value)
            position = BLANKS.match(text, position).end()  # type: ignore[union-attr]
        if len(values) < 2 or not all(isinstance(value, dict) for value in values):
            raise
        return values


def _wrapped_rows(value: Dict[str, Any]) -> Any:
    """The rows that an object holds under a name such as "data", or as columns; else the object itself."""
    parts = [part for name, part in value.items() if name not in PARTS]
    lists = [part for part in parts if _is_rows(part)]
    nested = [inner for part in parts if isinstance(part, dict) for inner in part.values() if _is_rows(inner)]
    if len(lists or nested) == 1 and not any(isinstance(value.get(name), str) for name in TEXT_NAMES):
        return (lists or nested)[0]
    columns = {key: list(part.values()) if isinstance(part, dict) else part for key, part in value.items()}
    if len(columns) > 1 and all(isinstance(part, list) and part for part in columns.values()):
        has_text = any(isinstance(columns.get(name, [0])[0], str) for name in TEXT_NAMES)
        if has_text and len(set(map(len, columns.values()))) == 1:
            return [dict(zip(columns, cells)) for cells in zip(*columns.values())]
    return value


def _is_rows(value: Any) -> bool:
    """Whether a value is a list of objects with a text."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and any(isinstance(first.get(name), str) for name in TEXT_NAMES)


def _is_cut_line(first: Tuple[int, str], second: Optional[Tuple[int, str]]) -> bool:
    """Whether the first line is a damaged one of JSON Lines: the second is whole."""
    if second is None or len(first[1].strip()) <= 1:
        return False
    return is_json(second[1].strip()) or all(line.strip().rstrip(",").endswith("}") for _, line in (first, second))


# Hugging Face data sets


def parquet_rows(path: Path, reading: Reading) -> Iterator[Row]:
    """The rows of a parquet file; numbers of class labels become their names where the file has these."""
    from datasets import Dataset

    try:
        with _no_bars():
            data = Dataset.from_parquet(str(path), keep_in_memory=True)
    except Exception as error:  # pyarrow's and datasets' own
        raise UserError(f"{path}: the parquet file cannot be read ({type(error).__name__}: {error})") from error
    yield from _data_set_rows(data, str(path))


@contextmanager
def _no_bars() -> Iterator[None]:
    """Without the progress bars of datasets."""
    from datasets.utils import disable_progress_bars, enable_progress_bars, is_progress_bar_enabled

    was_enabled = is_progress_bar_enabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if was_enabled:
            enable_progress_bars()


def saved_rows(path: Path, reading: Reading) -> Iterator[Row]:
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


def hub_rows(path: Path, reading: Reading) -> Iterator[Row]:
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


def first_of(rows: Iterator[Row], n: int) -> List[Any]:
    """The values of the first rows."""
    return [value for _, value in islice(rows, n)]
