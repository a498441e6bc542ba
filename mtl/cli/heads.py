"""Heads and students of a trained pipeline: `add-head`, `retrain-head`, `remove-head`, `distill`."""

from pathlib import Path
from typing import List

import typer

from mtl.cli.common import app, load_pipeline, parse_setting
from mtl.errors import UserError

Pipeline = typer.Argument(..., help="Folder or package of a pipeline.")
Train = typer.Option(..., "--train", help="Converted files or folders to train on (repeatable).")
Dev = typer.Option(..., "--dev", help="Converted files or folders to score on (repeatable).")
Out = typer.Option(..., "--out", "-o", help="Output folder of the pipeline.")
Epochs = typer.Option(5.0, help="Epochs over the training data.")
LearningRate = typer.Option(3e-4, help="Peak learning rate of an encoder; a head's is ten times as high.")
CompareUnfrozen = typer.Option(
    True, help="Also train the head with an unfrozen encoder, on a discarded copy, to see what freezing costs."
)
Seed = typer.Option(0, help="Random seed.")
Resume = typer.Option(True, help="Resume an unfinished run with the same settings.")


@app.command()
def add_head(
    pipeline: str = Pipeline,
    factory: str = typer.Argument(..., help="Factory of the head: mtl_textcat, mtl_ner, mtl_qa, ..."),
    name: str = typer.Option("", help="Component name. Default: the factory's name without mtl_."),
    train: List[Path] = Train,
    dev: List[Path] = Dev,
    out: Path = Out,
    settings: List[str] = typer.Option([], "--set", help="Setting of the head: exclusive=false (repeatable)."),
    epochs: float = Epochs,
    learning_rate: float = LearningRate,
    compare_unfrozen: bool = CompareUnfrozen,
    seed: int = Seed,
    resume: bool = Resume,
) -> None:
    """Add a head to a trained pipeline, and train it.

    \b
    The encoder and the other heads stay frozen, so their outputs do not change.
    Example: mtl add-head en_mtl_maintenance mtl_textcat --name severity --train a.spacy --dev b.spacy --out with_severity
    """
    from mtl.registry import task_types
    from mtl.training.single_head import HeadTraining, train_head

    name = name or factory.removeprefix("mtl_")
    nlp = load_pipeline(pipeline)
    if name in nlp.pipe_names:
        raise UserError(f"the pipeline already has a component {name!r}; choose another --name, or use mtl retrain-head")
    if not nlp.has_factory(factory):
        known = ", ".join(task.factory for task in task_types())
        raise UserError(f"there is no factory {factory!r}; the factories of heads are {known}")
    head = {"factory": factory, **dict(parse_setting(setting, "exclusive=false", dotted=False) for setting in settings)}
    training = HeadTraining(train, dev, epochs, learning_rate, compare_unfrozen, seed)
    train_head(pipeline, name, head, training, out, typer.echo, resume=resume)
    typer.echo(f"\n{out}")


@app.command()
def retrain_head(
    pipeline: str = Pipeline,
    name: str = typer.Argument(..., help="Name of the head in the pipeline."),
    train: List[Path] = Train,
    dev: List[Path] = Dev,
    out: Path = Out,
    epochs: float = Epochs,
    learning_rate: float = LearningRate,
    compare_unfrozen: bool = CompareUnfrozen,
    seed: int = Seed,
    resume: bool = Resume,
    force: bool = typer.Option(False, "--force", help="Write the pipeline even if the new head is worse than the old one."),
) -> None:
    """Retrain one head of a trained pipeline from scratch.

    \b
    The head keeps its settings. The encoder and the other heads stay frozen, so their outputs do not change.
    If its score is lower than that of the old head, nothing is written without --force.
    Example: mtl retrain-head en_mtl_maintenance ner --train a.spacy --dev b.spacy --out with_new_ner
    """
    from mtl.training.single_head import HeadTraining, head_settings, train_head

    head = head_settings(load_pipeline(pipeline), name)
    training = HeadTraining(train, dev, epochs, learning_rate, compare_unfrozen, seed)
    train_head(pipeline, name, head, training, out, typer.echo, resume=resume, force=force)
    typer.echo(f"\n{out}")


@app.command()
def remove_head(
    pipeline: str = Pipeline,
    name: str = typer.Argument(..., help="Name of the head in the pipeline."),
    out: Path = Out,
) -> None:
    """Remove a head from a trained pipeline.

    \b
    Example: mtl remove-head en_mtl_maintenance qa --out without_questions
    """
    from mtl.training import single_head

    single_head.remove_head(load_pipeline(pipeline), name, out)
    typer.echo(f"{out}")


@app.command()
def distill(
    pipeline: str = Pipeline,
    text: List[str] = typer.Option([], help="Unlabelled domain text, as for `mtl adapt` (repeatable)."),
    labelled: List[Path] = typer.Option(
        [], help="Converted files whose texts and questions the teacher annotates as well (repeatable)."
    ),
    dev: List[Path] = Dev,
    out: Path = typer.Option(..., "--out", "-o", help="Output folder of the students."),
    layers: str = typer.Option("4,3,2", help="Numbers of encoder layers, one for each student."),
    width: float = typer.Option(1.0, help="Fraction of the feed-forward neurons that a student keeps."),
    epochs: float = typer.Option(3.0, help="Epochs over the text."),
    learning_rate: float = typer.Option(3e-4, help="Peak learning rate of an encoder; that of the heads is three times as high."),
    seed: int = Seed,
) -> None:
    """Distill a trained pipeline into smaller students.

    \b
    The speed and scores of all students are shown beside the teacher's.
    Example: mtl distill en_mtl_maintenance --text domain.txt --labelled train.spacy --dev dev.spacy --out students
    Example: mtl distill ... --layers 6,3 --width 0.5
    """
    from mtl.adaptation.text import stream_documents, text_files
    from mtl.training.distill import DistillSettings, distill_table
    from mtl.training.distill import distill as make_students

    load_pipeline(pipeline)  # so that a wrong name is a short message
    try:
        layer_counts = [int(part) for part in layers.split(",")]
    except ValueError:
        raise UserError(f"--layers {layers!r}: give whole numbers, as in 4,3,2") from None
    texts = stream_documents(text_files(text)) if text else iter(())
    settings = DistillSettings(layer_counts, width, epochs, learning_rate, seed)
    report = make_students(pipeline, texts, labelled, dev, out, settings, typer.echo)
    typer.echo(f"\n{distill_table(report)}\n\n{out}")
