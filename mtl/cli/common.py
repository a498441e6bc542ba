"""What the commands share: the application, and how arguments are read."""

import json
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import typer

from mtl.errors import UserError
from mtl.files import replacing

app = typer.Typer(
    name="mtl",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="One shared transformer, continued on your text, with categories, entities and questions trained together.",
)


def load(pipeline: str, changes: Optional[Dict[str, Any]] = None) -> Any:
    """`spacy.load`, with a message instead of a traceback where there is no such pipeline. changes: config overrides."""
    import spacy

    try:
        nlp = spacy.load(pipeline, config=changes or {})
    except OSError as error:
        raise UserError(
            f"{pipeline}: no such pipeline folder or installed package ({str(error).splitlines()[0][:120]})"
        ) from error
    nlp.max_length = max(nlp.max_length, 10**9)  # the limit is for spaCy's parser
    return nlp


def progress(line: str) -> None:
    """A line that is written over itself, where somebody watches."""
    if sys.stderr.isatty():
        typer.echo(line, nl=False, err=True)


def read_argument(text: str) -> str:
    """The text itself, or what the file of that name or standard input holds."""
    from mtl.data.records import read_text

    if text == "-":
        try:
            text = sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"standard input is not UTF-8 (byte {error.start + 1})") from None
    elif len(text.split()) == 1 and Path(text).suffix in (".txt", ".md"):
        text = read_text(text)
    elif len(text.split()) == 1 and Path(text).is_file():
        raise UserError(f"{text}: text is read from .txt and .md files; for another, give it on standard input: - < {text}")
    if not text.strip():
        raise UserError("the text is empty")
    return text


def read_setting(given: str, example: str = "training.max_steps=200", dotted: bool = True) -> Tuple[str, Any]:
    """A name, with its section where `dotted`, and its value, which is JSON, or text as it stands."""
    name, equals, value = given.partition("=")
    if not equals or ("." in name) != dotted:
        raise UserError(f"--set {given!r}: give a setting {'with' if dotted else 'without'} its section, as in {example}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def read_reference(given: str) -> Tuple[str, float]:
    name, _, value = given.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise UserError(f"--reference {given!r}: give a score and its number, as in ents_f=0.83") from None


def read_share(part: str) -> float:
    try:
        return float(part)
    except ValueError:
        raise UserError(f"--labels: {part!r} is no number; give shares, as in 0.1,1") from None


def write_json(path: Path, value: Any) -> None:
    """A readable JSON file, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
