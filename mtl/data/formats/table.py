"""Tables with a text on each row: CSV, TSV, Excel, parquet files and data sets."""

import math
import re
from typing import Any, Dict, Iterator, Optional, Sequence, Set

from mtl.data.formats.jsonl import ENTITY_NAMES
from mtl.data.formats.names import LABEL_NAMES, LIST_NAMES, MISSING, SCORE_NAMES, TEXT_NAMES
from mtl.data.formats.reading import Reading
from mtl.data.formats.source import ROW_KINDS, Source
from mtl.data.formats.spans import is_entity
from mtl.data.records import Record, Report
from mtl.errors import UserError

HEADER = "If the first row is data, add --column header=none, and columns are numbered from 1"
THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
LONG_WORDS = 3  # of a cell that may be a sentence
SEPARATORS = "|;,#"
YES = {"1", "1.0", "true", "yes", "x", "y", "ja", "oui", "si", "sí"}
NO = {"0", "0.0", "false", "no", "", "n", "nein", "non"}


def is_table(source: Source) -> bool:
    """Whether the file has rows of plain cells."""
    values = source.key_values() if source.kind in ROW_KINDS - {"json"} else {}
    has_rows_of_ours = any(isinstance(values.get(name), list) and any(map(is_entity, values[name])) for name in ENTITY_NAMES)
    return source.kind in ROW_KINDS - {"json"} and not has_rows_of_ours


