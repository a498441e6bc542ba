"""Training: `steps`, `augment`, `train`, `compare`."""

from pathlib import Path
from typing import List

import typer

from mtl.cli.common import app, read_reference, read_setting, read_share, write_json
from mtl.errors import UserError


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def steps(
    context: typer.Context,
    config: Path = typer.Argument(..., help="A training config; settings can be overridden as in `spacy train`."),
) -> None:
    """Count the steps of an epoch, to choose max_steps by: the learning-rate schedule must know the length of the run.

    \b
    Example: mtl steps configs/sample.cfg --paths.train corpus/spacy/train.spacy
    """
    from mtl.training.steps import count_steps

    found = count_steps(config, context.args)
    read = f"{found['words']:,} words, {found['encoded']:,} as the encoder reads them"
    typer.echo(f"{found['steps']:,} steps an epoch: {found['examples']:,} examples, {read}")


@app.command()
def augment(
    config: Path = typer.Argument(..., help="A training config with an augmenter, [corpora.train.augmenter]."),
    pairs: int = typer.Option(10, min=1, help="How many documents to show, before and after."),
    override: List[str] = typer.Option([], "--set", help="A setting of the config, as in training.max_steps=200 (repeatable)."),
) -> None:
    """Show what the config's augmenter makes of training documents; what has changed stands in «».

    \b
    Example: mtl augment configs/sample.cfg --set paths.train=corpus/spacy/train.spacy
    """
    from mtl.augment.preview import pair_lines, preview

    shown = 0
    for before, after in preview(config, dict(map(read_setting, override)), pairs):
        shown += 1
        typer.echo("\n".join(f"{f'{shown:>3}' if i == 0 else '   '}  {line}" for i, line in enumerate(pair_lines(before, after))))
    if not shown:
        typer.echo("the augmenter changed none of the documents")


@app.command()
def train(
    config: Path = typer.Argument(..., help="A training config, as for `spacy train`."),
    output: Path = typer.Option(..., "--output", "-o", help="The folder for model-best, model-last and checkpoints."),
    override: List[str] = typer.Option([], "--set", help="A setting of the config, as in training.max_steps=200 (repeatable)."),
    resume: bool = typer.Option(True, help="Go on from the checkpoint that an unfinished run under the same config left."),
    checkpoint_minutes: float = typer.Option(10.0, help="Minutes between checkpoints. 0: only after Ctrl-C."),
    reference: List[str] = typer.Option(
        [], help="A score of a model for one task alone, as in ents_f=0.83: best is the highest mean of scores over these."
    ),
    best_per_score: bool = typer.Option(False, help="Also keep the best model of each score, as model-best-SCORE."),
) -> None:
    """Train by a spaCy config, as `spacy train` does; and go on after a crash, or Ctrl-C, exactly where the run was.

    \b
    Example: mtl train configs/sample.cfg --output training/pipeline
    Example: torchrun --nproc_per_node 4 -m mtl train configs/sample.cfg --output training/pipeline
    """
    from spacy.util import load_config
    from thinc.api import ConfigValidationError

    from mtl import ranks
    from mtl.training.run import train_config

    if not config.is_file():
        raise UserError(f"{config}: no such file; a training config is needed")
    changes = dict(map(read_setting, override))
    references = dict(map(read_reference, reference))
    try:
        loaded = load_config(config, overrides=changes, interpolate=False)
        ranks.start()
        _, interrupted = train_config(
            loaded, output, resume=resume, checkpoint_minutes=checkpoint_minutes, references=references,
            best_per_score=best_per_score,
        )  # fmt: skip
    except ConfigValidationError as error:
        raise UserError(f"{config}: {' '.join(str(error).split())}") from None
    if interrupted:
        raise KeyboardInterrupt
    if ranks.number() == 0:
        typer.echo(f"{output / 'model-last'}")
    ranks.stop()


