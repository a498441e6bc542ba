"""Atomic writing, checks of output paths, hashes, and settings as JSON."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple, Union

from mtl.errors import UserError

CANNOT_RENAME = (errno.EBUSY, errno.EXDEV, errno.EACCES, errno.EPERM)  # mount points, layers of a container, sticky folders
WORK = ".mtl"  # the folder of `workplace` in an output folder
HASH_BLOCK = 1 << 20  # bytes read at a time


@contextmanager
def replacing(path: Union[str, Path], marker: str = "") -> Iterator[Path]:
    """Write a file or a folder atomically: yields a temporary path beside `path`, which replaces `path` on success.

    After any error, what was at `path` before is unchanged and nothing is left beside it.

    Args:
        path (Union[str, Path]): The file or folder to write.
        marker (str): See `check_target`.

    Yields:
        Path: The path to write to.

    Raises:
        UserError: The disk is full, or there is something at `path` that must not be replaced.
    """
    absent = [parent for parent in Path(path).resolve().parents if not parent.exists()]
    check_target(path, marker)
    requested, path = path, Path(path).resolve()
    workspace = None
    try:
        workspace = _make_workspace(path)
        partial, old = workspace / "new", workspace / "old"
        yield partial
        _put_in_place(partial, path, old)
    except Exception as error:
        if _is_full_disk(error):
            free = shutil.disk_usage(path.parent).free / 1e6
            raise UserError(
                f"not enough disk space to write {requested} ({free:,.0f} MB free). What was there before is untouched; "
                f"free some space, or give another path"
            ) from error
        raise
    finally:  # also after Ctrl-C, wherever it struck
        if workspace is not None:
            if not path.exists() and (workspace / "old").exists():
                os.replace(workspace / "old", path)
            shutil.rmtree(workspace)
        if not path.exists():
            _remove_empty(absent)


def _remove_empty(folders: List[Path]) -> None:
    """Remove those of the folders, innermost first, that nothing was written to."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def workplace(path: Path) -> Path:
    """The folder for what a command keeps until `path` is written, or for later runs: checkpoints, caches.

    It is the parent folder of `path`. If that cannot be written to, or `path` is a mount point and alone will last, it is a
    hidden folder in `path`, which `replacing` leaves alone.
    """
    path = path.resolve()
    return path.parent if os.access(path.parent, os.W_OK) and not os.path.ismount(path) else path / WORK


def _make_workspace(path: Path) -> Path:
    """A temporary folder on the disk of `path`: beside it, or inside where the parent folder is not writable or another disk.

    Raises:
        OSError: Neither is possible.
    """
    try:
        if not os.path.ismount(path):
            return Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError:
        if not path.exists():
            raise
    if path.is_dir():
        return Path(tempfile.mkdtemp(prefix=".new-", dir=path))
    with path.open("ab"):  # a single file that is mounted, or that alone may be written
        return Path(tempfile.mkdtemp(prefix=f".{path.name}-"))


def _put_in_place(partial: Path, path: Path, old: Path) -> None:
    """Rename `partial` to `path`, and what was there to `old`; where renaming is impossible, exchange what is in them.

    A mount point, such as a Docker volume, can be filled but neither renamed nor replaced.
    """
    if old.parent.parent == path.parent:
        try:
            if path.exists():
                os.replace(path, old)
            os.replace(partial, path)
            return
        except OSError as error:
            if error.errno not in CANNOT_RENAME or not path.exists():
                raise
    if path.is_dir():
        _exchange_contents(partial, path, old)
        return
    shutil.copyfile(path, old)
    try:
        shutil.copyfile(partial, path)
    except BaseException:
        shutil.copyfile(old, path)
        raise


def _exchange_contents(partial: Path, path: Path, old: Path) -> None:
    """Move what is in `path` to `old`, and what is in `partial` to `path`. After an error everything is back where it was."""
    old.mkdir()
    moved: List[Tuple[Path, Path]] = []
    try:
        for source, target in ((path, old), (partial, path)):
            for entry in sorted(source.iterdir()):
                if entry != old.parent and entry.name != WORK:
                    moved.append((entry, target / entry.name))
                    shutil.move(str(entry), str(target / entry.name))
    except BaseException:
        for origin, place in reversed(moved):
            if place.exists() and not origin.exists():
                shutil.move(str(place), str(origin))
        raise


def check_target(path: Union[str, Path], marker: str = "") -> None:
    """Check before long work that its result can be written, and replaces nothing but an earlier result.

    Creates the parent folder.

    Args:
        path (Union[str, Path]): The file or folder to be written.
        marker (str): A glob pattern of files that only a folder written by the same code contains. Empty if a file is written.

    Raises:
        UserError: There is a folder where a file is to be written, or a file or an unrelated folder where a folder is; or the
            parent folder cannot be created, or nothing can be written there.
    """
    path = Path(path)
    if path.is_dir() and not marker:
        raise UserError(f"{path}: is a folder, and a file is to be written; give another name")
    if path.is_file() and marker:
        raise UserError(f"{path}: is a file, and a folder is to be written; give another name")
    if path.is_dir() and any(entry.name != WORK for entry in path.iterdir()) and not any(path.glob(marker)):
        raise UserError(f"{path}: the folder contains other files (no {marker}), which would be lost; give another folder")
    try:
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
        _make_workspace(path.resolve()).rmdir()
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror} ({error.filename})") from error


def sha256_of(path: Path) -> str:
    """The file's SHA-256 hash in hexadecimal. Memory does not grow with the file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, settings: Dict[str, Any]) -> None:
    """Write settings with all digits of every float, which srsly's writer and reader do not keep."""
    path.write_text(json.dumps(settings), encoding="utf-8")


def read_json(path: Path) -> Dict[str, Any]:
    """Read what `write_json` wrote.

    Raises:
        UserError: The file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); write or copy it again") from error


def _is_full_disk(error: Optional[BaseException]) -> bool:
    """Whether the error or its cause is a full disk.

    By number, or by text, because safetensors raises an error of its own; and by cause, because datasets wraps the real one.
    """
    if error is None:
        return False
    is_full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    return is_full or _is_full_disk(error.__cause__)
