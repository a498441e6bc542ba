"""Memory over a long stream, and by the length of a document.

    python benchmarks/serving/memory.py OUT.json [--documents 200000] [--longest 1000000]

Stream: documents of 5 to 150 words go through `nlp.pipe` with three heads, every hundredth with a question. Resident memory is
read after the first 5,000 documents and at the end: without errors, with a document on which a head fails, and in OpenVINO.
Length: seconds and peak memory for one document of 10,000 tokens, ten times as many, and so on up to `--longest`. Each
measurement runs in a fresh process. The encoder is random, of one layer and width 32; a second table of lengths is for the width
of MiniLM.
"""

import argparse
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Dict, Iterator, List

import spacy
from pipelines import QUESTION, ROOT, TINY, ours, random_encoder
from spacy.tokens import Doc

from mtl.adaptation.text import read_documents

from environment import environment  # isort: skip  (pipelines.py puts its folder on the path)

SETTLED_AFTER = 5000  # documents until memory has settled
SHORTEST = 10_000  # tokens
WORDS = 5, 150  # in a document of the stream
BARS = {"growth in MB": 50.0, "growth in MB with an error": 50.0, "growth in MB in OpenVINO": 50.0}
BARS |= {"seconds a token, longest over shortest": 1.5}


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def stream(nlp: Any, words: List[str], count: int, failing: int) -> Iterator[Doc]:
    """Random documents, of which that with the number `failing` makes the question answering fail."""
    rng = random.Random(0)
    for i in range(count):
        size = rng.randint(*WORDS)
        start = rng.randrange(len(words) - size)
        doc = nlp.make_doc(" ".join(words[start : start + size]))
        if i % 100 == 0:
            doc._.questions = [QUESTION]
        if i == failing:
            doc._.questions = [""]  # the head refuses an empty question
        yield doc


def domain_words() -> List[str]:
    """The words of the sample's domain text."""
    return " ".join(read_documents([str(ROOT / "corpus" / "domain.txt")])).split()


def measure_growth(pipeline: str, count: int, failing: int, backend: str) -> Dict[str, float]:
    """Resident memory after `SETTLED_AFTER` documents and after `count`.

    Args:
        pipeline (str): The pipeline's folder.
        count (int): Number of documents.
        failing (int): Number of the document that fails; -1 for none.
        backend (str): Backend of the encoder.
    """
    words = domain_words()
    nlp = spacy.load(pipeline, config={"components.transformer.model.backend": backend})
    logging.getLogger("spacy").setLevel(logging.ERROR)
    failed: List[str] = []
    nlp.set_error_handler(lambda name, pipe, docs, error: failed.append(name))
    settled, started, passed = 0.0, time.perf_counter(), 0
    for passed, _ in enumerate(nlp.pipe(stream(nlp, words, count, failing), batch_size=256), start=1):
        if passed == SETTLED_AFTER:
            settled = resident_mb()
        if passed % 20_000 == 0:
            print(
                f"{passed:,} documents, {resident_mb():,.0f} MB, {passed / (time.perf_counter() - started):,.0f} documents/s",
                flush=True,
            )
    expected = count - (0 <= failing < count)
    if passed != expected or len(failed) != count - expected:
        raise SystemExit(f"{passed} documents came out of {count}, {len(failed)} failed")
    return {"settled_mb": settled, "end_mb": resident_mb(), "growth_mb": resident_mb() - settled}


def measure_length(pipeline: str, tokens: int) -> Dict[str, float]:
    """Seconds and peak memory for one document of this many tokens and a question, beyond the memory in use before."""
    nlp = spacy.load(pipeline)
    words = domain_words()
    nlp("A short document as a warm-up.")
    doc = Doc(nlp.vocab, words=list(islice(cycle(words), tokens)))
    doc._.questions = [QUESTION]
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before, started = resident_mb(), time.perf_counter()
    for _, pipe in nlp.pipeline:
        doc = pipe(doc)
    seconds = time.perf_counter() - started
    peak = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {"seconds": seconds, "mb": int(peak) * 1024 / 1e6 - before}


def in_fresh_process(name: str, *arguments: Any) -> Dict[str, float]:
    """Run the measurement "growth" or "length" in a process of its own, whose last line is the result."""
    command = [sys.executable, __file__, name, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = ""
        for line in process.stdout or ():
            if not line.startswith("{"):
                print(line, end="", flush=True)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return json.loads(line)


def measure_lengths(pipeline: str, longest: int) -> List[Dict[str, float]]:
    """Seconds and memory for documents of ever more tokens."""
    rows = []
    tokens = SHORTEST
    while tokens <= longest:
        row = {"tokens": tokens, **in_fresh_process("length", pipeline, tokens)}
        per_token = {"microseconds_a_token": row["seconds"] / tokens * 1e6, "bytes_a_token": row["mb"] / tokens * 1e6}
        rows.append({**row, **per_token})
        print({key: round(value, 2) for key, value in rows[-1].items()}, flush=True)
        tokens *= 10
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--longest", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        narrow, wide = str(Path(folder) / "narrow"), str(Path(folder) / "wide")
        ours(random_encoder(Path(folder) / "encoder", **TINY), 60, 3e-3, Path(narrow))
        wide_shape = TINY | {"hidden_size": 384, "intermediate_size": 768}
        ours(random_encoder(Path(folder) / "wide encoder", **wide_shape), 5, 1e-4, Path(wide))
        growth = {
            "plain": in_fresh_process("growth", narrow, arguments.documents, -1, "torch"),
            "with an error": in_fresh_process("growth", narrow, arguments.documents, SETTLED_AFTER // 2, "torch"),
            "in OpenVINO": in_fresh_process("growth", narrow, arguments.documents, -1, "openvino"),
        }
        rows = {"width 32": measure_lengths(narrow, arguments.longest), "width 384": measure_lengths(wide, arguments.longest)}
    measured = {
        "growth in MB": growth["plain"]["growth_mb"],
        "growth in MB with an error": growth["with an error"]["growth_mb"],
        "growth in MB in OpenVINO": growth["in OpenVINO"]["growth_mb"],
        "seconds a token, longest over shortest": max(
            table[-1]["microseconds_a_token"] / table[0]["microseconds_a_token"] for table in rows.values()
        ),
    }
    for name, value in measured.items():
        print(f"{name}: {value:.2f} (at most {BARS[name]}) {'ok' if value <= BARS[name] else 'FALLS SHORT'}")
    result = {"documents": arguments.documents, "measured": measured, "bars": BARS, "growth": growth, "lengths": rows}
    result["environment"] = environment()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["length"]:
        print(json.dumps(measure_length(sys.argv[2], int(sys.argv[3]))))
    elif sys.argv[1:2] == ["growth"]:
        print(json.dumps(measure_growth(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])))
    else:
        main()
