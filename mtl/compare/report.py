"""Comparisons for a reader: tables, summaries, plots."""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from mtl.compare.differences import MEAN
from mtl.errors import UserError
from mtl.files import replacing
from mtl.training.evaluation import score_named

Row = Dict[str, Any]  # see `difference_rows`; with "arm" and "label_fraction"


def title_of(key: str) -> str:
    """The title of a score in tables, including the mean over the heads."""
    return "mean over the heads" if key == MEAN else score_named(key).title


def difference_table(result: Dict[str, Any], first: str = "base", second: str = "adapted") -> str:
    """A table of a comparison in which each arm is compared with the same base.

    Args:
        result (Dict[str, Any]): Of `compare_adaptation` or `compare_augmentation`.
        first (str): Key of the base's means in the rows.
        second (str): Key of the arm's means.

    Returns:
        str: Each score of each arm, and what the arms' encoders cost to train.
    """
    rows = result["differences"]
    width = 2 + max(len(title_of(row["score"])) for row in rows)
    lines: List[str] = []
    for fraction in _distinct(rows, "label_fraction"):
        title = f"{fraction:.0%} of the labels, {result['seeds']} seed(s)"
        lines.append(title.ljust(width) + f"{first:>8}  {second:>9}  difference, 95% interval")
        for arm, arm_rows in _by_arm(rows, fraction):
            lines.append(f" {arm}")
            for row in arm_rows:
                numbers = f"  {row[first]:6.1f}  {row[second]:9.1f}  {row['difference']:+6.1f}  {_interval(row)}"
                stopped = f" after {row['seeds']} seeds" if row.get("seeds", result["seeds"]) < result["seeds"] else ""
                lines.append(f"  {title_of(row['score'])}".ljust(width) + f"{numbers}  {row['verdict']}{stopped}")
        lines.append("")
    for arm, cost in result.get("arms", {}).items():
        lines += [f"{arm}: {_pretraining_cost(step)}" for step in cost.get("steps", ())]
    return "\n".join(lines).rstrip()


def _pretraining_cost(step: Dict[str, Any]) -> str:
    perplexities = "; ".join(
        f"perplexity, {text}: {before:.1f} before, {step['perplexity_after'][text]:.1f} after"
        for text, before in step["perplexity_before"].items()
    )
    return f"{step['tokens']:,} tokens ({step['epochs']:.1f} epochs), {step['seconds'] / 60:.1f} min; {perplexities}"


def difference_summary(result: Dict[str, Any]) -> str:
    """What the intervals allow to say about each arm: on the mean over the heads, and on heads where the verdict differs."""
    sentences = []
    for fraction in _distinct(result["differences"], "label_fraction"):
        for arm, arm_rows in _by_arm(result["differences"], fraction):
            rows = {row["score"]: row for row in arm_rows}
            mean = rows.pop(MEAN)
            others = [f"{title_of(key)}: {row['verdict']}" for key, row in rows.items() if row["verdict"] != mean["verdict"]]
            sentence = f"With {fraction:.0%} of the labels, {arm}: {mean['verdict']} {_points(mean)}"
            sentences.append(sentence + (f"; {', '.join(others)}" if others else "") + ".")
    return "\n".join(sentences)


def sharing_table(result: Dict[str, Any], statistics: Dict[str, float]) -> str:
    """A table of heads trained alone and together.

    Args:
        result (Dict[str, Any]): Of `compare_sharing`.
        statistics (Dict[str, float]): Means of the weighting's statistics in the joint runs.

    Returns:
        str: Each score, beside that of a baseline without an encoder; the sampling; how the tasks' gradients relate.
    """
    rows, baselines = result["differences"], result["baselines"]
    width = 2 + max(len(title_of(row["score"])) for row in rows)
    has_several_arms = len(_distinct(rows, "arm")) > 1
    lines: List[str] = []
    for fraction in _distinct(rows, "label_fraction"):
        title = f"{fraction:.0%} of the labels, {result['seeds']} seed(s)"
        lines.append(title.ljust(width) + "  no encoder   alone  together  difference, 95% interval")
        for arm, arm_rows in _by_arm(rows, fraction):
            lines += [f" {arm}"] if has_several_arms else []
            for row in arm_rows:
                has_baseline = row["score"] in baselines and fraction == 1
                baseline = f"{100 * baselines[row['score']]:.1f}" if has_baseline else ""
                numbers = f"  {baseline:>10}  {row['alone']:6.1f}  {row['together']:8.1f}  {row['difference']:+6.1f}"
                lines.append(title_of(row["score"]).ljust(width) + numbers + f"  {_interval(row)}  {_transfer(row)}")
        lines.append("")
    lines.append("sampling: " + ", ".join(f"{head} {fraction:.0%}" for head, fraction in result["sampling"].items()))
    cosines = _with_prefix(statistics, "cosine/")
    if cosines:
        pairs = ", ".join(f"{pair} {value:+.3f}" for pair, value in cosines.items())
        lines.append(f"cosines between the tasks' gradients at the encoder's parameters: {pairs}")
    norms = _with_prefix(statistics, "norm/")
    if norms:
        tasks = ", ".join(f"{task} {value:.2g}" for task, value in norms.items())
        lines.append(f"norms of the tasks' gradients at the encoder's output, before weighting: {tasks}")
    return "\n".join(lines)


