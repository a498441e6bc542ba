"""Documents as the file formats are read, before spaCy is involved; and reading text files line by line."""

import gzip
import json
import zlib
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from mtl.errors import UserError

Lines = List[Tuple[int, str]]  # line number from 1, text
PEEK_BYTES = 4096  # looked at to tell text from other files


@dataclass
class Entity:
    """A labelled mention.

    Args:
        start (int): First character.
        end (int): The character after the last.
        label (str): Its type.
        attributes (Optional[Dict[str, Union[bool, str]]]): Attribute -> whether it holds, or its value; None if the entity is
            not annotated for attributes.
    """

    start: int
    end: int
    label: str
    attributes: Optional[Dict[str, Union[bool, str]]] = None


@dataclass
class GoldAnswer:
    """An answer as it is annotated.

    Args:
        start (int): First character.
        text (str): The answer.
    """

    start: int
    text: str


@dataclass
class Question:
    """A question about a document.

    Args:
        id (str): Unique in the document.
        text (str): The question.
        answers (List[GoldAnswer]): Alternative answers. Empty if the text does not answer the question.
    """

    id: str
    text: str
    answers: List[GoldAnswer]


@dataclass
class Record:
    """A document with its annotation. None means not annotated, never negative.

    Args:
        text (str): The text.
        where (str): File and line, for messages.
        cats (Optional[Dict[str, float]]): Category -> whether it holds, 0 to 1.
        cats_complete (bool): Categories that `cats` does not name are known not to hold.
        entities (Optional[List[Entity]]): All entities.
        questions (Optional[List[Question]]): Questions and answers.
        number (Optional[float]): A score of the document.
        extra (Dict[str, Any]): Keys that the format does not define, for tasks that read them.
    """

    text: str
    where: str
    cats: Optional[Dict[str, float]] = None
    cats_complete: bool = False
    entities: Optional[List[Entity]] = None
    questions: Optional[List[Question]] = None
    number: Optional[float] = None
    extra: Dict[str, Any] = field(default_factory=dict)


@dataclass
class Report:
    """What was counted while reading and converting a file.

    Args:
        counts (Dict[str, int]): What was counted -> how often.
        notes (List[str]): Messages worth reading, such as on repairs.
        advice (List[str]): What to set in a config.
        format (str): What the file's format is called.
    """

    counts: Dict[str, int] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)
    advice: List[str] = field(default_factory=list)
    format: str = ""

    def count(self, what: str, n: int = 1) -> None:
        """Add to a count."""
        self.counts[what] = self.counts.get(what, 0) + n

    def largest(self, what: str, n: int) -> None:
        """Keep the largest number."""
        self.counts[what] = max(self.counts.get(what, 0), n)

    def note(self, what: str, message: str) -> None:
        """Add to a count, with a message that says where."""
        self.count(what)
        self.notes.append(message)


def parse_json(source: str, where: str) -> Any:
    """Parse a JSON value.

    Args:
        source (str): The JSON text.
        where (str): File and line, for messages.

    Raises:
        UserError: It is not valid JSON, or a string in it has an unpaired surrogate.
    """
    try:
        value = json.loads(source)
        if "\\ud" in source.lower():  # the escape of half a character beyond 16 bits, whose other half may be missing
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise UserError(f"{where}: not valid JSON ({error.msg} at {line}column {error.colno})") from None
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: {error.object[error.start]!r} is half a character, which cannot be encoded; correct the escape"
        ) from None
    return value


def read_text(path: Union[str, Path]) -> str:
    """The text of a UTF-8 file, without byte order mark, with line ends as `\\n`.

    Raises:
        UserError: The file is missing, a folder, empty, or not UTF-8 (with the line of the first invalid byte).
    """
    path = Path(path)
    with _open_file(path) as file:
        data = file.read()
    if not data.strip():
        raise UserError(f"{path}: the file is empty")
    _check_is_text(data, path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, data.count(b"\n", 0, error.start) + 1, data[error.start]) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def numbered_lines(path: Union[str, Path]) -> Lines:
    """The lines of a file with their numbers from 1. Raises the errors of `read_text`."""
    return list(enumerate(read_text(path).split("\n"), start=1))


def stream_lines(path: Path) -> Iterator[Tuple[int, str]]:
    """The lines of a file of any size with their numbers from 1. Files named `.gz` are decompressed.

    Raises:
        UserError: As for `read_text`, except that the file may be empty; or a compressed file is damaged.
    """
    with _open_file(path) as file:
        try:
            _check_is_text(file.peek(PEEK_BYTES), path)
            for number, line in enumerate(file, start=1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise _not_utf8(path, number, line[error.start]) from None
                for part in text.rstrip("\r\n").replace("\r\n", "\n").split("\r"):
                    yield number, part
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{path}: the compressed file is damaged ({error}); copy it again") from error


def _open_file(path: Path) -> BufferedReader:
    """The file for reading bytes, decompressed if it is named `.gz`."""
    try:
        return BufferedReader(gzip.open(path)) if path.suffix == ".gz" else path.open("rb")  # type: ignore[type-var]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, a file is needed") from None


def _check_is_text(data: bytes, path: Path) -> None:
    """Refuse UTF-16 and binary files by their first bytes."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path}: is UTF-16. Save the file as UTF-8 (iconv -f utf-16 -t utf8 {path.name})")
    if b"\0" in data[:PEEK_BYTES]:
        raise UserError(f"{path}: is not a text file")


def _not_utf8(path: Path, line: int, byte: int) -> UserError:
    """The error for an invalid byte."""
    return UserError(
        f"{path}, line {line}: byte 0x{byte:02x} is not valid UTF-8. "
        f"Save the file as UTF-8 (for Latin-1: iconv -f latin1 -t utf8 {path.name})"
    )
