"""The formats of labelled files, and how a file's format is detected."""

import json
from pathlib import Path
from typing import Callable, Dict, Iterator, Union

from mtl.data.formats.conll import read_conll
from mtl.data.formats.jsonl import read_jsonl
from mtl.data.formats.pubtator import read_pubtator
from mtl.data.formats.squad import read_squad
from mtl.data.records import Record, Report, read_text
from mtl.errors import UserError, check_choice

Reader = Callable[[str, Report], Iterator[Record]]

READERS: Dict[str, Reader] = {
    "jsonl": read_jsonl,
    "squad": read_squad,
    "pubtator": read_pubtator,
    "conll": read_conll,
}


def read_records(path: Union[str, Path], report: Report, format: str = "auto") -> Iterator[Record]:
    """Read a labelled file.

    Args:
        path (Union[str, Path]): The file.
        report (Report): Counts what was read, repaired and left out.
        format (str): A key of `READERS`, or "auto" to detect it.

    Raises:
        UserError: The format is unknown, or the file does not follow it.
    """
    check_choice("--format", format, ("auto", *READERS))
    reader = READERS[detect_format(path) if format == "auto" else format]
    return reader(str(path), report)


def detect_format(path: Union[str, Path]) -> str:
    """Detect a file's format by its content, because names mislead: JSON Lines files are often called .json.

    Args:
        path (Union[str, Path]): The file.

    Returns:
        str: A key of `READERS`.

    Raises:
        UserError: The file fits none of them.
    """
    text = read_text(path).lstrip()
    first_line = text.split("\n", 1)[0]
    if text.startswith("{"):
        try:
            row = json.loads(first_line)
        except json.JSONDecodeError:
            return "squad"  # one object over several lines
        return "squad" if isinstance(row.get("data"), list) else "jsonl"
    if first_line.count("|") >= 2 and first_line.split("|")[1] in ("t", "a"):
        return "pubtator"
    fields = first_line.split()
    if first_line.startswith("-DOCSTART-") or (len(fields) >= 2 and fields[-1][:2] in {"O", "B-", "I-", "S-", "U-"}):
        return "conll"
    raise UserError(f"{path}: unknown format; name it with --format ({', '.join(READERS)})")
