"""A new project: `init`."""

import shlex
from pathlib import Path
from typing import Any, List, Tuple

import typer

from mtl.cli.common import LangOption, app, can_ask, reads_files
from mtl.errors import UserError


@app.command()
@reads_files
def init(
    folder: Path = typer.Argument(..., help="Folder of the new project."),
    train: List[Path] = typer.Option(
        [],
        help="Labelled files of any format: one with all tasks, or one for each (repeatable). Asked for if there is a terminal.",
    ),
    dev: List[Path] = typer.Option([], help="Dev files, in the same order. Without any, the training files are split."),
    test: List[Path] = typer.Option([], help="Test files, in the same order."),
    text: List[Path] = typer.Option([], help="Domain text for continued pretraining (repeatable)."),
    encoder: str = typer.Option("sentence-transformers/all-MiniLM-L6-v2", help="Hugging Face folder, or a name on the hub."),
    source: str = typer.Option("", "--from", help="Go on from the encoder of this trained pipeline, a folder or a package."),
    lang: LangOption = "en",
    name: str = typer.Option("", help="Name of the pipeline. Default: that of the folder."),
    reading: Any = None,
    force: bool = typer.Option(False, help="Write the project even if `mtl check` finds errors."),
) -> None:
    """Write a project that runs as it stands, tuned to labelled files.

    \b
    It looks at the data for heads, exclusive categories or several, window, answer length, steps, batch, rate, and precision.
    Example: mtl init helpdesk --train tickets.csv --column text=Body --column label=Queue
    Example: mtl init privacy --train policies.jsonl --train entities.conll --text policies.txt
    """
    from mtl.data.check.findings import ERROR, check_lines, worst
    from mtl.training.project import Project, init_project

    slug = "".join(char if char.isalnum() else "_" for char in (name or folder.name)).strip("_").lower()
    if not slug or not slug[0].isalpha():
        raise UserError(f"the name {name or folder.name!r}: give one that begins with a letter, with --name")
    if not train:
        train, text, encoder, lang = _asked(text, encoder, lang)
    project = Project(folder, train, dev, test, text, encoder, lang, slug, reading, force, source)
    plan, findings = init_project(project)
    for line in check_lines(findings):
        typer.echo(line)
    if worst(findings) == ERROR and not force:
        raise UserError("the data has errors, so nothing was written. Correct them, or accept them with --force")
    for head, settings in plan.heads.items():
        shown = ", ".join(f"{key} = {value}" for key, value in settings.items() if key != "factory")
        typer.echo(f"head {head}" + (f": {shown}" if shown else ""))
    typer.echo(
        f"{plan.words:,} words an epoch: {plan.steps:,} steps of {plan.step_words} words, windows of {plan.window} subwords, "
        f"learning rate {plan.rate:.2g}, {plan.precision}; about {plan.minutes:,.0f} minutes of training here"
    )
    typer.echo(f"\n{folder}: cd {shlex.quote(str(folder))} && python -m spacy project run all")


def _asked(text: List[Path], encoder: str, lang: str) -> Tuple[List[Path], List[Path], str, str]:
    """What a person answers: training files, domain text, encoder, language.

    Raises:
        UserError: There is no terminal to ask on, or a file is missing.
    """
    if not can_ask():
        raise UserError("--train: give one or more labelled files")
    train = _paths("Labelled training files, separated by commas")
    more = text or _paths("Unlabelled domain text to continue pretraining on (Enter for none)", optional=True)
    return train, more, typer.prompt("Encoder", default=encoder), typer.prompt("Language", default=lang)


def _paths(question: str, optional: bool = False) -> List[Path]:
    """The files that a person names, all of which exist."""
    while True:
        answer = typer.prompt(question, default="" if optional else None, show_default=False)
        paths = [Path(part.strip()).expanduser() for part in answer.split(",") if part.strip()]
        missing = [path for path in paths if not path.exists()]
        if not missing and (paths or optional):
            return paths
        typer.echo(f"{missing[0]}: no such file" if missing else "name at least one")
