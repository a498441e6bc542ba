"""Writing so that nothing is ever half-written, and settings as JSON."""

import errno
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, Union

from mtl.errors import UserError


@contextmanager
def replacing(path: Union[str, Path]) -> Iterator[Path]:
    """Give a place beside `path` to write a file or a folder to; it takes the place of `path` once it is whole.

    Whatever fails, what was at `path` before stays, and nothing is left beside it.
    RAISES (UserError): the disk is full.
    """
    path = Path(path)
    partial, old = path.with_name(path.name + ".partial"), path.with_name(path.name + ".old")
    remove(partial)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        remove(old)
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
    except Exception as error:
        if _is_full_disk(error):
            free = shutil.disk_usage(path.parent).free / 1e6
            raise UserError(
                f"not enough disk space to write {path} ({free:,.0f} MB free). What was there before is untouched; "
                f"free some space, or give another place"
            ) from error
        raise
    finally:  # also after Ctrl-C, wherever it struck
        if not path.exists() and old.exists():
            os.replace(old, path)
        remove(partial)
        remove(old)


def remove(path: Path) -> None:
    """Delete a file or a folder, where there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


def write_json(path: Path, settings: Dict[str, Any]) -> None:
    """Write settings with every digit of a float, which srsly's writer and reader do not keep."""
    path.write_text(json.dumps(settings), encoding="utf-8")


def read_json(path: Path) -> Dict[str, Any]:
    """What `write_json` wrote. RAISES (UserError): there is no such file, or it is broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); copy or install the pipeline again") from error


def _is_full_disk(error: BaseException) -> bool:
    """By number, or by text: safetensors raises an error of its own."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)
