"""A comparison as a person reads it: a table, a paragraph, a plot."""

from pathlib import Path
from typing import Any, Dict, List

from mtl.compare.differences import MEAN
from mtl.errors import UserError
from mtl.files import replacing
from mtl.training.evaluation import SCORES

NAMES = {**SCORES, MEAN: "mean over the heads"}


def changes_table(result: Dict[str, Any], first: str = "base", second: str = "adapted") -> str:
    """Each score of each arm, a row's `second`, beside the `first` that it is compared with; and what an encoder cost to make."""
    rows = result["differences"]
    width = 2 + max(len(NAMES[row["score"]]) for row in rows)
    lines: List[str] = []
    for share in dict.fromkeys(row["labels"] for row in rows):
        lines.append(
            f"{share:.0%} of the labels, {result['seeds']} seed(s)".ljust(width)
            + f"{first:>8}  {second:>9}  difference, 95% interval"
        )
        for arm in dict.fromkeys(row["arm"] for row in rows):
            lines.append(f" {arm}")
            for row in rows:
                if (row["arm"], row["labels"]) == (arm, share):
                    numbers = f"  {row[first]:6.1f}  {row[second]:9.1f}  {row['difference']:+6.1f}  {_interval(row)}"
                    lines.append(f"  {NAMES[row['score']]}".ljust(width) + f"{numbers}  {row['verdict']}")
        lines.append("")
    for arm, cost in result.get("arms", {}).items():
        for step in cost.get("steps", ()):
            moved = "; ".join(
                f"perplexity, {where}: {before:.1f} before, {step['perplexity_after'][where]:.1f} after"
                for where, before in step["perplexity_before"].items()
            )
            lines.append(
                f"{arm}: {step['tokens']:,} tokens ({step['passes']:.1f} passes), {step['seconds'] / 60:.1f} min; {moved}"
            )
    return "\n".join(lines).rstrip()


def _interval(row: Dict[str, Any]) -> str:
    return "[one seed: none]" if row["low"] is None else f"[{row['low']:+5.1f}, {row['high']:+5.1f}]"


def changes_words(result: Dict[str, Any]) -> str:
    """What may be said of it, and no more: of the mean over the heads, and of the heads that differ from it."""
    said = []
    for share in dict.fromkeys(row["labels"] for row in result["differences"]):
        for arm in dict.fromkeys(row["arm"] for row in result["differences"]):
            rows = {row["score"]: row for row in result["differences"] if (row["arm"], row["labels"]) == (arm, share)}
            mean = rows.pop(MEAN)
            others = [f"{NAMES[key]}: {row['verdict']}" for key, row in rows.items() if row["verdict"] != mean["verdict"]]
            line = f"With {share:.0%} of the labels, {arm}: {mean['verdict']} {_points(mean)}"
            said.append(line + (f"; {', '.join(others)}" if others else "") + ".")
    return "\n".join(said)


def sharing_table(result: Dict[str, Any], statistics: Dict[str, float]) -> str:
    """Each score of the heads alone and together, beside what needs no encoder; then how the tasks lie to each other."""
    rows, known = result["differences"], result["baselines"]
    width = 2 + max(len(NAMES[row["score"]]) for row in rows)
    lines: List[str] = []
    for share in dict.fromkeys(row["labels"] for row in rows):
        title = f"{share:.0%} of the labels, {result['seeds']} seed(s)"
        lines.append(title.ljust(width) + "  no encoder   alone  together  difference, 95% interval")
        for arm in dict.fromkeys(row["arm"] for row in rows):
            lines += [f" {arm}"] if len({row["arm"] for row in rows}) > 1 else []
            for row in rows:
                if (row["labels"], row["arm"]) == (share, arm):
                    simple = f"{100 * known[row['score']]:.1f}" if row["score"] in known and share == 1 else ""
                    means = f"  {simple:>10}  {row['alone']:6.1f}  {row['together']:8.1f}  {row['difference']:+6.1f}"
                    lines.append(NAMES[row["score"]].ljust(width) + means + f"  {_interval(row)}  {_transfer(row)}")
        lines.append("")
    lines.append("mixture: " + ", ".join(f"{head} {share:.0%}" for head, share in result["mixture"].items()))
    cosines = {key[len("cosine/") :]: value for key, value in statistics.items() if key.startswith("cosine/")}
    if cosines:
        lines.append(
            "cosine of the tasks' gradients on the encoder's parameters: "
            + ", ".join(f"{pair} {value:+.3f}" for pair, value in cosines.items())
        )
    norms = {key[len("norm/") :]: value for key, value in statistics.items() if key.startswith("norm/")}
    if norms:
        lines.append(
            "their norms at its output, before weighting: " + ", ".join(f"{task} {value:.2g}" for task, value in norms.items())
        )
    return "\n".join(lines)


def _points(row: Dict[str, Any]) -> str:
    return f"({row['difference']:+.1f} points {_interval(row)})"


def _transfer(row: Dict[str, Any]) -> str:
    return "negative transfer" if row["verdict"] == "hurt" else row["verdict"]


def sharing_words(result: Dict[str, Any]) -> str:
    """What may be said of sharing, and no more."""
    said = []
    for share, arm in dict.fromkeys((row["labels"], row["arm"]) for row in result["differences"]):
        rows = {row["score"]: row for row in result["differences"] if (row["labels"], row["arm"]) == (share, arm)}
        mean = rows.pop(MEAN)
        line = f"With {share:.0%} of the labels, training {arm} against alone: {_transfer(mean)} on the mean over the heads"
        parts = [f"{NAMES[key]}: {_transfer(row)} {_points(row)}" for key, row in rows.items()]
        said.append(f"{line} {_points(mean)}; {'; '.join(parts)}.")
    return "\n".join(said)


def check_plotting() -> None:
    """RAISES (UserError): matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError('the plot needs matplotlib: pip install "spacy-mtl[compare]", or give --no-plot') from None


def plot_differences(result: Dict[str, Any], path: Path, title: str) -> None:
    """A panel for each share of the labels: every score's difference, with its interval, by arm."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = result["differences"]
    shares = list(dict.fromkeys(row["labels"] for row in rows))
    arms, scores = (list(dict.fromkeys(row[key] for row in rows)) for key in ("arm", "score"))
    figure = Figure(figsize=(4 + 3.2 * len(shares), 1.6 + 0.45 * len(scores) * len(arms) * 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(shares), sharex=True, sharey=True, squeeze=False)[0]
    for panel, share in zip(panels, shares):
        panel.axvline(0, color="0.6", linewidth=1)
        for number, arm in enumerate(arms):
            own = [row for row in rows if (row["labels"], row["arm"]) == (share, arm)]
            heights = [scores.index(row["score"]) + (number - (len(arms) - 1) / 2) * 0.22 for row in own]
            means = [row["difference"] for row in own]
            around = [[0 if row[key] is None else abs(row["difference"] - row[key]) for row in own] for key in ("low", "high")]
            panel.errorbar(means, heights, xerr=around, fmt="o", capsize=3, markersize=5, label=arm)
        panel.set_title(f"{share:.0%} of the labels", fontsize=10)
        panel.set_yticks(range(len(scores)), [NAMES[key] for key in scores])
        panel.set_ylim(len(scores) - 0.5, -0.5)
        panel.set_xlabel("points, with 95% interval over seeds")
    figure.suptitle(title, fontsize=11)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(arms), frameon=False)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=150)