class TableReader:
    """Reads rows by the names of their columns.

    Args:
        source (Source): The file. Its `columns` say which column is "text", "label" (one category), "labels" (several in a cell,
            separated by | ; or ,), "score" (a number), or by "cats:NAME" a category of its own. What they do not say is
            recognised by usual names.

    Raises:
        UserError: There is no column with the text, or none with a label.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        names = list(source.first_objects[0]) if source.first_objects else []
        lower = {name.lower().strip(): name for name in reversed(names)}
        self.text = self._column("text", lower, TEXT_NAMES) or self._long_column(names)
        is_named = any(key in ("label", "labels", "score") or key.startswith(("cats:", "labels:")) for key in source.columns)
        self.label = self._column("label", lower, () if is_named else LABEL_NAMES)
        self.labels = self._column("labels", lower, () if is_named else LIST_NAMES)
        self.score = self._column("score", lower, () if is_named or self.label or self.labels else SCORE_NAMES)
        self.cats = [name for key, name in source.columns.items() if key.startswith("cats:")]
        self.blank_is_no: Set[str] = set()
        self.several = [self.labels] if self.labels else []
        self.several += [key for key in source.columns if key.startswith("labels:")]
        if self.text is not None:
            self._look(names, finds_categories=not (is_named or self.label or self.labels or self.score))
        if self.text is None:
            raise UserError(
                f"{source.path}: which column is the text? There are {_list(names)}. Name it: --column text=NAME. {HEADER}"
            )
        if not (self.label or self.labels or self.score or self.cats):
            raise UserError(
                f"{source.path}: which column is the annotation? There are {_list(names)}. Name it: --column label=NAME (one "
                f"category), labels=NAME (several in a cell, repeatable), cats=NAME (a column for each, repeatable), or "
                f"score=NAME (a number). {HEADER}"
            )

    def _column(self, key: str, lower: Dict[str, str], usual: Sequence[str]) -> Optional[str]:
        """The key under which rows have it; None if they do not."""
        if key in self.source.columns:
            return key
        return next((lower[name] for name in usual if name in lower), None)

    def _long_column(self, names: Sequence[str]) -> Optional[str]:
        """The one column whose cells are sentences; None if there is none, or several."""
        rows = self.source.first_objects
        long = [
            name for name in names
            if sum(isinstance(row[name], str) and len(row[name].split()) >= LONG_WORDS for row in rows) > len(rows) / 2
        ]  # fmt: skip
        return long[0] if len(long) == 1 else None

    def _look(self, names: Sequence[str], finds_categories: bool) -> None:
        """Look through all rows for what the first do not tell: the separator, columns of yes and no, what a blank means."""
        candidates = [name for name in names if name != self.text and name.lower() not in ("id", "index")]
        said: Dict[str, Set[str]] = {name: set() for name in (candidates if finds_categories else [])}
        said |= {f"cats:{name}": set() for name in self.cats}
        marks: Set[str] = set()
        for _, row in self.source.rows() if said or self.several else ():
            for name in [name for name in said if name in row]:
                said[name].add(_plain(row[name]))
                if finds_categories and not said[name] <= YES | NO:
                    del said[name]
            for name in self.several:
                marks |= {mark for mark in SEPARATORS if isinstance(row[name], str) and mark in row[name]}
        self.separator = next((mark for mark in SEPARATORS if mark in marks), SEPARATORS[0])
        if finds_categories:
            self.cats = [name for name, cells in said.items() if len(cells) > 1]
        self.blank_is_no = {name.removeprefix("cats:") for name, cells in said.items() if not cells & NO - {""}}

    def described(self) -> str:
        """Which columns are read, for a message."""
        read = {"text": self.text, "label": self.label, "labels": self.labels, "score": self.score}
        parts = [f"{key} = {self.source.columns.get(key, name)!r}" for key, name in read.items() if name]
        return ", ".join([*parts, *(f"category {name!r}" for name in self.cats)])

    def record(self, row: Any, where: str, report: Report, reading: Reading) -> Optional[Record]:
        """A document from a row; None if its text is empty.

        Raises:
            UserError: A cell is not what its column is for.
        """
        text = row.get(self.text) if isinstance(row, dict) else None
        text = text if text is None or isinstance(text, (str, list, dict)) else str(text)  # a number, or a date of Excel
        if not isinstance(text, str) or not text.strip():
            report.count("rows left out because their text is empty")
            return None
        cats = self._categories(row, where, report)
        number = None if self.score is None or _is_missing(row[self.score]) else _number(row[self.score], where)
        if cats is None and number is None:
            report.count("rows without an annotation")
        return Record(text, where, cats=cats, cats_complete=not self.cats, number=number, extra=self.source.group(row))

    def _categories(self, row: Dict[str, Any], where: str, report: Report) -> Optional[Dict[str, float]]:
        cats: Dict[str, float] = {}
        has_list = False
        if self.label:
            for label in row[self.label] if isinstance(row[self.label], list) else [row[self.label]]:
                if not _is_missing(label):
                    cats[str(label).strip()] = 1.0
                elif str(label or "").strip():
                    report.count(f"cells of {self.label!r} that say {label!r}, read as not annotated")
        for name in self.several:
            if row[name] is not None:
                has_list = True  # an empty one says that none holds
                cats |= dict.fromkeys(_several(row[name], self.separator), 1.0)
        for name in self.cats:
            value = row["cats:" + name] if "cats:" + name in row else row[name]
            if _plain(value) or name in self.blank_is_no:
                cats[name] = _held(value, name, where)
        return cats if cats or has_list else None


def _plain(value: Any) -> str:
    return str(value if value is not None else "").strip().lower()


def _is_missing(value: Any) -> bool:
    return value is None or str(value).strip().lower() in MISSING


def _several(value: Any, separator: str) -> Iterator[str]:
    """The categories in a cell: a list, Label Studio's choices, or names with a separator."""
    value = value["choices"] if isinstance(value, dict) and isinstance(value.get("choices"), list) else value
    if isinstance(value, list):
        parts = value
    else:
        parts = str(value).split(separator)
    yield from (str(part).strip() for part in parts if not _is_missing(part))


def _held(value: Any, name: str, where: str) -> float:
    text = _plain(value)
    if text in YES or text in NO:
        return float(text in YES)
    degree = as_number(value)
    if degree is not None and 0 <= degree <= 1:
        return degree
    raise UserError(
        f"{where}: the category {name!r} has {value!r}; 1 and 0, true and false, yes and no, and numbers between are understood"
    )


def as_number(value: Any) -> Optional[float]:
    """The number that a cell holds, with a point or a comma; None if it holds none."""
    text = str(value).strip()
    if THOUSANDS.fullmatch(text):
        return None  # 1,234 is 1234 to some, and to others little more than 1
    try:
        number = float(text.replace(",", ".", 1) if text.count(",") == 1 and "." not in text else text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _number(value: Any, where: str) -> float:
    number = as_number(value)
    if number is None:
        hint = "; write it without a separator of thousands" if "," in str(value) else ""
        raise UserError(f"{where}: {value!r} is not a number{hint}")
    return number


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
