"""Heads and students of a finished pipeline: `add-head`, `retrain-head`, `remove-head`, `distill`."""

from pathlib import Path
from typing import List

import typer

from mtl.cli.common import app, load, read_setting
from mtl.errors import UserError

HeadTrain = typer.Option(..., "--train", help="Converted files or folders to learn from (repeatable).")
HeadDev = typer.Option(..., "--dev", help="Converted files or folders to score on (repeatable).")
HeadOut = typer.Option(..., "--out", "-o", help="The folder to write the pipeline to.")
HeadPasses = typer.Option(5.0, help="Passes over the training data.")
HeadRate = typer.Option(3e-4, help="Peak learning rate; the head's is ten times that.")
HeadCost = typer.Option(True, help="Train the head once more with the encoder free, to see what the frozen one costs.")
HeadPipeline = typer.Argument(..., help="A pipeline's folder or package.")


@app.command()
def add_head(
    pipeline: str = HeadPipeline,
    factory: str = typer.Argument(..., help="mtl_textcat, mtl_ner, mtl_qa, ..."),
    name: str = typer.Option("", help="The component's name; else the factory's without mtl_."),
    train: List[Path] = HeadTrain,
    dev: List[Path] = HeadDev,
    out: Path = HeadOut,
    settings: List[str] = typer.Option([], "--set", help="A setting of the head, as in exclusive=false (repeatable)."),
    passes: float = HeadPasses,
    learn_rate: float = HeadRate,
    cost: bool = HeadCost,
    seed: int = typer.Option(0),
) -> None:
    """Add a head to a finished pipeline. Its encoder and the other heads stay as they are, and so do their outputs.

    \b
    Example: mtl add-head en_mtl_maintenance mtl_textcat --name severity --train a.spacy --dev b.spacy --out with_severity
    """
    from mtl.training.one_head import summary, train_head

    name = name or factory.removeprefix("mtl_")
    nlp = load(pipeline)
    if name in nlp.pipe_names:
        raise UserError(f"the pipeline has a component {name!r} already; give another --name, or use mtl retrain-head")
    if not nlp.has_factory(factory):
        raise UserError(f"there is no factory {factory!r}; ours are mtl_textcat, mtl_ner, mtl_qa, mtl_regressor and mtl_tagger")
    head = {"factory": factory, **dict(read_setting(one, "exclusive=false", dotted=False) for one in settings)}
    report = train_head(pipeline, name, head, {"train": train, "dev": dev}, out, passes, learn_rate, cost, typer.echo, seed)
    typer.echo(f"\n{summary(report)}\n\n{out}")


@app.command()
def retrain_head(
    pipeline: str = HeadPipeline,
    name: str = typer.Argument(..., help="The head's name in the pipeline."),
    train: List[Path] = HeadTrain,
    dev: List[Path] = HeadDev,
    out: Path = HeadOut,
    passes: float = HeadPasses,
    learn_rate: float = HeadRate,
    cost: bool = HeadCost,
    seed: int = typer.Option(0),
) -> None:
    """Train one head of a finished pipeline anew, with the settings it has, and leave the rest as it is.

    \b
    Example: mtl retrain-head en_mtl_maintenance ner --train a.spacy --dev b.spacy --out with_new_ner
    """
    from mtl.training.one_head import head_settings, summary, train_head

    head = head_settings(load(pipeline), name)
    report = train_head(pipeline, name, head, {"train": train, "dev": dev}, out, passes, learn_rate, cost, typer.echo, seed)
    typer.echo(f"\n{summary(report)}\n\n{out}")


@app.command()
def remove_head(
    pipeline: str = HeadPipeline,
    name: str = typer.Argument(..., help="The head's name in the pipeline."),
    out: Path = HeadOut,
) -> None:
    """Write a finished pipeline without one of its heads.

    \b
    Example: mtl remove-head en_mtl_maintenance qa --out without_questions
    """
    from mtl.training import one_head

    one_head.remove_head(load(pipeline), name, out)
    typer.echo(f"{out}")


@app.command()
def distill(
    pipeline: str = HeadPipeline,
    text: List[str] = typer.Option([], help="Unlabelled domain text, as for `mtl adapt` (repeatable)."),
    asked: List[Path] = typer.Option([], help="Converted files whose documents and questions it also learns on (repeatable)."),
    dev: List[Path] = HeadDev,
    out: Path = typer.Option(..., "--out", "-o", help="The folder to write the students to."),
    layers: str = typer.Option("4,3,2", help="Layers of the students' encoders, at most the teacher's."),
    width: float = typer.Option(1.0, help="The share of the neurons of feed-forward layers that a student keeps."),
    passes: float = typer.Option(3.0, help="Passes over the text."),
    learn_rate: float = typer.Option(3e-4, help="Peak learning rate; the heads' is three times that."),
    seed: int = typer.Option(0),
) -> None:
    """Make smaller students of a finished pipeline, and show their speed against their scores.

    \b
    Example: mtl distill en_mtl_maintenance --text domain.txt --asked train.spacy --dev dev.spacy --out students
    Example: mtl distill ... --layers 6,3 --width 0.5
    """
    from mtl.adapt.text import stream_documents, text_files
    from mtl.training.distill import distill as make_students
    from mtl.training.distill import distill_table

    load(pipeline)  # a wrong name is told in a line
    try:
        counts = [int(part) for part in layers.split(",")]
    except ValueError:
        raise UserError(f"--layers {layers!r}: give whole numbers, as in 4,3,2") from None
    texts = stream_documents(text_files(text)) if text else iter(())
    report = make_students(pipeline, texts, asked, dev, counts, out, passes, learn_rate, typer.echo, seed, width)
    typer.echo(f"\n{distill_table(report)}\n\n{out}")
