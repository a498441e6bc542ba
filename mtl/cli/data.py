"""Labelled files: `convert`."""

import re
from pathlib import Path
from typing import List

import typer

from mtl.cli.common import app
from mtl.errors import UserError


@app.command()
def convert(
    files: List[Path] = typer.Argument(..., help="Labelled files, training data first, then dev, then test."),
    out: Path = typer.Option(..., "--out", "-o", help="The folder to write to."),
    names: str = typer.Option("train,dev,test", help="What the files are called there, in the order given."),
    task: str = typer.Option("", help="Put each under its split: OUT/train/TASK.spacy instead of OUT/train.spacy."),
    format: str = typer.Option("auto", help="auto, jsonl, squad, pubtator or conll."),
    lang: str = typer.Option("en", help="The language whose tokenizer is used, as in spacy.blank."),
    shard_size: int = typer.Option(0, help="Write folders of files of so many documents, which stream from disk. 0: one file."),
    allow_unseen: bool = typer.Option(False, "--allow-unseen", help="Accept labels in dev or test that training data lacks."),
) -> None:
    """Convert labelled files to spaCy's format, and check them: offsets, labels, documents in two splits.

    \b
    Formats: JSON Lines (any subset of categories, entities, questions), SQuAD JSON, PubTator, CoNLL/IOB.
    Example: mtl convert train.jsonl dev.jsonl test.jsonl --out corpus/spacy
    """
    from mtl.data.convert import convert_splits

    split_names = [name.strip() for name in names.split(",")]
    if len(files) > len(split_names):
        raise UserError(f"{len(files)} files, but {len(split_names)} names: give --names one for each file")
    if len(set(split_names)) < len(split_names) or not all(re.fullmatch(r"\w[\w.-]*", name) for name in split_names):
        raise UserError(f"--names {names!r}: each file needs a name of its own, of letters, digits, '-', '_' and '.'")
    paths = {
        name: out / name / (task if shard_size else f"{task}.spacy") if task else out / (name if shard_size else f"{name}.spacy")
        for name in split_names
    }
    reports = convert_splits(
        dict(zip(split_names, files)), paths, format=format, lang=lang, shard_size=shard_size or 2000, allow_unseen=allow_unseen
    )
    for name, report in reports.items():
        typer.echo(f"{files[split_names.index(name)]} -> {paths[name]}")
        for what, count in report.counts.items():
            typer.echo(f"  {count:>7,} {what}")
        for note in report.notes[:5]:
            typer.echo(f"          {note}")
        if len(report.notes) > 5:
            typer.echo(f"          ... and {len(report.notes) - 5:,} more like these")
