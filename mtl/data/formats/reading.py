"""How labelled files are read: what a user says of them."""

from dataclasses import dataclass, field
from typing import FrozenSet, Mapping, Optional, Sequence

from mtl.data.text_files import check_encoding
from mtl.errors import check_choice, check_range
from mtl.registry import task_types

COLUMNS = ("text", "label", "labels", "cats", "entities", "spans", "ents", "qas", "questions", "score", "group", "start", "end",
           "token", "tag", "sentence", "header", "sheet")  # fmt: skip
LAYOUT = frozenset({"header", "sheet"})  # keys of `Reading.columns` that say where a table is, and no column


@dataclass(frozen=True)
class Reading:
    """How labelled files are read.

    Args:
        format (str): A key of `all_formats`, or "auto" to recognise it.
        columns (Mapping[str, str]): Key of a row that has another name in the file -> that name. "header" is the line with the
            names of a table's columns, or "none"; "sheet" that of an Excel file.
        encoding (str): Of text files, as Python names it. UTF-16 with a byte order mark is recognised.
        repair (FrozenSet[str]): What to repair in place of refusing it: keys of `REPAIRS`.
        sentences (int): Sentences in a document of files that do not say where documents end.
    """

    format: str = "auto"
    columns: Mapping[str, str] = field(default_factory=dict)
    encoding: str = "utf-8"
    repair: FrozenSet[str] = frozenset()
    sentences: int = 1


REPAIRS = {
    "text": "a text that was decoded in a wrong encoding (cafÃ©) is decoded anew",
    "offsets": "a mention that is not at its offsets is looked for: by offsets in bytes or UTF-16 units, else nearby",
    "tags": "a tag that cannot follow the one before it begins an entity of its own",
}


def make_reading(
    format: str = "auto", columns: Optional[Mapping[str, str]] = None, encoding: str = "utf-8", repair: Sequence[str] = (),
    sentences: int = 1,
) -> Reading:  # fmt: skip
    """A `Reading` of what a user has given.

    Raises:
        UserError: A repair or the number of sentences is not allowed.
    """
    check_encoding(encoding)
    for key in columns or ():
        check_choice("--column", key.split(":")[0], COLUMNS + tuple(name for task in task_types() for name in task.json_keys))
    for name in repair:
        check_choice("--repair", name, tuple(REPAIRS))
    check_range("--sentences-per-document", sentences, 1)
    return Reading(format, dict(columns or {}), encoding, frozenset(repair), sentences)
