"""What the commands share: the application and its help, reading arguments, writing reports."""

import inspect
import json
import sys
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Callable, Dict, List, Optional, Tuple

import typer
from typer.core import TyperGroup

from mtl.errors import UserError
from mtl.files import replacing
from mtl.progress import set_verbosity

SECTIONS = {
    "Start": ["init"],
    "Data": ["convert", "formats", "check", "split", "export-data", "augment"],
    "Continued pretraining": ["adapt", "distance", "neighbours"],
    "Training": ["steps", "train", "evaluate", "compare"],
    "Changes to a trained pipeline": ["add-head", "retrain-head", "remove-head", "distill", "average", "optimize"],
    "Use of a trained pipeline": ["ask", "bench", "package", "verify"],
}


class SectionedGroup(TyperGroup):
    """Lists the commands of `mtl --help` by section. Typer's own panels need rich, which would draw boxes."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the sections."""
        width = max(map(len, self.list_commands(ctx)))
        for title, names in SECTIONS.items():
            commands = {name: self.get_command(ctx, name) for name in names}
            with formatter.section(title):
                formatter.write_dl(
                    [
                        (f"{name:{width}}", command.get_short_help_str(limit=200))
                        for name, command in commands.items()
                        if command is not None
                    ]
                )


LangOption = Annotated[str, typer.Option("--lang", help="Language code of the tokenizer, as in spacy.blank.")]
# Options of the commands that read labelled files: name -> annotation, default.
READING_OPTIONS: Dict[str, Tuple[Any, Any]] = {
    "format": (
        Annotated[str, typer.Option("--format", help="Input format, if it is not recognised; a wrong name lists all.")], "auto"
    ),
    "column": (
        Annotated[
            List[str], typer.Option("--column", help="What a column or key is: text=Body, label=Type, cats=urgent (repeatable).")
        ], [],
    ),
    "encoding": (Annotated[str, typer.Option("--encoding", help="Encoding of text files, such as cp1252.")], "utf-8"),
    "repair": (
        Annotated[
            List[str], typer.Option("--repair", help="Repair offsets, tags or text in place of refusing them (repeatable).")
        ], [],
    ),
    "sentences": (
        Annotated[int, typer.Option("--sentences-per-document", help="For CoNLL files that do not say where documents end.")], 1
    ),
}  # fmt: skip


def reads_files(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of reading labelled files, which it gets as its argument `reading`."""
    own = inspect.signature(command)
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
        for name, (annotation, default) in READING_OPTIONS.items()
    ]
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in own.parameters.values() if parameter.name != "reading"
    ]  # fmt: skip

    @wraps(command)
    def run(**given: Any) -> None:
        from mtl.data.formats.reading import make_reading

        names = {name: given.pop(name) for name in READING_OPTIONS}
        columns = parse_columns(names["column"])
        reading = make_reading(names["format"], columns, names["encoding"], names["repair"], names["sentences"])
        command(**given, reading=reading)

    run.__signature__ = own.replace(parameters=[*parameters, *options])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in [*parameters, *options]}
    return run


app = typer.Typer(
    name="mtl",
    cls=SectionedGroup,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


def show_version(wanted: bool) -> None:
    """Print the version, and end the program, if that is wanted."""
    if wanted:
        typer.echo(f"spacy-mtl {version('spacy-mtl')}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", help="Show the version and exit.", callback=show_version, is_eager=True),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Show no progress."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Show progress more often, what is logged, and tracebacks."),
) -> None:
    """Multi-task spaCy pipelines: adapt one transformer to your text, and train several heads on it together."""
    set_verbosity(quiet, verbose)


def load_pipeline(pipeline: str, overrides: Optional[Dict[str, Any]] = None) -> Any:
    """Load a pipeline as `spacy.load` does.

    Args:
        pipeline (str): A folder or an installed package.
        overrides (Optional[Dict[str, Any]]): Settings of its config to change, by dotted name.

    Returns:
        Any: The pipeline, without spaCy's limit on the length of a text, which is meant for its parser.

    Raises:
        UserError: There is no such pipeline.
    """
    import spacy

    try:
        nlp = spacy.load(pipeline, config=overrides or {})
    except OSError as error:
        raise UserError(
            f"{pipeline}: no such pipeline folder or installed package ({str(error).splitlines()[0][:120]})"
        ) from error
    nlp.max_length = max(nlp.max_length, 10**9)
    return nlp


def encoder_overrides(**settings: Any) -> Dict[str, Any]:
    """Settings of the encoder as overrides of a pipeline's config."""
    return {f"components.transformer.model.{name}": value for name, value in settings.items()}


def read_text_argument(argument: str) -> str:
    """The text that an argument gives: the argument itself, the content of the file it names, or standard input for "-".

    Raises:
        UserError: The text is empty or not UTF-8, or the file is not a text file.
    """
    from mtl.data.text_files import read_text

    text = argument
    if argument == "-":
        try:
            text = sys.stdin.buffer.read().decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"standard input is not UTF-8 (byte {error.start + 1})") from None
    elif len(argument.split()) == 1 and Path(argument).suffix in (".txt", ".md"):
        text = read_text(argument)
    elif len(argument.split()) == 1 and Path(argument).is_file():
        raise UserError(
            f"{argument}: only .txt and .md files are read as text; pass other files on standard input: - < {argument}"
        )
    if not text.strip():
        raise UserError("the text is empty")
    return text


