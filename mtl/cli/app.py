"""The console script: all commands, and what becomes of an error."""

import sys

import typer

from mtl.cli.common import app
from mtl.cli.messages import message_of

# isort: off
from mtl.cli import data, adaptation, training, heads, serving  # noqa: F401  # each adds its commands, in this order
# isort: on

__all__ = ["app", "main"]


def main() -> None:
    """Entry point: a user's mistake, or a file that cannot be had, is one message and exit code 1; else there is a traceback."""
    try:
        app()
    except OSError as error:
        if error.filename is None:
            raise
        typer.echo(f"error: {error.filename}: {error.strerror}", err=True)
        sys.exit(1)
    except Exception as error:
        message = message_of(error)
        if message is None:
            raise
        typer.echo(f"error: {message}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
