"""Labelled data: `convert`, `formats`, `check`, `split`, `export-data`, `augment`."""

import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import typer

from mtl.cli.common import (
    ColumnOption,
    EncodingOption,
    FormatOption,
    LangOption,
    RepairOption,
    SentencesOption,
    app,
    can_ask,
    load_pipeline,
    parse_setting,
    write_report,
)
from mtl.errors import UserError, check_choice
from mtl.files import check_target

MAX_NOTES = 5  # of each file


@app.command()
def convert(
    files: List[Path] = typer.Argument(..., help="Labelled files: training data first, then dev, then test."),
    out: Path = typer.Option(..., "--out", "-o", help="Output folder."),
    names: str = typer.Option("train,dev,test", help="Names of the output files, in the order of the input files."),
    task: str = typer.Option("", help="Write OUT/train/TASK.spacy instead of OUT/train.spacy."),
    format: FormatOption = "auto",
    column: ColumnOption = [],
    encoding: EncodingOption = "utf-8",
    repair: RepairOption = [],
    sentences: SentencesOption = 1,
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
    Formats: JSON Lines, Prodigy, Doccano, Label Studio, brat, BioC, PubTator, SQuAD, MRQA, CoNLL/IOB, tokens and tags, spaCy v2
    and DocBin, CSV, Excel, parquet.
    Checks: character offsets, labels, and documents that occur in two splits.
    Example: mtl convert train.jsonl dev.jsonl test.jsonl --out corpus/spacy
    """
    from mtl.data.formats.reading import make_reading

    splits = [name.strip() for name in names.split(",")]
    if len(files) > len(splits):
        raise UserError(f"{len(files)} files, but {len(splits)} names: give a name for each file with --names")
    if len(set(splits)) < len(splits) or not all(re.fullmatch(r"\w[\w.-]*", split) for split in splits):
        raise UserError(f"--names {names!r}: the names must differ, and consist of letters, digits, '-', '_' and '.'")
    if task and not re.fullmatch(r"\w[\w.-]*", task):
        raise UserError(f"--task {task!r}: the name consists of letters, digits, '-', '_' and '.'")
    paths = _output_paths(out, splits, task, is_sharded=shard_size > 0)
    reading = make_reading(format, parse_columns(column), encoding, repair, sentences)
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
    if report_file is not None:
        parts = {split: {"counts": r.counts, "notes": r.notes, "advice": r.advice} for split, r in reports.items()}
        write_report(report_file, parts)


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


@app.command()
def check(
    train: List[Path] = typer.Option(..., help="Training files of all tasks, of any format or converted (repeatable)."),
    dev: List[Path] = typer.Option([], help="Dev files (repeatable)."),
    test: List[Path] = typer.Option([], help="Test files (repeatable)."),
    format: FormatOption = "auto",
    column: ColumnOption = [],
    encoding: EncodingOption = "utf-8",
    repair: RepairOption = [],
    sentences: SentencesOption = 1,
    lang: LangOption = "en",
    strict: bool = typer.Option(False, help="Fail on warnings as well."),
    text: List[Path] = typer.Option([], help="Unlabelled domain text, to see if it is of the same domain (repeatable)."),
    encoder: str = typer.Option("", help="Count subwords of this encoder, a Hugging Face folder or name, against --window."),
    window: int = typer.Option(384, min=1, help="Subwords in a window."),
    fix: Optional[Path] = typer.Option(
        None, help="Write the files to this folder without empty, repeated and leaking documents, with a log."
    ),
    page: Optional[Path] = typer.Option(None, "--html", help="Also write the findings, with their texts, as a page."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Also write the findings as JSON."),
) -> None:
    """Check labelled data before training: leaks between splits, contradictions, labels, broken texts.

    \b
    All files, splits and tasks are looked at together, since all heads share one encoder. Exits with 1 if there is an error.
    Example: mtl check --train corpus/spacy/train.spacy --dev corpus/spacy/dev.spacy --test corpus/spacy/test.spacy
    """
    from mtl.adaptation.text import stream_documents, text_files
    from mtl.data.check.findings import ERROR, WARNING, check_lines, check_page, worst
    from mtl.data.check.fix import LOG, fix_data
    from mtl.data.check.run import check_data
    from mtl.data.formats.reading import make_reading

    for target in (out, page):
        if target is not None:
            check_target(target)
    reading = make_reading(format, parse_columns(column), encoding, repair, sentences)
    files = {split: paths for split, paths in (("train", train), ("dev", dev), ("test", test)) if paths}
    unlabelled = list(stream_documents(text_files(list(map(str, text))))) if text else []
    result = check_data(
        files, lang=lang, reading=reading, unlabelled=unlabelled, subwords=_subwords(encoder) if encoder else None, window=window
    )
    for line in check_lines(result):
        typer.echo(line)
    if out is not None:
        write_report(out, result)
    if page is not None:
        page.write_text(check_page(result), encoding="utf-8")
        typer.echo(f"findings with their texts: {page}")
    if fix is not None:
        removed = fix_data(files, fix, lang=lang, reading=reading)
        (fix / LOG).write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in removed), encoding="utf-8")
        typer.echo(f"{len(removed):,} documents removed ({fix / LOG}); the others: {fix}. Check them again: mtl check")
    if worst(result) == ERROR or (strict and worst(result) == WARNING):
        raise typer.Exit(1)
    typer.echo("no errors" if result["findings"] else "nothing found")


def _subwords(encoder: str) -> Callable[[str], int]:
    """How many subwords of the encoder a text has."""
    from mtl.encoder.pretrained.sources import load_tokenizer

    tokenizer = load_tokenizer(encoder)
    return lambda text: len(tokenizer(text)["input_ids"])


@app.command()
def split(
    files: List[Path] = typer.Argument(..., help="Labelled files of any format: one with all tasks, or one for each."),
    out: Path = typer.Option(..., "--out", "-o", help="Output folder."),
    fractions: str = typer.Option("train=0.8,dev=0.1,test=0.1", help="Fraction of the documents in each split."),
    folds: int = typer.Option(0, help="Instead, write so many folds of train and dev for cross-validation."),
    format: FormatOption = "auto",
    column: ColumnOption = [],
    encoding: EncodingOption = "utf-8",
    repair: RepairOption = [],
    sentences: SentencesOption = 1,
    lang: LangOption = "en",
    seed: int = typer.Option(0, help="Random seed."),
) -> None:
    """Split labelled files, all tasks at once, with every label in proportion.

    \b
    Documents of one group, and those with the same or nearly the same text, stay together, over all files.
    Example: mtl split reports.jsonl --column group=aircraft --out corpus/spacy
    """
    from mtl.data.formats.reading import make_reading
    from mtl.data.labelled import left_out
    from mtl.data.split import split_files

    parts = {}
    for part in fractions.split(","):
        name, _, number = part.strip().partition("=")
        value = as_fraction(number)
        if not re.fullmatch(r"\w[\w-]*", name) or value is None:
            raise UserError(f"--fractions {fractions}: give a name and a number for each split, as in train=0.8,dev=0.2")
        parts[name] = value
    reading = make_reading(format, parse_columns(column), encoding, repair, sentences)
    reports: List[Any] = []
    written = split_files(files, out, parts, seed=seed, folds=folds, lang=lang, reading=reading, reports=reports)
    for line in left_out(reports):
        typer.echo(line)
    for path, counts in written.items():
        typer.echo(path)
        for what, count in counts.items():
            typer.echo(f"  {count:>7,} {what}")


@app.command("export-data")
def export_data(
    files: List[Path] = typer.Argument(..., help="Labelled files of any format, or converted ones."),
    to: str = typer.Option(..., "--to", help="jsonl, prodigy, doccano, label-studio, brat, conll, squad, csv or datasets."),
    out: Path = typer.Option(..., "--out", "-o", help="The file to write; for brat and datasets a folder."),
    pipeline: str = typer.Option("", help="Export what this pipeline predicts on the texts, in place of their annotation."),
    format: FormatOption = "auto",
    column: ColumnOption = [],
    encoding: EncodingOption = "utf-8",
    repair: RepairOption = [],
    sentences: SentencesOption = 1,
    lang: LangOption = "en",
) -> None:
    """Write labelled documents, or a pipeline's predictions on them, for the tool that people label in.

    \b
    Example: mtl export-data new.jsonl --pipeline en_mtl_maintenance --to label-studio --out to_correct.json
    """
    from mtl.data.export import check_export, export_docs
    from mtl.data.formats.reading import make_reading
    from mtl.data.labelled import left_out, read_labelled

    check_export(out, to)
    reading = make_reading(format, parse_columns(column), encoding, repair, sentences)
    reports: List[Any] = []
    docs = [item.doc for item in read_labelled({"train": files}, lang, reading, reports)]
    for line in left_out(reports):
        typer.echo(line)
    if pipeline:
        nlp = load_pipeline(pipeline)
        docs = list(nlp.pipe(asked_again(doc, nlp) for doc in docs))
    report = export_docs(docs, out, to)
    typer.echo(f"{len(docs):,} documents -> {out} ({to})")
    for what, count in report.counts.items():
        typer.echo(f"  {count:>7,} {what}")


def as_fraction(text: str) -> Optional[float]:
    """The number, None if it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def asked_again(doc: Any, nlp: Any) -> Any:
    """The text of a document for a pipeline, with its questions."""
    from mtl.registry import registered_tasks

    text = nlp.make_doc(doc.text)
    for task in registered_tasks():
        task.copy_inputs(doc, text)
    return text


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


def _output_paths(out: Path, splits: List[str], task: str, is_sharded: bool) -> Dict[str, Path]:
    suffix = "" if is_sharded else ".spacy"
    return {split: out / split / f"{task}{suffix}" if task else out / f"{split}{suffix}" for split in splits}


@app.command()
def augment(
    config: Path = typer.Argument(..., help="Training config with an augmenter in [corpora.train.augmenter]."),
    pairs: int = typer.Option(10, min=1, help="Number of documents to show, before and after augmentation."),
    override: List[str] = typer.Option([], "--set", help="Override a config setting: training.max_steps=200 (repeatable)."),
) -> None:
    """Preview training documents before and after augmentation.

    \b
    Changes are marked by «».
    Example: mtl augment configs/sample.cfg --set paths.train=corpus/spacy/train.spacy
    """
    from mtl.augment.preview import pair_lines, preview

    shown = 0
    for before, after in preview(config, dict(map(parse_setting, override)), pairs):
        shown += 1
        for i, line in enumerate(pair_lines(before, after)):
            typer.echo(f"{shown if i == 0 else '':>3}  {line}")
    if not shown:
        typer.echo("the augmenter did not change any document")
