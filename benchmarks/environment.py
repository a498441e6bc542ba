"""What a benchmark's result file says about where it was made."""

import subprocess
from pathlib import Path
from typing import Any, Dict

from mtl.machine import machine


def environment() -> Dict[str, Any]:
    """Hardware, versions and commit, for the `environment` key of a result file."""
    changed = "+changes" if _git("status", "--porcelain", "-uno") else ""
    return {**machine(), "commit": _git("rev-parse", "--short", "HEAD") + changed}


def _git(*arguments: str) -> str:
    done = subprocess.run(("git", *arguments), capture_output=True, text=True, cwd=Path(__file__).parent)
    return done.stdout.strip()