def sharing_summary(result: Dict[str, Any]) -> str:
    """What the intervals allow to say about training all heads together."""
    sentences = []
    for fraction in _distinct(result["differences"], "label_fraction"):
        for arm, arm_rows in _by_arm(result["differences"], fraction):
            rows = {row["score"]: row for row in arm_rows}
            mean = rows.pop(MEAN)
            heads = [f"{title_of(key)}: {_transfer(row)} {_points(row)}" for key, row in rows.items()]
            sentences.append(
                f"With {fraction:.0%} of the labels, training {arm} against alone: {_transfer(mean)} on the mean over the heads "
                f"{_points(mean)}; {'; '.join(heads)}."
            )
    return "\n".join(sentences)


def _distinct(rows: List[Row], key: str) -> List[Any]:
    return list(dict.fromkeys(row[key] for row in rows))


def _by_arm(rows: List[Row], fraction: float) -> Iterator[Tuple[str, List[Row]]]:
    """Each arm with its rows at this fraction of the labels."""
    for arm in _distinct(rows, "arm"):
        if arm_rows := [row for row in rows if (row["arm"], row["label_fraction"]) == (arm, fraction)]:
            yield arm, arm_rows


def _with_prefix(statistics: Dict[str, float], prefix: str) -> Dict[str, float]:
    """The statistics whose key has the prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in statistics.items() if key.startswith(prefix)}


def _interval(row: Row) -> str:
    return "[one seed: none]" if row["low"] is None else f"[{row['low']:+5.1f}, {row['high']:+5.1f}]"


def _points(row: Row) -> str:
    return f"({row['difference']:+.1f} points {_interval(row)})"


def _transfer(row: Row) -> str:
    return "negative transfer" if row["verdict"] == "hurt" else row["verdict"]


def _distance_to(bound: str, row: Row) -> float:
    return 0.0 if row[bound] is None else abs(row["difference"] - row[bound])


def check_plotting() -> None:
    """Check that plots can be drawn.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError('the plot needs matplotlib: pip install "spacy-mtl[compare]", or use --no-plot') from None


def plot_differences(result: Dict[str, Any], path: Path, title: str) -> None:
    """Draw every score's difference with its interval: a panel for each fraction of the labels, a color for each arm.

    Args:
        result (Dict[str, Any]): Of a comparison.
        path (Path): The PNG file to write.
        title (str): Title of the plot.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = result["differences"]
    fractions, arms, scores = (_distinct(rows, key) for key in ("label_fraction", "arm", "score"))
    figure = Figure(figsize=(4 + 3.2 * len(fractions), 1.6 + 0.45 * len(scores) * len(arms) * 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(fractions), sharex=True, sharey=True, squeeze=False)[0]
    for panel, fraction in zip(panels, fractions):
        panel.axvline(0, color="0.6", linewidth=1)
        for number, (arm, arm_rows) in enumerate(_by_arm(rows, fraction)):
            heights = [scores.index(row["score"]) + (number - (len(arms) - 1) / 2) * 0.22 for row in arm_rows]
            means = [row["difference"] for row in arm_rows]
            errors = [[_distance_to(bound, row) for row in arm_rows] for bound in ("low", "high")]
            panel.errorbar(means, heights, xerr=errors, fmt="o", capsize=3, markersize=5, label=arm)
        panel.set_title(f"{fraction:.0%} of the labels", fontsize=10)
        panel.set_yticks(range(len(scores)), [title_of(key) for key in scores])
        panel.set_ylim(len(scores) - 0.5, -0.5)
        panel.set_xlabel("points, with 95% interval over seeds")
    figure.suptitle(title, fontsize=11)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(arms), frameon=False)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=150)
