"""Memory over a long stream, and over the length of one document.

    python benchmarks/serving/memory.py OUT.json [--documents 200000] [--longest 1000000]

Stream: documents of 5 to 150 words through `nlp.pipe` with all three heads, a question for every hundredth; resident memory after
the first 5,000 and at the end, without errors, with a document that makes a head fail, and in OpenVINO. Length: seconds and the
most memory for one document of 10,000 tokens and ten times as many, up to `--longest`. Each of these runs in a fresh process. The
encoder is random, of one layer and width 32, and for the second table of lengths as wide as MiniLM.
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

from mtl.adapt.text import read_documents

from environment import environment  # isort: skip  (pipelines.py puts its folder on the path)

SETTLED, FIRST = 5000, 10_000  # documents until memory has settled; tokens of the shortest document
WORDS = 5, 150  # of a document in the stream
BARS = {"growth in MB": 50.0, "growth in MB with an error": 50.0, "growth in MB in OpenVINO": 50.0}
BARS |= {"seconds a token, longest over shortest": 1.5}


def resident_mb() -> float:
    """Memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def stream(nlp: Any, words: List[str], count: int, failing: int) -> Iterator[Doc]:
    chance = random.Random(0)
    for i in range(count):
        size = chance.randint(*WORDS)
        start = chance.randrange(len(words) - size)
        doc = nlp.make_doc(" ".join(words[start : start + size]))
        if i % 100 == 0:
            doc._.questions = [QUESTION]
        if i == failing:
            doc._.questions = [""]  # an empty question: the head refuses it
        yield doc


def domain_words() -> List[str]:
    return " ".join(read_documents([str(ROOT / "corpus" / "domain.txt")])).split()


def grow(pipeline: str, count: int, failing: int, backend: str) -> Dict[str, float]:
    """Resident memory after `SETTLED` documents and after `count`. failing: the number of a document that fails, -1 for none."""
    words = domain_words()
    nlp = spacy.load(pipeline, config={"components.transformer.model.backend": backend})
    logging.getLogger("spacy").setLevel(logging.ERROR)
    failed = []
    nlp.set_error_handler(lambda name, pipe, docs, error: failed.append(name))
    settled, started, passed = 0.0, time.perf_counter(), 0
    for passed, _ in enumerate(nlp.pipe(stream(nlp, words, count, failing), batch_size=256), start=1):
        if passed == SETTLED:
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


def one(pipeline: str, tokens: int) -> Dict[str, float]:
    """Process one document of so many tokens and a question: seconds, and the most memory beyond what it began with."""
    nlp = spacy.load(pipeline)
    words = domain_words()
    nlp("A short document, to begin with.")
    doc = Doc(nlp.vocab, words=list(islice(cycle(words), tokens)))
    doc._.questions = [QUESTION]
    Path("/proc/self/clear_refs").write_text("5")  # the most memory is counted from here
    before, started = resident_mb(), time.perf_counter()
    for _, pipe in nlp.pipeline:
        doc = pipe(doc)
    seconds = time.perf_counter() - started
    most = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {"seconds": seconds, "mb": int(most) * 1024 / 1e6 - before}


def afresh(name: str, *given: Any) -> Dict[str, float]:
    """`grow` or `one` in a process of its own, whose last line is what it found."""
    command = [sys.executable, __file__, name, *map(str, given)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = ""
        for line in process.stdout or ():
            if not line.startswith("{"):
                print(line, end="", flush=True)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return json.loads(line)


def lengths(pipeline: str, longest: int) -> List[Dict[str, float]]:
    rows = []
    tokens = FIRST
    while tokens <= longest:
        row = {"tokens": tokens, **afresh("one", pipeline, tokens)}
        per = {"microseconds_a_token": row["seconds"] / tokens * 1e6, "bytes_a_token": row["mb"] / tokens * 1e6}
        rows.append({**row, **per})
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
        broad = TINY | {"hidden_size": 384, "intermediate_size": 768}
        ours(random_encoder(Path(folder) / "wide encoder", **broad), 5, 1e-4, Path(wide))
        growth = {
            "plain": afresh("grow", narrow, arguments.documents, -1, "torch"),
            "with an error": afresh("grow", narrow, arguments.documents, SETTLED // 2, "torch"),
            "in OpenVINO": afresh("grow", narrow, arguments.documents, -1, "openvino"),
        }
        rows = {"width 32": lengths(narrow, arguments.longest), "width 384": lengths(wide, arguments.longest)}
    found = {
        "growth in MB": growth["plain"]["growth_mb"],
        "growth in MB with an error": growth["with an error"]["growth_mb"],
        "growth in MB in OpenVINO": growth["in OpenVINO"]["growth_mb"],
        "seconds a token, longest over shortest": max(
            own[-1]["microseconds_a_token"] / own[0]["microseconds_a_token"] for own in rows.values()
        ),
    }
    for name, value in found.items():
        print(f"{name}: {value:.2f} (at most {BARS[name]}) {'ok' if value <= BARS[name] else 'FALLS SHORT'}")
    result = {"documents": arguments.documents, "found": found, "bars": BARS, "growth": growth, "lengths": rows}
    result["environment"] = environment()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        print(json.dumps(one(sys.argv[2], int(sys.argv[3]))))
    elif sys.argv[1:2] == ["grow"]:
        print(json.dumps(grow(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])))
    else:
        main()
