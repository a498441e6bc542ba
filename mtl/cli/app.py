"""The console script `mtl`: its commands, and how errors are reported."""

import sys

import typer

from mtl.cli.common import app
from mtl.cli.messages import message_of
from mtl.progress import Verbosity

# isort: off
from mtl.cli import project, convert, data, adapt, training, compare, heads, deploy  # noqa: F401  # each adds its commands to `app`
# isort: on

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line. Errors caused by user input or unreadable files are one line and exit code 1, others a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal in cp1252 cannot show every character of a text
    try:
        app()
    except OSError as error:
        if error.filename is None:
            raise
        typer.echo(f"error: {error.filename}: {error.strerror}", err=True)
        sys.exit(1)
    except Exception as error:
        message = message_of(error)
        if message is None or Verbosity.verbose:
            raise
        typer.echo(f"error: {message}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
