"""Heads, students and averages of trained pipelines: `add-head`, `retrain-head`, `remove-head`, `distill`, `average`."""

from pathlib import Path
from typing import Any, List

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
    teachers: List[str] = typer.Argument(..., help="Folder or package of a finished pipeline. Several with --student."),
    student: str = typer.Option(
        "",
        help="Encoder of the student: a Hugging Face folder or a name on the hub. Without it, students are the teacher with "
        "fewer layers.",
    ),
    text: List[str] = typer.Option([], help="Unlabelled domain text, as for `mtl adapt` (repeatable)."),
    labelled: List[Path] = typer.Option(
        [], help="Converted files whose texts and questions the teacher annotates as well (repeatable)."
    ),
    dev: List[Path] = Dev,
    out: Path = typer.Option(..., "--out", "-o", help="Output folder of the students."),
    layers: str = typer.Option("", help="Without --student: numbers of encoder layers, one for each student. Default: 4,3,2."),
    width: float = typer.Option(1.0, help="Without --student: fraction of the feed-forward neurons that a student keeps."),
    epochs: float = typer.Option(3.0, help="Epochs over the text."),
    learning_rate: float = typer.Option(3e-4, help="Peak learning rate of an encoder; a head's is several times as high."),
    temperature: float = typer.Option(1.0, help="--student: what the logits of teachers and student are divided by."),
    gold_share: float = typer.Option(1.0, help="--student: share of the gold labels in the loss at the end; it starts at 0."),
    rounds: int = typer.Option(1, help="--student: teach so often, each student the next one; the best is kept."),
    auxiliary: List[str] = typer.Option([], help="--student: what its encoder learns as well: relations (repeatable)."),
    min_confidence: float = typer.Option(0.0, help="--student: leave out texts of which the teachers are less sure of anything."),
    min_precision: float = typer.Option(
        0.0,
        help="--student: the same by head, found on --dev: of the documents they are that sure of, this fraction is right.",
    ),
    seed: int = Seed,
    resume: bool = Resume,
) -> None:
    """Distill finished pipelines into a student with another encoder, or one into smaller versions of itself.

    With --student, a pipeline with every head of the teachers is trained on that encoder: on plain text it learns the teachers'
    probabilities, on labelled documents first theirs, then the gold labels. Several teachers of a head are averaged. The speed
    and scores of all students are shown beside the teachers'.

    \b
    Example: mtl distill large --student small-encoder --text domain.txt --labelled train.spacy --dev dev.spacy --out small
    Example: mtl distill en_mtl_maintenance --layers 6,3 --width 0.5 --text domain.txt --dev dev.spacy --out students
    """
    _distill(**locals())


def _distill(
    teachers: List[str], student: str, text: List[str], labelled: List[Path], dev: List[Path], out: Path, layers: str,
    width: float, epochs: float, learning_rate: float, seed: int, resume: bool, auxiliary: List[str], **options: Any,
) -> None:  # fmt: skip
    """The command `distill`. All options that are not named here are settings of a student with another encoder."""
    from mtl.adaptation.text import stream_documents, text_files
    from mtl.training.distill import DistillSettings
    from mtl.training.distill import distill as make_students
    from mtl.training.measure import distill_table
    from mtl.training.student import STUDENT, StudentSettings, teach_student

    if student and (layers or width < 1):
        raise UserError("--student has its own layers: leave out --layers and --width")
    if not student and len(teachers) > 1:
        raise UserError("several teachers need a --student: the encoder that is to learn from all of them")
    for teacher in teachers:
        load_pipeline(teacher)  # so that a wrong name is a short message
    try:
        layer_counts = [int(part) for part in (layers or "4,3,2").split(",")]
    except ValueError:
        raise UserError(f"--layers {layers!r}: give whole numbers, as in 4,3,2") from None
    texts = stream_documents(text_files(text)) if text else iter(())
    if student:
        how = StudentSettings(epochs=epochs, learning_rate=learning_rate, seed=seed, auxiliary=tuple(auxiliary), **options)
        report = teach_student(teachers, student, texts, labelled, dev, out, how, typer.echo, resume=resume)
    else:
        settings = DistillSettings(layer_counts, width, epochs, learning_rate, seed)
        report = make_students(teachers[0], texts, labelled, dev, out, settings, typer.echo)
    typer.echo(f"\n{distill_table(report)}\n\n{out / STUDENT if student else out}")


@app.command()
def average(
    pipelines: List[str] = typer.Argument(..., help="Folders or packages of pipelines that were trained from the same encoder."),
    dev: List[Path] = Dev,
    out: Path = Out,
) -> None:
    """Average the weights of pipelines that were trained alike, as far as that helps.

    \b
    They may be runs with different seeds, or model-best and model-last of one run. The average is as fast as one of them.
    Example: mtl average seed0/model-best seed1/model-best seed2/model-best --dev dev.spacy --out averaged
    """
    from mtl.training.average import average_pipelines

    for pipeline in pipelines:
        load_pipeline(pipeline)  # so that a wrong name is a short message
    report = average_pipelines(pipelines, dev, out, typer.echo)
    typer.echo(f"\n{out}: the mean of {', '.join(report['averaged'])}")
