"""Archives and folders of labelled files: which files there are. An archive is unpacked to a folder that is then removed."""

import lzma
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Iterator, List, Tuple

from mtl.errors import UserError

DAMAGED = (zlib.error, lzma.LZMAError)
MAX_FILES = 100_000  # in an archive
MAX_BYTES = 20 << 30  # unpacked
MAX_RATIO = 200  # unpacked to packed; text reaches about 30
FREE_BYTES = 100 << 20  # up to which the ratio does not matter
BLOCK = 1 << 20
ZIP = b"PK\x03\x04"  # a zip archive begins with it
Member = Tuple[str, int, IO[bytes]]  # name, size, content


def is_excel(path: Path) -> bool:
    """Whether a file that begins like a zip archive is an Excel file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return path.suffix.lower() in (".xlsx", ".xlsm")


def is_archive(path: Path) -> bool:
    """Whether the path is a zip or tar archive, compressed or not, and no Excel file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(4)
    if start == ZIP:
        return not is_excel(path)
    return tarfile.is_tarfile(path)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """A folder with the files of an archive, or the path itself if it is none.

    Links, and names that lead out of the folder, are refused. So is an archive that unpacks to more than `MAX_BYTES`, or to more
    than `MAX_RATIO` times its size.

    Yields:
        Path: The folder, or the file if there is one alone.

    Raises:
        UserError: The archive is damaged, or must not be unpacked.
    """
    if not is_archive(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="mtl-archive-") as name:
        folder = Path(name)
        try:
            _unpack(path, folder)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, RuntimeError, NotImplementedError, *DAMAGED) as error:
            raise UserError(f"{path}: the archive cannot be unpacked ({error})") from error  # a password is a RuntimeError
        files = files_in(folder)
        if not files:
            raise UserError(f"{path}: the archive is empty")
        yield files[0] if len(files) == 1 else folder


def _unpack(path: Path, folder: Path) -> None:
    limit = min(MAX_BYTES, max(FREE_BYTES, MAX_RATIO * path.stat().st_size))
    total = 0
    for count, (name, size, content) in enumerate(_members(path), start=1):
        total += size
        if count > MAX_FILES or total > limit:
            raise UserError(
                f"{path}: the archive unpacks to more than {MAX_FILES:,} files or {limit / 1e9:,.1f} GB, which looks like a "
                f"bomb; unpack it yourself, and give the folder"
            )
        target = folder.joinpath(*_safe_parts(name, path))
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise UserError(f"{path}: {name!r} is in the archive twice")
        with content, target.open("wb") as out:
            left = size
            while left > 0 and (block := content.read(min(BLOCK, left))):  # never more than was announced
                out.write(block)
                left -= len(block)


def _members(path: Path) -> Iterator[Member]:
    """The files of an archive; hidden ones and those of macOS are left out."""
    with path.open("rb") as file:
        is_zip = file.read(4) == ZIP  # `zipfile.is_zipfile` looks at the end, where a tar may have a zip
    if is_zip:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.is_dir() and not _is_hidden(info.filename):
                    yield info.filename, info.file_size, archive.open(info)
        return
    with tarfile.open(path) as tar:
        for member in tar:
            if member.isdir() or _is_hidden(member.name):
                continue
            content = tar.extractfile(member) if member.isfile() else None
            if content is None:
                raise UserError(f"{path}: {member.name!r} in the archive is a link or a device; unpack it yourself")
            yield member.name, member.size, content


def _is_hidden(name: str) -> bool:
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in (".", "..")]
    return "__MACOSX" in parts or bool(parts and parts[-1].startswith("."))


def _safe_parts(name: str, path: Path) -> List[str]:
    parts = list(PurePosixPath(name.replace("\\", "/")).parts)
    if ".." in parts or name.startswith(("/", "\\")) or (parts and ":" in parts[0]):
        raise UserError(f"{path}: {name!r} in the archive leads out of the folder; the archive is not to be trusted")
    return [part for part in parts if part != "."]


def files_in(folder: Path) -> List[Path]:
    """The files of a folder and its subfolders, sorted, without hidden ones. Links to folders are not followed."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            found += files_in(path)
        elif path.is_file():
            found.append(path)
    return found
