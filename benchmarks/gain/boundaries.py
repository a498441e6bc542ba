"""Entities whose edges lie inside tokens: F1 by tokens and by characters with spaCy's tokens and with finer ones.

    python benchmarks/gain/boundaries.py OUT.json --train ner.spacy --dev dev.spacy --split-at "()+-/]" --work FOLDER

Entities alone, on the encoder as it comes, in bf16. `mtl convert` makes the files from PubTator's and names the characters.
Finished runs in the work folder are not repeated.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Dict

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from environment import environment  # noqa: E402

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
SCORES = ("ents_f", "ents_p", "ents_r", "ents_char_f")
CONFIG = ROOT / "benchmarks" / "gain" / "entities.cfg"


def run(split_at: str, arguments: argparse.Namespace) -> Dict[str, float]:
    """The scores with tokens split at these characters, from their file if that is there."""
    folder = arguments.work / ("fine" if split_at else "plain")
    metrics = folder.with_suffix(".json")
    if not metrics.exists():
        overrides = ["--paths.ner", arguments.train, "--paths.dev", arguments.dev, "--paths.encoder", ENCODER,
                     "--nlp.tokenizer.split_at", json.dumps(split_at)]  # fmt: skip
        environment_ = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
        for command in (
            ["spacy", "train", str(CONFIG), "--output", str(folder), *overrides],
            ["mtl", "evaluate", str(folder / "model-last"), arguments.dev, "--out", str(metrics)],
        ):
            subprocess.run([sys.executable, "-m", *command], check=True, env=environment_)
    scores = json.loads(metrics.read_text())["scores"]
    return {key: scores[key] for key in SCORES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", required=True)
    parser.add_argument("--dev", required=True)
    parser.add_argument("--split-at", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    runs = {"spaCy's": run("", arguments), f"split at {arguments.split_at} as well": run(arguments.split_at, arguments)}
    for name, scores in runs.items():
        print(name, "  ".join(f"{key} {100 * value:.2f}" for key, value in scores.items()), flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"runs": runs, "environment": environment()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
