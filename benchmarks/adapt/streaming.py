"""Peak memory while a large text is read, tokenized and drawn from: it does not grow with the corpus.

    python benchmarks/adapt/streaming.py OUT.json [--megabytes 50,1000]

The text is generated (words of the sample domain, shuffled) and written to a temporary folder. Each size runs in its own process,
and their peak resident memory is compared. The encoder is not loaded: only reading, tokenizing and drawing batches are measured.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

from mtl.adaptation.batches import TrainingBatches
from mtl.adaptation.blocks import BlockSettings, load_corpus
from mtl.encoder.model.masking import MaskSettings
from mtl.encoder.pretrained.sources import load_tokenizer

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from environment import environment  # noqa: E402

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
BAR_MB = 2000


def generate(path: Path, megabytes: int) -> None:
    """Write so many megabytes of text."""
    words = (ROOT / "corpus" / "domain.txt").read_text(encoding="utf-8").split()
    rng = random.Random(0)
    size = 0
    with path.open("w", encoding="utf-8") as file:
        while size < megabytes * 1_000_000:
            size += file.write(" ".join(rng.choices(words, k=400)) + "\n\n")


def measure(text: str, cache: str) -> None:
    """Read the text into shards, then draw 500 batches from all over it; print times and peak memory as JSON."""
    tokenizer = load_tokenizer(ENCODER)
    started = time.perf_counter()
    corpus = load_corpus([text], tokenizer, BlockSettings(128, 0.01, 0), Path(cache), lambda _: None)
    tokenize_seconds = time.perf_counter() - started
    batches = TrainingBatches(corpus.train, 16, MaskSettings(tokenizer.mask_token_id, len(tokenizer)), tokenizer.pad_token_id, 0)
    started = time.perf_counter()
    for number in range(500):
        batches[number]
    seconds_per_batch = (time.perf_counter() - started) / 500
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak, anonymous = (int(status[name].split()[0]) * 1024 / 1e6 for name in ("VmHWM", "RssAnon"))
    print(
        json.dumps(
            {
                "words": corpus.words, "blocks": len(corpus.train), "tokenize_seconds": tokenize_seconds,
                "seconds_per_batch": seconds_per_batch,
                "most_resident_mb": peak, "anonymous_at_end_mb": anonymous,
            }
        )
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--megabytes", default="50,1000")
    arguments = parser.parse_args()
    rows: List[Dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in map(int, arguments.megabytes.split(",")):
            text = Path(folder) / f"{megabytes}.txt"
            generate(text, megabytes)
            command = [sys.executable, __file__, "--measure", str(text), folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append({"megabytes": megabytes, **json.loads(done.stdout.splitlines()[-1])})
            print(rows[-1], flush=True)
            text.unlink()
    peak = max(row["most_resident_mb"] for row in rows)
    print(f"peak memory: {peak:,.0f} MB (at most {BAR_MB:,}) {'ok' if peak <= BAR_MB else 'FALLS SHORT'}")
    result = {"sizes": rows, "bar_mb": BAR_MB, "ok": peak <= BAR_MB, "environment": environment()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], sys.argv[3])
    else:
        main()
