"""The time for import, load, and one short document.

    python benchmarks/serving/startup.py OUT.json

Import and load run in fresh processes, ours and the peer's in turn: `import mtl.cli.app` against spaCy and torch alone,
`spacy.load` against `AutoModel.from_pretrained` with the tokenizer on the same weights. The short document runs warm: `nlp(text)`
with three heads, in torch and in OpenVINO, against tokenizing and encoding that text with transformers.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List

import spacy
import torch
from pipelines import MINILM, ROOT, ours, resolve_encoder
from transformers import AutoModel, AutoTokenizer

sys.path.insert(0, str(ROOT / "benchmarks"))
from environment import environment

BARS = {"load over from_pretrained": 1.5, "import beyond spaCy and torch, seconds": 0.3}
BARS |= {"short document over bare": 1.3, "short document in OpenVINO over bare": 1.3}
WARM_UP = 10  # calls before the timed ones
TEXT = "The left engine fuel pump seized on climb and was replaced; the ops check was good."
IMPORTS = {"spaCy and torch": "import spacy, torch", "and mtl": "import spacy, torch, mtl, mtl.cli.app"}
LOADS = {
    "from_pretrained": "from transformers import AutoModel, AutoTokenizer; import torch, spacy, mtl.tasks.qa.component\n"
    "start = time.perf_counter(); AutoModel.from_pretrained(p + '/transformer/encoder')",
    "spacy.load": "import torch, spacy, mtl.tasks.qa.component, transformers.models.bert\n"
    "start = time.perf_counter(); spacy.load(p)",
}


def timed(code: str, pipeline: str) -> float:
    """Seconds that `code` takes in a fresh process, from where it sets `start`; by default from its beginning."""
    script = f"import sys, time\np = sys.argv[1]\nstart = time.perf_counter()\n{code}\nprint(time.perf_counter() - start)"
    process = subprocess.run([sys.executable, "-W", "ignore", "-c", script, pipeline], capture_output=True, text=True, check=True)
    return float(process.stdout.split()[-1])


def short_document(pipeline: str, calls: int) -> Dict[str, float]:
    """Median milliseconds of `nlp(text)` and of the bare pass, in turn."""
    nlp = spacy.load(pipeline)
    in_openvino = spacy.load(pipeline, config={"components.transformer.model.backend": "openvino"})
    name = resolve_encoder(MINILM)
    tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModel.from_pretrained(name).eval()
    model.pooler = None

    def bare() -> None:
        with torch.inference_mode():
            model(**tokenizer(TEXT, return_tensors="pt"))

    peers: Dict[str, Callable] = {"ours": lambda: nlp(TEXT), "ours in OpenVINO": lambda: in_openvino(TEXT), "bare": bare}
    seconds: Dict[str, List[float]] = {peer: [] for peer in peers}
    for turn in range(calls + WARM_UP):
        for peer, run in peers.items():
            started = time.perf_counter()
            run()
            if turn >= WARM_UP:
                seconds[peer].append(time.perf_counter() - started)
    return {peer: statistics.median(times) * 1e3 for peer, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pipeline = str(Path(folder) / "ours")
        ours(MINILM, 5, 1e-4, Path(pipeline))
        seconds: Dict[str, List[float]] = {}
        for _ in range(arguments.rounds):
            for name, code in {**IMPORTS, **LOADS}.items():
                seconds.setdefault(name, []).append(timed(code, pipeline))
        milliseconds = short_document(pipeline, 300)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    measured = {
        "load over from_pretrained": median["spacy.load"] / median["from_pretrained"],
        "import beyond spaCy and torch, seconds": median["and mtl"] - median["spaCy and torch"],
        "short document over bare": milliseconds["ours"] / milliseconds["bare"],
        "short document in OpenVINO over bare": milliseconds["ours in OpenVINO"] / milliseconds["bare"],
    }
    for name, value in measured.items():
        print(f"{name}: {value:.2f} (at most {BARS[name]}) {'ok' if value <= BARS[name] else 'FALLS SHORT'}")
    result = {"measured": measured, "bars": BARS, "median_seconds": median, "short_document_ms": milliseconds, "seconds": seconds}
    result["environment"] = environment()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
