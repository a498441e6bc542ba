"""The environment of a measurement, for benchmark result files."""

import subprocess
from pathlib import Path
from typing import Any, Dict

from mtl.timing import machine


def environment() -> Dict[str, Any]:
    """Hardware, versions and commit: the `environment` key of a result file."""
    suffix = "+changes" if _git("status", "--porcelain", "-uno") else ""
    return {**machine(), "commit": _git("rev-parse", "--short", "HEAD") + suffix}


def _git(*arguments: str) -> str:
    process = subprocess.run(("git", *arguments), capture_output=True, text=True, cwd=Path(__file__).parent)
    return process.stdout.strip()
