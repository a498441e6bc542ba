"""The console script: all commands, and what becomes of an error."""

import sys

import typer

from mtl.cli.common import app
from mtl.errors import UserError

# isort: off
from mtl.cli import data, adaptation, training, heads, serving  # noqa: F401  # each adds its commands, in this order
# isort: on

__all__ = ["app", "main"]


def main() -> None:
    """Entry point: a user's mistake, or a file that cannot be had, is one message and exit code 1; else there is a traceback."""
    from thinc.api import ConfigValidationError

    try:
        app()
    except ConfigValidationError as error:
        typer.echo(f"error: the config: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        typer.echo(f"error: {error.filename}: {error.strerror}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
