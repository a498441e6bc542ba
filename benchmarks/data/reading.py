"""How fast labelled files are read, converted and checked, and in how much memory.

    python benchmarks/data/reading.py OUT.json [--documents 100000] [--words 60]

The documents are generated (words of the sample domain, shuffled; a category each) and written to a temporary folder as JSON
Lines, and as one CoNLL file of 70,000 tokens without sentences or documents. Each part runs in its own process; imports do not
count.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from environment import environment  # noqa: E402

CONLL_TOKENS = 70_000
PARTS = ("read", "convert", "convert, one process", "check", "conll")


def generate(folder: Path, documents: int, words: int) -> None:
    """Write train.jsonl with nine tenths of the documents, dev.jsonl with the others, and tokens.conll."""
    vocabulary = (ROOT / "corpus" / "domain.txt").read_text(encoding="utf-8").split()
    rng = random.Random(0)
    for split, count in (("train", documents * 9 // 10), ("dev", documents // 10)):
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(count):
                row = {"text": " ".join(rng.choices(vocabulary, k=words)), "label": rng.choice("ABC")}
                file.write(json.dumps(row) + "\n")
    with (folder / "tokens.conll").open("w", encoding="utf-8") as file:
        for i in range(CONLL_TOKENS):
            file.write(f"{'.' if i % 20 == 19 else rng.choice(vocabulary)} {'B-PART' if i % 7 == 3 else 'O'}\n")


def measure(part: str, folder: Path) -> None:
    """Run one part, and print its seconds and peak memory as JSON."""
    from mtl.data.check.run import check_data
    from mtl.data.convert import convert_splits
    from mtl.data.docs import blank_pipeline
    from mtl.data.formats.detect import read_records
    from mtl.data.records import Report
    from mtl.registry import registered_tasks

    files = {split: folder / f"{split}.jsonl" for split in ("train", "dev")}
    if part == "conll":
        files = {"train": folder / "tokens.conll"}
    registered_tasks(), blank_pipeline("en")
    started = time.perf_counter()
    if part == "read":
        for file in files.values():
            for _ in read_records(file, Report()):
                pass
    elif part == "check":
        check_data({split: [file] for split, file in files.items()})
    else:
        processes = 1 if part == "convert, one process" else 0
        convert_splits(files, {split: folder / "out" / part / split for split in files}, processes=processes)
    seconds = time.perf_counter() - started
    size = sum(file.stat().st_size for file in files.values()) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps({"part": part, "seconds": seconds, "megabytes": size, "peak_mb": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        measure(arguments.part, arguments.out)
        return
    parts: List[Dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        generate(Path(name), arguments.documents, arguments.words)
        for part in PARTS:
            command = [sys.executable, __file__, name, "--part", part]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            parts.append(json.loads(done.stdout.splitlines()[-1]))
            print(parts[-1], flush=True)
    result = {"documents": arguments.documents, "words": arguments.words, "parts": parts, "environment": environment()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
