"""Perplexity against minutes of `mtl adapt`: the defaults before and now, at equal budgets.

    python benchmarks/gain/recipe.py OUT.json --text FILE [--minutes 5,20] [--threads 1]

Both recipes of a budget run at the same time, in processes of their own with as many threads each, so that a busy machine slows
both. Beside OUT.json, OUT.png has the curves.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
RECIPES: Dict[str, Dict[str, Any]] = {
    "before (rate 1e-4, head alone 30%)": {"learning_rate": 1e-4, "head_only_ratio": 0.3},
    "now": {},
}
EVALUATIONS = 8


def run(text: str, minutes: float, recipe: Dict[str, Any], threads: int) -> Dict[str, Any]:
    """One run, in this process: its evaluations as [minutes, perplexity], and its speed."""
    import math

    import torch

    from mtl.adaptation.cleaning import CleanSettings
    from mtl.adaptation.run import adapt
    from mtl.adaptation.settings import AdaptSettings

    torch.set_num_threads(threads)
    settings = AdaptSettings(
        epochs=1000, max_minutes=minutes, num_evaluations=EVALUATIONS, checkpoint_minutes=0, precision="bf16", **recipe
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        report = adapt(
            ENCODER, [text], Path(folder) / "adapted", settings=settings, cleaning=CleanSettings(), echo=lambda line: None
        )
    curve = [[round(e["seconds"] / 60, 2), round(math.exp(e["losses"]["in-domain"]), 2)] for e in report["evaluations"]]
    names = ("steps", "head_steps", "tokens", "epochs", "tokens_per_second", "advice")
    return {"curve": curve, "perplexity": curve[-1][1], **{name: report[name] for name in names}}


def start(text: str, minutes: float, name: str, threads: int, out: Path) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable,
        __file__,
        str(out),
        "--text",
        text,
        "--minutes",
        str(minutes),
        "--threads",
        str(threads),
        "--recipe",
        name,
    ]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, stderr=subprocess.DEVNULL)


def plot(results: List[Dict[str, Any]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    colours = dict(zip(RECIPES, ("tab:grey", "tab:blue")))
    longest = max(result["minutes"] for result in results)
    for result in results:
        style = "-" if result["minutes"] == longest else "--"
        minutes, perplexities = zip(*result["curve"])
        label = f"{result['recipe']}, {result['minutes']:g} minutes"
        axes.plot(minutes, perplexities, style, color=colours[result["recipe"]], marker="o", markersize=3, label=label)
    axes.set(xlabel="minutes of training", ylabel="in-domain perplexity", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", required=True)
    parser.add_argument("--minutes", default="5,20")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--recipe", default="", help="One recipe, in this process")
    arguments = parser.parse_args()
    budgets = [float(part) for part in arguments.minutes.split(",")]
    if arguments.recipe:
        result = run(arguments.text, budgets[0], RECIPES[arguments.recipe], arguments.threads)
        arguments.out.write_text(json.dumps(result))
        return
    from environment import environment

    results = []
    with tempfile.TemporaryDirectory() as folder:
        for minutes in budgets:
            files = {name: Path(folder) / f"{minutes}-{i}.json" for i, name in enumerate(RECIPES)}
            running = [start(arguments.text, minutes, name, arguments.threads, file) for name, file in files.items()]
            if any(process.wait() for process in running):
                sys.exit("a run has failed")
            for name, file in files.items():
                results.append({"recipe": name, "minutes": minutes, **json.loads(file.read_text())})
                print(f"{minutes:g} minutes, {name}: perplexity {results[-1]['perplexity']}", flush=True)
    found = {"encoder": ENCODER, "text": Path(arguments.text).name, "threads": arguments.threads, "runs": results}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({**found, "environment": environment()}, indent=2) + "\n")
    plot(results, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
