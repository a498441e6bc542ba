"""Reading text files, whole or line by line, in any encoding and compressed; and their JSON."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import zlib
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, Tuple, Union

from mtl.errors import UserError

PEEK_BYTES = 4096  # looked at to tell text from other files
COMPRESSED: Dict[bytes, Callable[[Any], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}  # first bytes


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
    except RecursionError:
        raise UserError(f"{where}: the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise UserError(f"{where}: not valid JSON ({error.msg} at {line}column {error.colno})") from None
    except ValueError as error:  # a number of thousands of digits
        if isinstance(error, UnicodeEncodeError):
            raise UserError(
                f"{where}: {error.object[error.start]!r} is half a character, which cannot be encoded; correct the escape"
            ) from None
        raise UserError(f"{where}: not valid JSON ({str(error).split(';')[0]})") from None
    return value


class NotUtf8(UserError):
    """A text file has another encoding than is expected."""


def read_text(path: Union[str, Path], encoding: str = "utf-8") -> str:
    """The text of a file, without byte order mark, with line ends as `\\n`. It is decompressed as in `stream_lines`.

    Args:
        path (Union[str, Path]): The file.
        encoding (str): As Python names it. A file that begins with the mark of UTF-16 has that.

    Raises:
        UserError: The file is missing, a folder, empty, or not in this encoding (with the line of the first invalid byte).
    """
    path = Path(path)
    with _open_file(path) as file, _damage_explained(path):
        data = file.read()
    if not data.strip():
        raise UserError(f"{path}: the file is empty")
    codec = _codec(data[:PEEK_BYTES], path, encoding)
    try:
        text = data.decode(codec)
    except UnicodeDecodeError as error:
        raise _not_encoded(path, data.count(b"\n", 0, error.start) + 1, data[error.start], codec) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def stream_lines(path: Path, encoding: str = "utf-8") -> Iterator[Tuple[int, str]]:
    """The lines of a file of any size with their numbers from 1. Files compressed by gzip, bzip2 or xz are decompressed.

    Raises:
        UserError: As for `read_text`, except that the file may be empty; or a compressed file is damaged.
    """
    with _open_file(path) as file, _damage_explained(path):
        codec = _codec(file.peek(PEEK_BYTES), path, encoding)
        is_wide = codec.startswith(("utf-16", "utf-32"))  # in others a line ends with the byte of a line feed
        lines: Iterable[Union[bytes, str]] = io.TextIOWrapper(file, codec, newline="") if is_wide else file
        number = 0
        try:
            for line in lines:
                text = line.decode(codec.removesuffix("-sig") if number else codec) if isinstance(line, bytes) else line
                for part in text.rstrip("\r\n").replace("\r\n", "\n").split("\r"):
                    number += 1
                    yield number, part
        except UnicodeDecodeError as error:
            raise _not_encoded(path, number + 1, error.object[error.start], codec) from None


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of the disk, not of what is in the file
        raise UserError(f"{path}: the compressed file is damaged ({error}); copy it again") from error


def _open_file(path: Path) -> BufferedReader:
    """The file for reading bytes, decompressed if its first bytes say that it is compressed."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, a file is needed") from None
    except PermissionError:
        raise UserError(f"{path}: no permission to read it") from None
    start = file.peek(PEEK_BYTES)
    opener = next((opener for magic, opener in COMPRESSED.items() if start.startswith(magic)), None)
    if path.suffix == ".gz":
        opener = gzip.open  # which says so if the file is not compressed
    return file if opener is None else BufferedReader(opener(file))


def check_encoding(encoding: str) -> str:
    """The usual name of an encoding.

    Raises:
        UserError: There is no such encoding of text.
    """
    try:
        codec = codecs.lookup(encoding)
        "".encode(codec.name)
    except LookupError:  # also of base64 and the like, which encode bytes
        allowed = "utf-8, latin-1, cp1252, utf-16 or another"
        raise UserError(f"--encoding {encoding!r}: there is no such encoding of text; use {allowed}") from None
    return codec.name


def _codec(start: bytes, path: Path, encoding: str) -> str:
    """How to decode a file that begins so. Refuses binary files.

    Raises:
        UserError: It is no text, or there is no such encoding.
    """
    name = check_encoding(encoding)
    if name == "utf-8" and start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if name == "utf-8" and start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in start and not name.startswith(("utf-16", "utf-32")):
        raise UserError(f"{path}: is not a text file" + _like_utf16(start))
    return "utf-8-sig" if name == "utf-8" else name


def _like_utf16(start: bytes) -> str:
    """A hint if every second byte is 0, as in UTF-16 without a mark."""
    for odd, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(start) > 3 and start[odd::2].count(0) > 0.4 * len(start[odd::2]) and start[1 - odd :: 2].count(0) == 0:
            return f", or it is UTF-16 without its mark: --encoding {name}"
    return ""


def _not_encoded(path: Path, line: int, byte: int, codec: str) -> UserError:
    """The error for an invalid byte."""
    if codec != "utf-8-sig":
        return UserError(f"{path}, line {line}: byte 0x{byte:02x} is not valid {codec.upper()}; name another --encoding")
    return NotUtf8(
        f"{path}, line {line}: byte 0x{byte:02x} is not valid UTF-8. "
        f"Save the file as UTF-8 (for Latin-1: iconv -f latin1 -t utf8 {path.name})"
    )
