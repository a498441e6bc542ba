"""What every file format is read into, before spaCy is involved."""

import gzip
import json
import zlib
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from mtl.errors import UserError


@dataclass
class Entity:
    start: int  # characters
    end: int
    label: str


@dataclass
class Answer:
    start: int  # characters
    text: str


@dataclass
class Question:
    id: str
    text: str
    answers: List[Answer]  # empty: the text does not answer it


@dataclass
class Record:
    """One document and whatever is annotated on it. `None` means not annotated, which is never negative."""

    text: str
    where: str  # file and line, for messages
    cats: Optional[Dict[str, float]] = None
    cats_complete: bool = False  # whether categories that `cats` does not name are known not to hold
    entities: Optional[List[Entity]] = None
    questions: Optional[List[Question]] = None
    number: Optional[float] = None  # a score of the document


@dataclass
class Report:
    """What was counted while reading and converting; the notes are worth a person's attention."""

    counts: Dict[str, int] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)

    def count(self, what: str, n: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + n

    def note(self, what: str, message: str) -> None:
        self.count(what)
        self.notes.append(message)


def parse_json(source: str, where: str) -> Any:
    """RAISES (UserError): not valid JSON, or with half a character in it."""
    try:
        value = json.loads(source)
        if "\\ud" in source.lower():  # the escape of half a character beyond 16 bits; its other half may be missing
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise UserError(f"{where}: not valid JSON ({error.msg} at {line}column {error.colno})") from None
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: half a character, {error.object[error.start]!r}, which is no text; correct the escape"
        ) from None
    return value


Lines = List[Tuple[int, str]]


def read_text(path: Union[str, Path]) -> str:
    """The file's text: UTF-8, a leading byte order mark dropped, line ends as `\\n`.

    RAISES (UserError): the file is missing, a folder, empty, or not UTF-8 (with the line of the first bad byte).
    """
    path = Path(path)
    with _opened(path) as file:
        data = file.read()
    if not data.strip():
        raise UserError(f"{path}: the file is empty")
    _check_text(data, path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, data.count(b"\n", 0, error.start) + 1, data[error.start]) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def numbered_lines(path: Union[str, Path]) -> Lines:
    """The file's lines with their numbers, from 1."""
    return list(enumerate(read_text(path).split("\n"), start=1))


def stream_lines(path: Path) -> Iterator[Tuple[int, str]]:
    """As `numbered_lines`, for files of any size, gzipped (.gz). RAISES (UserError): as `read_text`, save for empty files."""
    with _opened(path) as file:
        try:
            _check_text(file.peek(4096), path)
            for number, line in enumerate(file, start=1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise _not_utf8(path, number, line[error.start]) from None
                for part in text.rstrip("\r\n").replace("\r\n", "\n").split("\r"):
                    yield number, part
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{path}: the compressed file is broken ({error}); copy it again") from error


def _opened(path: Path) -> BufferedReader:
    try:
        return BufferedReader(gzip.open(path)) if path.suffix == ".gz" else path.open("rb")  # type: ignore[type-var]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, a file is needed") from None


def _check_text(data: bytes, path: Path) -> None:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path}: is UTF-16. Save the file as UTF-8 (iconv -f utf-16 -t utf8 {path.name})")
    if b"\0" in data[:4096]:
        raise UserError(f"{path}: is not a text file")


def _not_utf8(path: Path, line: int, byte: int) -> UserError:
    return UserError(
        f"{path}, line {line}: byte 0x{byte:02x} is not valid UTF-8. "
        f"Save the file as UTF-8 (for Latin-1: iconv -f latin1 -t utf8 {path.name})"
    )
