"""Labelled files to spaCy's format: `convert`, `formats`."""

import re
import shlex
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import typer

from mtl.cli.common import LangOption, app, can_ask, reads_files, write_report
from mtl.errors import UserError, check_choice

MAX_NOTES = 5  # of each file


@app.command()
@reads_files
def convert(
    files: List[Path] = typer.Argument(..., help="Labelled files: training data first, then dev, then test."),
    out: Path = typer.Option(..., "--out", "-o", help="Output folder."),
    names: str = typer.Option("train,dev,test", help="Names of the output files, in the order of the input files."),
    task: str = typer.Option("", help="Write OUT/train/TASK.spacy instead of OUT/train.spacy."),
    reading: Any = None,
    lang: LangOption = "en",
    shard_size: int = typer.Option(
        0, help="Write folders of files with this many documents each, which stream from disk. 0: one file."
    ),
    processes: int = typer.Option(0, min=0, help="Processes. 0: all cores if there are many documents, else one."),
    allow_unseen: bool = typer.Option(False, "--allow-unseen", help="Accept dev and test labels that the training data lacks."),
    spelling: str = typer.Option(
        "ask", help="Labels that differ in case or blanks alone: merge, keep, refuse; ask does that where there is a terminal."
    ),
    report_file: Optional[Path] = typer.Option(None, "--report", help="Also write all counts and notes as JSON."),
) -> None:
    """Convert labelled files to spaCy's format and check them.

    \b
    Formats: exports of Prodigy, Label Studio, Doccano, brat, INCEpTION and others, CoNLL, SQuAD, BioC, spaCy, CSV, Excel and
    parquet, in files, folders or archives. `mtl formats` lists them.
    Checks: character offsets, labels, and documents that occur in two splits.
    Example: mtl convert train.jsonl dev.jsonl test.jsonl --out corpus/spacy
    """
    splits = [name.strip() for name in names.split(",")]
    if len(files) > len(splits):
        raise UserError(f"{len(files)} files, but {len(splits)} names: give a name for each file with --names")
    if len(set(splits)) < len(splits) or not all(re.fullmatch(r"\w[\w.-]*", split) for split in splits):
        raise UserError(f"--names {names!r}: the names must differ, and consist of letters, digits, '-', '_' and '.'")
    if task and not re.fullmatch(r"\w[\w.-]*", task):
        raise UserError(f"--task {task!r}: the name consists of letters, digits, '-', '_' and '.'")
    paths = _output_paths(out, splits, task, is_sharded=shard_size > 0)
    started = time.perf_counter()
    reports = _converted(
        dict(zip(splits, files)),
        paths,
        spelling,
        reading=reading,
        lang=lang,
        shard_size=shard_size or 2000,
        processes=processes,
        allow_unseen=allow_unseen,
    )
    for split, report in reports.items():
        typer.echo(f"{files[splits.index(split)]} ({report.format}) -> {paths[split]}")
        _show(report)
    size, seconds = sum(file.stat().st_size for file in files if file.is_file()) / 1e6, time.perf_counter() - started
    typer.echo(f"{size:,.1f} MB in {seconds:,.1f} s ({size / seconds:,.1f} MB/s). Next: mtl check " + _checked(paths, len(files)))
    if report_file is not None:
        parts = {split: {"counts": r.counts, "notes": r.notes, "advice": r.advice} for split, r in reports.items()}
        write_report(report_file, parts)


def _checked(paths: Dict[str, Path], count: int) -> str:
    """The options of `mtl check` for what was written."""
    names = ("train", "dev", "test")
    return " ".join(f"--{name} {shlex.quote(str(path))}" for name, path in list(zip(names, paths.values()))[:count])


def _show(report: Any) -> None:
    """What was counted, the first notes, the advice."""
    for what, count in report.counts.items():
        typer.echo(f"  {count:>7,} {what}")
    for note in report.notes[:MAX_NOTES]:
        typer.echo(f"          {note}")
    if len(report.notes) > MAX_NOTES:
        typer.echo(f"          ... and {len(report.notes) - MAX_NOTES:,} more notes like these (all: --report FILE)")
    for line in report.advice:
        typer.echo(f"  {line}")


def _converted(files: Dict[str, Path], paths: Dict[str, Path], spelling: str, **options: Any) -> Dict[str, Any]:
    """Convert the files; where labels differ in case or blanks alone, ask if they are the same."""
    from mtl.data.convert import convert_splits
    from mtl.data.labels import SPELLINGS, SpellingsDiffer

    check_choice("--spelling", spelling, ("ask", *SPELLINGS))
    try:
        return convert_splits(files, paths, spelling=spelling if spelling != "ask" else "refuse", **options)  # type: ignore[arg-type]
    except SpellingsDiffer as error:
        if spelling != "ask" or not can_ask():
            raise
        typer.echo(str(error))
        same = typer.confirm("Are they the same label?", default=True)
        return convert_splits(files, paths, spelling="merge" if same else "keep", **options)


@app.command()
def formats(
    name: str = typer.Argument("", help="Show this one, with an example."),
) -> None:
    """List the formats of labelled files that are read.

    \b
    Example: mtl formats prodigy
    """
    from mtl.data.formats.detect import all_formats
    from mtl.data.formats.examples import EXAMPLES, format_lines

    known = all_formats()
    if name:
        check_choice("the format", name, tuple(known))
        for line in format_lines(name, known[name].title) if name in EXAMPLES else [known[name].title]:
            typer.echo(line)
        return
    for key, format in known.items():
        typer.echo(f"{key:14} {format.title}")


def _output_paths(out: Path, splits: List[str], task: str, is_sharded: bool) -> Dict[str, Path]:
    suffix = "" if is_sharded else ".spacy"
    return {split: out / split / f"{task}{suffix}" if task else out / f"{split}{suffix}" for split in splits}
