"""Does a large teacher make a small student better? Entities of BC5CDR, on some of the labels.

    python benchmarks/gain/teacher.py OUT.json --train ner.spacy --dev dev.spacy --teacher ENCODER --documents 50 --seeds 2 \
        --work FOLDER

For each seed, some of the training documents are drawn, and the teacher is trained on them. `mtl distill --student` teaches the
student on these documents and on the texts of the others, or on --text. Then the student's encoder is trained alone, and, with
--control-steps, once more for longer. All in bf16. `mtl convert` makes the files from PubTator's. Finished parts in
the work folder are not repeated.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from environment import environment  # noqa: E402

STUDENT = "sentence-transformers/all-MiniLM-L6-v2"
SETTINGS = ("documents", "steps", "teacher_steps", "control_steps", "words", "epochs", "split_at", "threads")
SCORES = ("ents_f", "ents_p", "ents_r", "ents_char_f")
CONFIG = ROOT / "benchmarks" / "gain" / "entities.cfg"


def command(arguments: argparse.Namespace, *parts: Any) -> None:
    environment_ = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    subprocess.run([sys.executable, "-m", *map(str, parts)], check=True, env=environment_)


def draw(arguments: argparse.Namespace, seed: int, folder: Path) -> List[str]:
    """Write the labelled documents of a seed. Returns the texts of the others."""
    import spacy

    from mtl.data.docs import read_docs, write_docs

    docs = list(read_docs(Path(arguments.train), spacy.blank("en").vocab))
    drawn = set(random.Random(seed).sample(range(len(docs)), min(arguments.documents, len(docs))))
    write_docs([doc for i, doc in enumerate(docs) if i in drawn], folder / "labelled.spacy")
    return [doc.text for i, doc in enumerate(docs) if i not in drawn]


def timed(folder: Path, work: Any) -> float:
    """Minutes of a part, which is not repeated if it is done."""
    file = folder.with_suffix(".minutes.json")
    if not file.exists():
        started = time.perf_counter()
        work()
        file.write_text(json.dumps((time.perf_counter() - started) / 60))
    return round(float(json.loads(file.read_text())), 1)


def scores(arguments: argparse.Namespace, pipeline: Path, name: Path) -> Dict[str, float]:
    metrics = name.with_suffix(".scores.json")
    if not metrics.exists():
        command(arguments, "mtl", "evaluate", pipeline, arguments.dev, "--out", metrics)
    found = json.loads(metrics.read_text())["scores"]
    return {key: found[key] for key in SCORES}


def run(arguments: argparse.Namespace, seed: int) -> Dict[str, Any]:
    """All pipelines of a seed."""
    folder = arguments.work / f"{arguments.documents}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    texts = folder / "texts.jsonl"
    others = draw(arguments, seed, folder)
    texts.write_text("".join(json.dumps({"text": text}) + "\n" for text in others))
    result: Dict[str, Any] = {"seed": seed, "documents": arguments.documents}

    def train(name: str, encoder: str, rate: float, steps: int) -> None:
        out = folder / name.replace(" ", "-").replace(",", "")
        minutes = timed(out, lambda: command(
            arguments, "mtl", "train", CONFIG, "--output", out, "--set", f"paths.ner={folder / 'labelled.spacy'}", "--set",
            f"paths.dev={arguments.dev}", "--set", f"paths.encoder={encoder}", "--set", f"training.max_steps={steps}",
            "--set", f"training.batcher.size={arguments.words}", "--set", f"training.eval_frequency={steps}", "--set",
            f"training.optimizer.learn_rate.peak_rate={rate}", "--set", f"system.seed={seed}", "--set",
            f"nlp.tokenizer.split_at={json.dumps(arguments.split_at)}"))  # fmt: skip
        result[name] = {"minutes": minutes, "steps": steps, **scores(arguments, out / "model-last", out)}
        print(seed, name, result[name], flush=True)

    train("teacher", arguments.teacher, arguments.teacher_rate, arguments.teacher_steps or arguments.steps)
    ways: Dict[str, List[str]] = {"student taught": [], "student taught, with relations": ["--auxiliary", "relations"]}
    for name, more in list(ways.items())[: 2 if arguments.relations else 1]:
        out = folder / name.replace(" ", "-").replace(",", "")
        minutes = timed(out, lambda out=out, more=more: command(
            arguments, "mtl", "distill", folder / "teacher" / "model-last", "--student", STUDENT, "--text",
            *(arguments.text or [texts]), "--labelled", folder / "labelled.spacy", "--dev", arguments.dev, "--epochs",
            arguments.epochs, "--seed", seed, "--out", out, *more))  # fmt: skip
        result[name] = {"minutes": minutes, **scores(arguments, out / "student", out)}
        print(seed, name, result[name], flush=True)
    train("student alone", STUDENT, 3e-4, arguments.steps)
    if arguments.control_steps:
        train("student alone, as long", STUDENT, 3e-4, arguments.control_steps)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", required=True)
    parser.add_argument("--dev", required=True)
    parser.add_argument("--teacher", required=True, help="Its encoder")
    parser.add_argument("--teacher-rate", type=float, default=1e-4)
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--teacher-steps", type=int, default=0, help="As many as --steps by default")
    parser.add_argument("--control-steps", type=int, default=0, help="Train the student alone once more, for so many steps")
    parser.add_argument("--words", type=int, default=1000)
    parser.add_argument("--epochs", type=float, default=8.0, help="Of the student, over texts and labelled documents")
    parser.add_argument("--text", default="", help="Instead of the texts of the other documents")
    parser.add_argument("--split-at", default="()+-/]")
    parser.add_argument("--relations", action="store_true", help="Teach once more, with relations of tokens as well")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    arguments.text = [arguments.text] if arguments.text else []
    runs = [run(arguments, seed) for seed in range(arguments.seeds)]
    settings = {key: getattr(arguments, key) for key in SETTINGS}
    found = {"teacher": Path(arguments.teacher).name, "student": STUDENT, **settings, "runs": runs}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({**found, "environment": environment()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
