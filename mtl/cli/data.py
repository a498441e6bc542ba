"""Labelled data: `check`, `split`, `export-data`, `augment`."""

import json
import re
from itertools import islice
from pathlib import Path
from typing import Any, Callable, List, Optional

import typer

from mtl.cli.common import LangOption, app, load_pipeline, parse_setting, reads_files, write_report
from mtl.errors import UserError
from mtl.files import check_target, replacing

MOST_TEXTS = 50_000  # of the unlabelled ones that are looked at


@app.command()
@reads_files
def check(
    train: List[Path] = typer.Option(..., help="Training files of all tasks, of any format or converted (repeatable)."),
    dev: List[Path] = typer.Option([], help="Dev files (repeatable)."),
    test: List[Path] = typer.Option([], help="Test files (repeatable)."),
    reading: Any = None,
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

    for target in (out, page):
        if target is not None:
            check_target(target)
    files = {split: paths for split, paths in (("train", train), ("dev", dev), ("test", test)) if paths}
    unlabelled = list(islice(stream_documents(text_files(list(map(str, text)))), MOST_TEXTS)) if text else []
    result = check_data(
        files, lang=lang, reading=reading, unlabelled=unlabelled, subwords=_subwords(encoder) if encoder else None, window=window
    )
    for line in check_lines(result):
        typer.echo(line)
    if out is not None:
        write_report(out, result)
    if page is not None:
        with replacing(page) as partial:
            partial.write_text(check_page(result), encoding="utf-8")
        typer.echo(f"findings with their texts: {page}")
    if fix is not None:
        removed = fix_data(files, fix, lang=lang, reading=reading)
        with replacing(fix / LOG) as partial:
            partial.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in removed), encoding="utf-8")
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
@reads_files
def split(
    files: List[Path] = typer.Argument(..., help="Labelled files of any format: one with all tasks, or one for each."),
    out: Path = typer.Option(..., "--out", "-o", help="Output folder."),
    fractions: str = typer.Option("train=0.8,dev=0.1,test=0.1", help="Fraction of the documents in each split."),
    folds: int = typer.Option(0, help="Instead, write so many folds of train and dev for cross-validation."),
    reading: Any = None,
    lang: LangOption = "en",
    seed: int = typer.Option(0, help="Random seed."),
) -> None:
    """Split labelled files, all tasks at once, with every label in proportion.

    \b
    Documents of one group, and those with the same or nearly the same text, stay together, over all files.
    Example: mtl split reports.jsonl --column group=aircraft --out corpus/spacy
    """
    from mtl.data.labelled import left_out
    from mtl.data.split import split_files

    parts = {}
    for part in fractions.split(","):
        name, _, number = part.strip().partition("=")
        value = as_fraction(number)
        if not re.fullmatch(r"\w[\w-]*", name) or value is None:
            raise UserError(f"--fractions {fractions}: give a name and a number for each split, as in train=0.8,dev=0.2")
        parts[name] = value
    reports: List[Any] = []
    written = split_files(files, out, parts, seed=seed, folds=folds, lang=lang, reading=reading, reports=reports)
    for line in left_out(reports):
        typer.echo(line)
    for path, counts in written.items():
        typer.echo(path)
        for what, count in counts.items():
            typer.echo(f"  {count:>7,} {what}")


@app.command("export-data")
@reads_files
def export_data(
    files: List[Path] = typer.Argument(..., help="Labelled files of any format, or converted ones."),
    to: str = typer.Option(..., "--to", help="jsonl, prodigy, doccano, label-studio, brat, conll, squad, csv or datasets."),
    out: Path = typer.Option(..., "--out", "-o", help="The file to write; for brat and datasets a folder."),
    pipeline: str = typer.Option("", help="Export what this pipeline predicts on the texts, in place of their annotation."),
    reading: Any = None,
    lang: LangOption = "en",
) -> None:
    """Write labelled documents, or a pipeline's predictions on them, for the tool that people label in.

    \b
    Example: mtl export-data new.jsonl --pipeline en_mtl_maintenance --to label-studio --out to_correct.json
    """
    from mtl.data.export import check_export, export_docs
    from mtl.data.labelled import left_out, read_labelled

    check_export(out, to)
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