@app.command()
def compare(
    config: Path = typer.Argument(..., help="A training config."),
    data: List[Path] = typer.Argument(..., help="Converted files or folders to score on; they are kept out of the text."),
    out: Path = typer.Option(..., "--out", "-o", help="The folder for results; the same command goes on from what is there."),
    adaptation: bool = typer.Option(False, "--adaptation", help="Compare the encoder as it is with the same, adapted."),
    sharing: bool = typer.Option(False, "--sharing", help="Compare every head trained alone with all trained together."),
    augmentation: bool = typer.Option(False, "--augmentation", help="Compare training with the config's augmenter and without."),
    distill: bool = typer.Option(False, help="--sharing: also together, each head taught by the one alone."),
    encoder: str = typer.Option("", help="--adaptation: the encoder to begin with; else what the config names."),
    text: List[str] = typer.Option([], help="Domain text, as for `mtl adapt` (repeatable)."),
    general: List[str] = typer.Option([], help="General text to measure forgetting on (repeatable)."),
    tokens: float = typer.Option(2e6, help="Wordpieces of training for each continuation, as in 2e6."),
    precision: str = typer.Option("auto", help="Of continued pretraining: auto, fp32 or bf16."),
    seeds: int = typer.Option(3, help="Trainings of each kind."),
    labels: str = typer.Option("", help="Shares of the labelled documents to train on. --sharing: 1; else 0.1,1."),
    override: List[str] = typer.Option([], "--set", help="A setting of the config, as in training.max_steps=200 (repeatable)."),
    plot: bool = typer.Option(True, help="Draw the differences (needs matplotlib)."),
) -> None:
    """Measure what a choice gives, with the same settings, seeds and labelled documents: adaptation, sharing, or augmentation.

    \b
    Example: mtl compare configs/sample.cfg corpus/spacy/dev.spacy --adaptation --text corpus/domain.txt --out compared
    Example: mtl compare configs/sample.cfg corpus/spacy/dev.spacy --sharing --out compared
    """
    from mtl.compare import report
    from mtl.compare.adaptation import compare_adaptation, make_arms
    from mtl.compare.augmentation import AUGMENTED, PLAIN, compare_augmentation
    from mtl.compare.runs import CompareSettings, Runs
    from mtl.compare.sharing import compare_sharing, statistics_of

    if adaptation + sharing + augmentation != 1:
        raise UserError("say what to compare: --adaptation, --sharing or --augmentation")
    if distill and not sharing:
        raise UserError("--distill is a part of --sharing")
    if plot:
        report.check_plotting()
    shares = [read_share(part) for part in (labels or ("1" if sharing else "0.1,1")).split(",")]
    settings = CompareSettings(seeds, shares)
    settings.check()
    runs = Runs(config, data, out, dict(map(read_setting, override)))
    if adaptation:
        arms = make_arms(runs, encoder, text, general, tokens, precision, typer.echo)
        result = compare_adaptation(runs, arms, settings, typer.echo)
        shown = f"{report.changes_table(result)}\n\n{report.changes_words(result)}"
        title = "Difference to the encoder as it is"
    elif augmentation:
        result = compare_augmentation(runs, settings, typer.echo)
        shown = f"{report.changes_table(result, PLAIN, AUGMENTED)}\n\n{report.changes_words(result)}"
        title = "With augmentation, against without"
    else:
        result = compare_sharing(runs, settings, typer.echo, distill)
        result["statistics"] = statistics_of(result)
        shown = f"{report.sharing_table(result, result['statistics'])}\n\n{report.sharing_words(result)}"
        title = "All heads together, against each alone"
    typer.echo(f"\n{shown}")
    write_json(out / "comparison.json", result)
    if plot:
        report.plot_differences(result, out / "comparison.png", title)
    typer.echo(f"\n{out / 'comparison.json'}" + (f", {out / 'comparison.png'}" if plot else ""))
