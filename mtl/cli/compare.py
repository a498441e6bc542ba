"""Comparisons of ways to train: `compare`."""

from pathlib import Path
from typing import Any, Dict, List, Tuple

import typer

from mtl.cli.common import app, parse_fractions, parse_setting, write_report
from mtl.errors import UserError
from mtl.progress import Echo


@app.command()
def compare(
    config: Path = typer.Argument(..., help="Training config."),
    data: List[Path] = typer.Argument(..., help="Converted files or folders to score on. Their text is kept out of pretraining."),
    out: Path = typer.Option(..., "--out", "-o", help="Output folder. Repeat the command to resume a stopped comparison."),
    adaptation: bool = typer.Option(False, "--adaptation", help="Compare the original encoder with adapted ones."),
    sharing: bool = typer.Option(False, "--sharing", help="Compare each head trained alone with all heads trained together."),
    augmentation: bool = typer.Option(False, "--augmentation", help="Compare training with and without the config's augmenter."),
    distill: bool = typer.Option(False, help="--sharing: also train all heads together with the single-task models as teachers."),
    encoder: str = typer.Option("", help="--adaptation: the encoder to start from. Default: the config's."),
    text: List[str] = typer.Option([], help="--adaptation: domain text, as for `mtl adapt` (repeatable)."),
    general: List[str] = typer.Option([], help="--adaptation: general text to measure forgetting on (repeatable)."),
    max_tokens: float = typer.Option(2e6, help="--adaptation: subwords to train on in each continued pretraining, as in 2e6."),
    max_minutes: float = typer.Option(0.0, help="--adaptation: instead, minutes of continued pretraining for each arm."),
    arms: str = typer.Option("", help="--adaptation: of task, domain, both, near, causal, beside, taught. Default: the first 3."),
    teacher: str = typer.Option("", help="--adaptation, arm taught: the encoder of the teachers. Default: that of the heads."),
    stop_early: bool = typer.Option(False, help="--adaptation: no more seeds of what a 99.9% interval shows as better or worse."),
    precision: str = typer.Option("auto", help="--adaptation: precision of continued pretraining: auto, fp32 or bf16."),
    seeds: int = typer.Option(3, help="Number of seeds, which is the number of runs of each kind."),
    label_fractions: str = typer.Option(
        "", help="Fractions of the labelled documents to train on. Default: 1 with --sharing, otherwise 0.1,1."
    ),
    override: List[str] = typer.Option([], "--set", help="Override a config setting: training.max_steps=200 (repeatable)."),
    plot: bool = typer.Option(True, help="Plot the differences (requires matplotlib)."),
) -> None:
    """Measure what adaptation, sharing or augmentation gains.

    \b
    Runs that are compared have the same settings, seeds and labelled documents. Differences come with 95% intervals.
    Example: mtl compare configs/sample.cfg corpus/spacy/dev.spacy --adaptation --text corpus/domain.txt --out compared
    Example: mtl compare configs/sample.cfg corpus/spacy/dev.spacy --sharing --out compared
    """
    _compare(**locals())


def _compare(
    config: Path, data: List[Path], out: Path, adaptation: bool, sharing: bool, augmentation: bool, distill: bool, seeds: int,
    label_fractions: str, override: List[str], plot: bool, arms: str, stop_early: bool, **options: Any,
) -> None:  # fmt: skip
    """The command `compare`. All options that are not named here are those of --adaptation."""
    from mtl.compare.report import check_plotting, plot_differences
    from mtl.compare.runs import CompareSettings, Runs

    if adaptation + sharing + augmentation != 1:
        raise UserError("choose what to compare: --adaptation, --sharing or --augmentation")
    if distill and not sharing:
        raise UserError("--distill requires --sharing")
    if (arms or stop_early) and not adaptation:
        raise UserError("--arms and --stop-early require --adaptation")
    if plot:
        check_plotting()
    fractions = parse_fractions("--label-fractions", label_fractions or ("1" if sharing else "0.1,1"))
    settings = CompareSettings(seeds, fractions, stop_early)
    settings.check()
    runs = Runs(config, data, out, dict(map(parse_setting, override)))
    if adaptation:
        names = [name.strip() for name in arms.split(",") if name.strip()]
        result, tables, title = _adaptation(runs, settings, names, typer.echo, **options)
    elif augmentation:
        result, tables, title = _augmentation(runs, settings, typer.echo)
    else:
        result, tables, title = _sharing(runs, settings, distill, typer.echo)
    typer.echo(f"\n{tables}")
    write_report(out / "comparison.json", result)
    if plot:
        plot_differences(result, out / "comparison.png", title)
    typer.echo(f"\n{out / 'comparison.json'}" + (f", {out / 'comparison.png'}" if plot else ""))


# Each of these returns the result, what to print, and the title of the plot.


def _adaptation(
    runs: Any, settings: Any, names: List[str], echo: Echo, *, encoder: str, text: List[str], general: List[str],
    max_tokens: float, max_minutes: float, precision: str, teacher: str,
) -> Tuple[Dict[str, Any], str, str]:  # fmt: skip
    from mtl.adaptation.settings import AdaptSettings
    from mtl.compare.adaptation import compare_adaptation
    from mtl.compare.arms import make_arms
    from mtl.compare.report import difference_summary, difference_table

    budget = AdaptSettings(max_tokens=0 if max_minutes else max_tokens, max_minutes=max_minutes, precision=precision)
    budget.check()
    arms = make_arms(runs, encoder, text, general, budget, echo, names, teacher)
    result = compare_adaptation(runs, arms, settings, echo)
    return result, f"{difference_table(result)}\n\n{difference_summary(result)}", "Difference to the original encoder"


def _augmentation(runs: Any, settings: Any, echo: Echo) -> Tuple[Dict[str, Any], str, str]:
    from mtl.compare.augmentation import AUGMENTED, PLAIN, compare_augmentation
    from mtl.compare.report import difference_summary, difference_table

    result = compare_augmentation(runs, settings, echo)
    tables = f"{difference_table(result, PLAIN, AUGMENTED)}\n\n{difference_summary(result)}"
    return result, tables, "With augmentation, compared with training without it"


def _sharing(runs: Any, settings: Any, distill: bool, echo: Echo) -> Tuple[Dict[str, Any], str, str]:
    from mtl.compare.report import sharing_summary, sharing_table
    from mtl.compare.sharing import compare_sharing, mean_statistics

    result = compare_sharing(runs, settings, echo, distill)
    result["statistics"] = mean_statistics(result)
    tables = f"{sharing_table(result, result['statistics'])}\n\n{sharing_summary(result)}"
    return result, tables, "All heads together, compared with each head alone"
