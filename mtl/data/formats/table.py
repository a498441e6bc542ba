"""Tables with a text on each row: CSV, TSV, Excel, and parquet files without tokens."""

from typing import Any, Dict, List, Optional, Sequence

from mtl.data.formats.source import ROW_KINDS, Source
from mtl.data.records import Record, Report
from mtl.errors import UserError

TEXT_NAMES = ("text", "sentence", "content", "document", "body", "abstract", "message", "review", "comment", "description")
LABEL_NAMES = ("label", "category", "class", "target", "intent", "topic", "sentiment", "tag")
LIST_NAMES = ("labels", "categories", "tags", "topics")
SCORE_NAMES = ("score", "rating", "value")
SEPARATORS = "|;,"
YES, NO = {"1", "1.0", "true", "yes", "x"}, {"0", "0.0", "false", "no", ""}


def is_table(source: Source) -> bool:
    """Whether the file has rows of plain cells."""
    return source.kind in ROW_KINDS - {"json"}


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
        self.text = self._column("text", lower, TEXT_NAMES)
        is_named = any(key in ("label", "labels", "score") or key.startswith("cats:") for key in source.columns)
        self.label = self._column("label", lower, () if is_named else LABEL_NAMES)
        self.labels = self._column("labels", lower, () if is_named else LIST_NAMES)
        self.score = self._column("score", lower, () if is_named or self.label or self.labels else SCORE_NAMES)
        if self.text is None:
            raise UserError(f"{source.path}: which column is the text? There are {_list(names)}. Name it: --column text=NAME")
        if not (self.label or self.labels or self.score or self.cats):
            raise UserError(
                f"{source.path}: which column is the annotation? There are {_list(names)}. Name it: --column label=NAME (one "
                f"category), labels=NAME (several in a cell), cats=NAME (a column for each, repeatable), or score=NAME (a number)"
            )

    @property
    def cats(self) -> List[str]:
        """The columns that are a category each."""
        return [name for key, name in self.source.columns.items() if key.startswith("cats:")]

    def _column(self, key: str, lower: Dict[str, str], usual: Sequence[str]) -> Optional[str]:
        """The key under which rows have it; None if they do not."""
        if key in self.source.columns:
            return key
        return next((lower[name] for name in usual if name in lower), None)

    def described(self) -> str:
        """Which columns are read, for a message."""
        read = {"text": self.text, "label": self.label, "labels": self.labels, "score": self.score}
        parts = [f"{key} = {self.source.columns.get(key, name)!r}" for key, name in read.items() if name]
        return ", ".join([*parts, *(f"category {name!r}" for name in self.cats)])

    def record(self, row: Any, where: str, report: Report) -> Optional[Record]:
        """A document from a row; None if its text is empty.

        Raises:
            UserError: A cell is not what its column is for.
        """
        text = row.get(self.text) if isinstance(row, dict) else None
        if not isinstance(text, str) or not text.strip():
            report.count("rows left out because their text is empty")
            return None
        cats = self._categories(row, where)
        number = None if self.score is None or row[self.score] in ("", None) else _number(row[self.score], where)
        extra = {"group": row["group"]} if "group" in self.source.columns else {}
        return Record(text, where, cats=cats, cats_complete=not self.cats, number=number, extra=extra)

    def _categories(self, row: Dict[str, Any], where: str) -> Optional[Dict[str, float]]:
        cats: Dict[str, float] = {}
        if self.label and str(row[self.label] if row[self.label] is not None else "").strip():
            cats[str(row[self.label]).strip()] = 1.0
        if self.labels and row[self.labels] is not None:
            value = row[self.labels]
            separator = next((mark for mark in SEPARATORS if mark in value), SEPARATORS[0]) if isinstance(value, str) else ""
            parts = value.split(separator) if isinstance(value, str) else value if isinstance(value, list) else [value]
            cats |= {str(part).strip(): 1.0 for part in parts if str(part).strip()}
        for name in self.cats:
            cats[name] = _held(row["cats:" + name], name, where)
        has_list = self.labels is not None and row[self.labels] is not None  # an empty one says that none holds
        return cats if cats or has_list else None


def _held(value: Any, name: str, where: str) -> float:
    text = str(value).strip().lower()
    if text in YES or text in NO:
        return float(text in YES)
    raise UserError(f"{where}: the category {name!r} has {value!r}; 1 and 0, true and false, yes and no are understood")


def _number(value: Any, where: str) -> float:
    try:
        return float(str(value).replace(",", ".", 1) if str(value).count(",") == 1 and "." not in str(value) else value)
    except ValueError:
        raise UserError(f"{where}: {value!r} is not a number") from None


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
