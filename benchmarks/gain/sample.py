"""What each part of the sample's recipe gives: the test scores of its pipeline under other batches, rates and encoders.

    python benchmarks/gain/sample.py OUT.json --corpus corpus/spacy --work FOLDER [--adapted ENCODER] [--threads 1]

Each run is one training of configs/sample.cfg, scored on the test documents. Finished runs in the work folder are not repeated.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from environment import environment  # noqa: E402

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
# name -> steps, words in a step, learning rate, whether on the adapted encoder, pooling of the categories
VARIANTS: Dict[str, Any] = {
    "720 steps of 700 words, rate 3e-4 (the recipe before)": (720, 700, 3e-4, False, "mean"),
    "720 steps of 700 words, rate 3e-4, on the adapted encoder": (720, 700, 3e-4, True, "mean"),
    "1,440 steps of 350 words, rate 3e-4": (1440, 350, 3e-4, False, "mean"),
    "1,440 steps of 350 words, rate 3e-4, on the adapted encoder": (1440, 350, 3e-4, True, "mean"),
    "1,440 steps of 350 words, rate 6e-4": (1440, 350, 6e-4, False, "mean"),
    "1,440 steps of 350 words, rate 1.5e-4": (1440, 350, 1.5e-4, False, "mean"),
    "1,440 steps of 350 words, rate 1.5e-4, attention pooling": (1440, 350, 1.5e-4, False, "attention"),
    "2,880 steps of 175 words, rate 2e-4": (2880, 175, 2e-4, False, "mean"),
}
SCORES = ("cats_accuracy", "ents_f", "qa_f1")


def run(name: str, corpus: Path, work: Path, adapted: str, threads: int) -> Dict[str, float]:
    """The test scores of a variant, from its file if that is there."""
    steps, words, rate, is_adapted, pooling = VARIANTS[name]
    folder = work / f"{steps}-{words}-{rate:g}-{'adapted' if is_adapted else 'plain'}-{pooling}"
    metrics = work / f"{folder.name}.json"
    if not metrics.exists():
        config = work / f"{pooling}.cfg"
        config.write_text(_config(pooling))
        settings = {
            "paths.train": corpus / "train.spacy", "paths.dev": corpus / "dev.spacy",
            "paths.encoder": adapted if is_adapted else ENCODER, "training.max_steps": steps, "training.batcher.size": words,
            "training.optimizer.learn_rate.peak_rate": rate, "training.eval_frequency": steps // 2,
            "training.logger.weighting_log": "null",
        }  # fmt: skip
        overrides = [str(part) for key, value in settings.items() for part in (f"--{key}", value)]
        environment_ = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        for command in (
            ["spacy", "train", str(config), "--output", str(folder), *overrides],
            ["mtl", "evaluate", str(folder / "model-best"), str(corpus / "test.spacy"), "--out", str(metrics)],
        ):
            subprocess.run([sys.executable, "-m", *command], check=True, env=environment_)
    scores = json.loads(metrics.read_text())["scores"]
    return {key: scores[key] for key in SCORES}


def _config(pooling: str) -> str:
    """The sample's config with this pooling."""
    text = (ROOT / "configs" / "sample.cfg").read_text()
    section = '[components.textcat.model]\n@architectures = "mtl.Textcat.v1"\n'
    encoder = '[components.textcat.model.encoder]\n@architectures = "mtl.EncoderListener.v1"\n'
    return text.replace("[components.ner]\n", f'{section}pooling = "{pooling}"\n\n{encoder}\n[components.ner]\n')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--adapted", default="", help="The encoder after `mtl adapt` on corpus/domain.txt")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, variant in VARIANTS.items():
        if variant[3] and not arguments.adapted:
            continue
        rows.append(
            {"variant": name, "scores": run(name, arguments.corpus, arguments.work, arguments.adapted, arguments.threads)}
        )
        print(name, "  ".join(f"{key} {100 * value:.1f}" for key, value in rows[-1]["scores"].items()), flush=True)
    adapted = {}
    if arguments.adapted:
        report = json.loads((Path(arguments.adapted) / "adapt.json").read_text())
        adapted = {key: report[key] for key in ("perplexity_before", "perplexity_after", "epochs", "settings")}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"runs": rows, "adapted": adapted, "environment": environment()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
