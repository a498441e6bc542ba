"""Writing so that nothing is ever half-written, and settings as JSON."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Union

from mtl.errors import UserError


@contextmanager
def replacing(path: Union[str, Path], marker: str = "") -> Iterator[Path]:
    """Give a place beside `path` to write a file or a folder to; it takes the place of `path` once it is whole.

    Whatever fails, what was at `path` before stays, and nothing is left beside it. marker: see `check_target`.
    RAISES (UserError): the disk is full; something else than what is written stands at `path`.
    """
    check_target(path, marker)
    given, path = path, Path(path).resolve()
    beside = None
    try:
        beside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        partial, old = beside / "new", beside / "old"
        yield partial
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
    except Exception as error:
        if _is_full_disk(error):
            free = shutil.disk_usage(path.parent).free / 1e6
            raise UserError(
                f"not enough disk space to write {given} ({free:,.0f} MB free). What was there before is untouched; "
                f"free some space, or give another place"
            ) from error
        raise
    finally:  # also after Ctrl-C, wherever it struck
        if beside is not None:
            if not path.exists() and (beside / "old").exists():
                os.replace(beside / "old", path)
            shutil.rmtree(beside)


def check_target(path: Union[str, Path], marker: str = "") -> None:
    """Before long work: that its result can be written, and replaces nothing but an earlier result. Makes the parent folder.

    marker: a pattern of files that only a folder written by the same code holds; empty, where a file is written.
    RAISES (UserError): a folder stands where a file is to be written, or a file or another folder where a folder is.
    """
    path = Path(path)
    if path.is_dir() and not marker:
        raise UserError(f"{path}: is a folder, and a file is to be written; give another name")
    if path.is_file() and marker:
        raise UserError(f"{path}: is a file, and a folder is to be written; give another name")
    if path.is_dir() and any(path.iterdir()) and not any(path.glob(marker)):
        raise UserError(f"{path}: the folder holds other things ({marker} is not in it), which would be lost; give another one")
    try:
        path.resolve().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be written there: {error.strerror} ({error.filename})") from error


def sha256_of(path: Path) -> str:
    """The file's hash, in hexadecimal, read a megabyte at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, settings: Dict[str, Any]) -> None:
    """Write settings with every digit of a float, which srsly's writer and reader do not keep."""
    path.write_text(json.dumps(settings), encoding="utf-8")


def read_json(path: Path) -> Dict[str, Any]:
    """RAISES (UserError): there is no such file, or it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); make or copy it again") from error


def _is_full_disk(error: Optional[BaseException]) -> bool:
    """By number, or by text: safetensors raises an error of its own, datasets one that the true one is the cause of."""
    if error is None:
        return False
    own = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
    return own or _is_full_disk(error.__cause__)