def parse_setting(argument: str, example: str = "training.max_steps=200", dotted: bool = True) -> Tuple[str, Any]:
    """Parse the argument of `--set`.

    Args:
        argument (str): NAME=VALUE. The value is read as JSON, or as text if it is not JSON.
        example (str): Shown in the error message.
        dotted (bool): Whether the name includes its section.

    Returns:
        Tuple[str, Any]: The name and the value.

    Raises:
        UserError: The argument has another form.
    """
    name, equals, value = argument.partition("=")
    if not equals or ("." in name) != dotted:
        raise UserError(f"--set {argument!r}: give a setting {'with' if dotted else 'without'} its section, as in {example}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def parse_reference(argument: str) -> Tuple[str, float]:
    """Parse the argument of `--reference`, SCORE=NUMBER.

    Raises:
        UserError: The argument has another form.
    """
    name, _, value = argument.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise UserError(f"--reference {argument!r}: give a score and its value, as in ents_f=0.83") from None


def parse_fractions(option: str, argument: str) -> List[float]:
    """Parse numbers separated by commas.

    Args:
        option (str): The option, for the error message.
        argument (str): Its argument.

    Raises:
        UserError: A part is not a number.
    """
    fractions = []
    for part in argument.split(","):
        try:
            fractions.append(float(part))
        except ValueError:
            raise UserError(f"{option}: {part!r} is not a number; give fractions, as in 0.1,1") from None
    return fractions


def parse_columns(given: List[str]) -> Dict[str, str]:
    """The options --column KEY=NAME; "cats" and "labels", which may be repeated, get a key for each name.

    Raises:
        UserError: One has another form, or a key is given twice.
    """
    columns: Dict[str, str] = {}
    for option in given:
        key, equals, name = option.partition("=")
        if not (key and equals and name):
            raise UserError(f"--column {option!r}: give KEY=NAME, as in text=Body")
        key = f"{key}:{name}" if key == "cats" or (key == "labels" and "labels" in columns) else key
        if key in columns:
            raise UserError(f"--column {option!r}: {key!r} is given twice")
        columns[key] = name
    return columns


def can_ask() -> bool:
    """Whether somebody can answer a question."""
    return sys.stdin.isatty()


def write_report(path: Path, report: Any) -> None:
    """Write a report as indented JSON. The file is whole or absent."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
