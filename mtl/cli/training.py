"""Training: `steps`, `train`, `evaluate`."""

from pathlib import Path
from typing import List, Optional

import typer

from mtl.cli.common import app, load_pipeline, parse_reference, parse_setting, write_report
from mtl.errors import UserError
from mtl.files import check_target

Override = typer.Option([], "--set", help="Override a config setting: training.max_steps=200 (repeatable).")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def steps(
    context: typer.Context,
    config: Path = typer.Argument(..., help="Training config. Override its settings as in `spacy train`."),
    minutes: bool = typer.Option(False, "--minutes", help="Also train for a few steps, to say how long a run takes here."),
) -> None:
    """Count the steps in an epoch, and what each task learns from.

    \b
    Use it to choose training.max_steps and [corpora.train.sampling].
    Example: mtl steps configs/sample.cfg --minutes --paths.train corpus/spacy/train.spacy
    """
    from mtl.training.steps import count_steps, step_seconds, steps_lines

    counts = count_steps(config, context.args)
    for line in steps_lines(counts):
        typer.echo(line)
    if minutes:
        seconds, run = step_seconds(config, context.args)
        whole = f"; {run:,} steps (training.max_steps) {seconds * run / 60:,.0f} minutes" if run else ""
        typer.echo(f"{seconds:.1f} s a step here: an epoch takes {seconds * counts['steps'] / 60:,.1f} minutes{whole}, "
                   f"evaluations aside")  # fmt: skip


@app.command()
def train(
    config: Path = typer.Argument(..., help="Training config, as for `spacy train`."),
    output: Path = typer.Option(..., "--output", "-o", help="Output folder for model-best, model-last and checkpoints."),
    override: List[str] = Override,
    resume: bool = typer.Option(True, help="Resume from the checkpoint of an unfinished run with the same config."),
    checkpoint_minutes: float = typer.Option(10.0, help="Minutes between checkpoints. 0: only after Ctrl-C."),
    reference: List[str] = typer.Option(
        [], help="Score of a single-task model, such as ents_f=0.83 (repeatable). The best model is then the one with the "
        "highest mean of score / reference."
    ),
    best_per_score: bool = typer.Option(False, help="Also keep the best model by each score, as model-best-SCORE."),
    keep_evaluations: int = typer.Option(0, help="Also keep the models of the last evaluations, to average them: `mtl average`."),
) -> None:  # fmt: skip
    """Train a pipeline; resume after a crash or Ctrl-C.

    \b
    Takes the same configs as `spacy train`. A resumed run gives the same result as one without a break.
    For several processes, start it with torchrun.
    Example: mtl train configs/sample.cfg --output training/pipeline
    Example: torchrun --nproc_per_node 4 -m mtl train configs/sample.cfg --output training/pipeline
    """
    from spacy.util import load_config
    from thinc.api import ConfigValidationError

    from mtl import distributed
    from mtl.training.run import train_config

    if not config.is_file():
        raise UserError(f"{config}: no such file; give a training config")
    overrides = dict(map(parse_setting, override))
    references = dict(map(parse_reference, reference))
    try:
        loaded = load_config(config, overrides=overrides, interpolate=False)
        distributed.init()
        _, interrupted = train_config(
            loaded, output, resume=resume, checkpoint_minutes=checkpoint_minutes, references=references,
            best_per_score=best_per_score, keep_evaluations=keep_evaluations,
        )  # fmt: skip
    except ConfigValidationError as error:
        raise UserError(f"{config}: {' '.join(str(error).split())}") from None
    if interrupted:
        raise KeyboardInterrupt
    if distributed.rank() == 0:
        typer.echo(f"{output / 'model-last'}\nNext: mtl evaluate {output / 'model-best'} TEST.spacy --train TRAIN.spacy")
        if keep_evaluations:
            typer.echo(f"mtl average {output / 'evaluations'}/* --dev DEV.spacy --out {output / 'averaged'}")
    distributed.shutdown()


@app.command()
def evaluate(
    pipeline: str = typer.Argument(..., help="Folder or package of a pipeline."),
    data: List[Path] = typer.Argument(..., help="Converted files or folders to score on."),
    train: List[Path] = typer.Option([], help="Training data, for trivial baselines (repeatable)."),
    out: Optional[Path] = typer.Option(None, "--out", "-o", help="Also write the scores as JSON."),
) -> None:
    """Score every head of a pipeline, beside trivial baselines.

    \b
    Example: mtl evaluate training/pipeline/model-best corpus/spacy/test.spacy --train corpus/spacy/train.spacy
    """
    from mtl.training.evaluation import evaluate_pipeline, score_table

    if out is not None:
        check_target(out)
    result = evaluate_pipeline(load_pipeline(pipeline), data, train)
    typer.echo(score_table(result))
    if out is not None:
        write_report(out, result)
