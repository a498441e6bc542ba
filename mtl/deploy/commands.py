"""Commands that packaging and its proof run: pip, and Python in another environment."""

import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, List, Sequence

from mtl.errors import UserError


def install_command(wheels: Sequence[Path]) -> str:
    """The command that installs these wheels. Their paths make sure that none of them comes from an index."""
    return shlex.join(["pip", "install", *(path if "/" in (path := wheel.as_posix()) else f"./{path}" for wheel in wheels)])


def pip_wheel(source: Path, out: Path) -> Path:
    """Build the wheel of a folder of sources, without the network.

    Args:
        source (Path): The folder.
        out (Path): Where the wheel goes.

    Raises:
        UserError: It cannot be built.
    """
    with tempfile.TemporaryDirectory(prefix="mtl-wheel-") as fresh:
        command = ["wheel", str(source), "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", fresh]
        run_command([sys.executable, "-m", "pip", "--disable-pip-version-check", *command], "the wheel could not be built")
        wheel = next(Path(fresh).glob("*.whl"))
        shutil.move(str(wheel), out / wheel.name)
    return out / wheel.name


def run_command(command: List[str], failure: str, **kwargs: Any) -> str:
    """Run a command and return its output.

    Raises:
        UserError: It fails; the message has the end of its output.
    """
    done = subprocess.run(command, capture_output=True, text=True, **kwargs)
    if done.returncode:
        last_lines = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise UserError(f"{failure}:\n{last_lines}")
    return done.stdout
