"""Entities whose edges lie inside tokens: F1 by tokens and by characters with spaCy's tokens, with finer ones, and by subwords.

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
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "gain")]
from environment import environment  # noqa: E402

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
SCORES = ("ents_f", "ents_p", "ents_r", "ents_char_f")
CONFIG = ROOT / "benchmarks" / "gain" / "entities.cfg"
WORDS = 2000  # of spaCy's, in a step


def run(name: str, settings: Dict[str, Any], tokens_per_word: float, arguments: argparse.Namespace) -> Dict[str, float]:
    """The scores with a tokenizer, from their file if that is there.

    Args:
        name (str): Name of the run's folder.
        settings (Dict[str, Any]): The section [nlp.tokenizer].
        tokens_per_word (float): Its tokens for each of spaCy's: batches hold the same text in all runs.
        arguments (argparse.Namespace): Those of the command.
    """
    from spacy.util import load_config

    folder = arguments.work / name
    metrics = folder.with_suffix(".json")
    if not metrics.exists():
        config = load_config(CONFIG, interpolate=False)
        config["nlp"]["tokenizer"] = settings
        config["paths"] |= {"ner": arguments.train, "dev": arguments.dev, "encoder": ENCODER}
        config["training"]["batcher"]["size"] = round(WORDS * tokens_per_word)
        config.to_disk(folder.with_suffix(".cfg"), interpolate=False)
        code = str(ROOT / "benchmarks" / "gain" / "wordpieces.py")
        command = ["spacy", "train", str(folder.with_suffix(".cfg")), "--output", str(folder), "--code", code]
        environment_ = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
        subprocess.run([sys.executable, "-m", *command], check=True, env=environment_)
        metrics.write_text(json.dumps(scores(folder / "model-last", arguments.dev)))
    return dict(json.loads(metrics.read_text()))


def scores(pipeline: Path, dev: str) -> Dict[str, float]:
    import spacy
    import wordpieces  # noqa: F401

    from mtl.training.evaluation import evaluate_pipeline

    found = evaluate_pipeline(spacy.load(pipeline), [Path(dev)])["scores"]
    return {key: found[key] for key in SCORES}


def tokens_per_word(settings: Dict[str, Any], texts: List[str]) -> float:
    """Tokens of a tokenizer for each of spaCy's."""
    import spacy
    import wordpieces  # noqa: F401

    nlp, plain = spacy.blank("en", config={"nlp": {"tokenizer": settings}}), spacy.blank("en")
    return sum(len(nlp.make_doc(text)) for text in texts) / sum(len(plain.make_doc(text)) for text in texts)


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
    import spacy

    from mtl.data.docs import read_docs

    texts = [doc.text for doc in read_docs(Path(arguments.train), spacy.blank("en").vocab)]
    tokenizers = {
        "spaCy's tokens": {"@tokenizers": "mtl.Tokenizer.v1"},
        f"split at {arguments.split_at} as well": {"@tokenizers": "mtl.Tokenizer.v1", "split_at": arguments.split_at},
        "subwords": {"@tokenizers": "benchmark.Wordpieces.v1", "encoder": ENCODER},
    }
    runs = {}
    for name, settings in tokenizers.items():
        ratio = tokens_per_word(settings, texts)
        runs[name] = {"tokens_per_word": ratio, **run(name.split()[0].strip("'s"), settings, ratio, arguments)}
        print(name, "  ".join(f"{key} {value:.4f}" for key, value in runs[name].items()), flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"runs": runs, "environment": environment()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
