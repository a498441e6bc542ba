"""Words per second of our pipeline and its peers: the bare forward pass, stock spaCy, Hugging Face pipelines, EDS-NLP.

    python benchmarks/serving/peers.py OUT.json --text FILE [--encoder minilm | plumbing] [--peers ours,bare,...]

One run, the same encoder weights, peers interleaved (A B C A B C ...). Each round has its own documents, the same for all peers,
and new to them (with --again: the same in every round). Ratios are medians over the rounds. Three of our heads run. Every tenth
document has a question in our pipeline, the bare pass and the Hugging Face pipelines; the other peers have no such head.

"plumbing" is a random encoder of one layer and width 32, which shows the cost of everything around the encoder; its documents
have no questions. "base" is a random encoder of BERT base's shape, for a GPU. EDS-NLP needs edsnlp[ml], which is not among our
extras, and stock spaCy on a GPU needs CuPy.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import spacy
import torch
from pipelines import (
    MINILM,
    ROOT,
    TINY,
    Run,
    bare,
    edsnlp_ner,
    edsnlp_ner_qa,
    huggingface,
    ours,
    random_encoder,
    resolve_encoder,
    stock,
    through_pipe,
)  # fmt: skip

from mtl.adaptation.text import read_documents
from mtl.cli.common import encoder_overrides
from mtl.encoder.runtime.device import pick_device
from mtl.encoder.runtime.precision import HALF

from environment import environment  # isort: skip  (pipelines.py puts its folder on the path)

TRAINING = {"plumbing": (60, 3e-3), "minilm": (25, 1e-4), "base": (25, 1e-4)}  # steps, learning rate
SHAPES: Dict[str, Dict[str, int]] = {"plumbing": TINY, "base": {}}  # of the random encoders
LOW_PRECISION = "ours bf16", "ours fp16", "ours int8"
BEST = "ours at best"  # the fastest of these that was measured
PLUMBING = {("ours", "stock"): 10.0}
OVER_PEERS = {
    ("ours", "stock"): 1.8,
    (BEST, "stock"): 4.0,
    ("ours", "hf one by one"): 2.5,
    (BEST, "hf one by one"): 5.0,
    ("ours", "hf in batches of 16"): 2.5,
    ("ours", "edsnlp ner alone"): 1.0,
    ("ours", "edsnlp ner and qa"): 1.0,
}


def over_bare(bar: float) -> Dict:
    """The bars against the bare pass in the same precision."""
    return {("ours" + kind, "bare" + kind): bar for kind in ("", " bf16", " fp16")}


BARS = {  # device -> encoder -> (ours, peer) -> minimum ratio of words/s
    "cpu": {
        "plumbing": PLUMBING,
        "minilm": {("ours", "bare"): 0.95, ("ours bf16", "bare"): 1.5, ("ours int8", "bare"): 2.0} | OVER_PEERS,
    },
    "cuda": {"plumbing": PLUMBING, "minilm": over_bare(0.7) | OVER_PEERS, "base": over_bare(0.9) | OVER_PEERS},
}


def build_peers(encoder: str, folder: Path, wanted: List[str], batch_size: int, device: torch.device) -> Dict[str, Run]:
    """The wanted peers, ready to run."""
    name = random_encoder(folder / "encoder", **SHAPES[encoder]) if encoder in SHAPES else MINILM
    steps, learning_rate = TRAINING[encoder]
    if device.type == "cuda" and "stock" in wanted:
        spacy.require_gpu(device.index or 0)
    has_questions = encoder != "plumbing"
    saved = folder / "ours"
    if any(peer.startswith("ours") for peer in wanted):
        ours(name, steps, learning_rate, saved)

    def load_ours(precision: str, backend: str = "auto") -> Run:
        overrides = encoder_overrides(precision=precision, backend=backend, device=str(device), fallback=False)
        return through_pipe(spacy.load(saved, config=overrides), batch_size, has_questions)

    makers: Dict[str, Callable[[], Run]] = {
        "ours": lambda: load_ours("fp32"),
        "ours bf16": lambda: load_ours("bf16"),
        "ours fp16": lambda: load_ours("fp16"),
        "ours int8": lambda: load_ours("int8"),
        "ours fp32 openvino": lambda: load_ours("fp32", "openvino"),
        "bare": lambda: bare(name, has_questions, device),
        **{f"bare {kind}": lambda dtype=dtype: bare(name, has_questions, device, dtype=dtype) for kind, dtype in HALF.items()},
        "stock": lambda: through_pipe(stock(resolve_encoder(name), steps, learning_rate), 256, False),
        "hf one by one": lambda: huggingface(name, 1, device),
        "hf in batches of 16": lambda: huggingface(name, 16, device),
        "edsnlp ner alone": lambda: through_pipe(edsnlp_ner(resolve_encoder(name), steps, learning_rate, device), 256, False),
        "edsnlp ner and qa": lambda: edsnlp_ner_qa(resolve_encoder(name), steps, learning_rate, device),
    }
    unknown = sorted(set(wanted) - set(makers))
    if unknown:
        raise SystemExit(f"--peers {','.join(unknown)}: not known; there are {', '.join(makers)}")
    return {peer: makers[peer]() for peer in wanted}


def sample_rounds(texts: List[str], count: int, rounds: int, warm_up: int) -> List[List[str]]:
    """Sample texts without repetition, the same ones in every run: first `warm_up`, then `count` for each round."""
    needed = warm_up + count * rounds
    if len(texts) < needed:
        raise SystemExit(
            f"{len(texts)} documents are too few: {rounds} rounds of {count} and a warm-up of {warm_up} need {needed}"
        )
    sample = random.Random(0).sample(texts, needed)
    return [sample[:warm_up], *(sample[i : i + count] for i in range(warm_up, needed, count))]


def count_words(samples: List[List[str]]) -> List[int]:
    """Number of spaCy's tokens in each round, without the warm-up."""
    nlp = spacy.blank("en")
    return [sum(len(nlp.make_doc(text)) for text in texts) for texts in samples[1:]]


def measure(peers: Dict[str, Run], samples: List[List[str]]) -> Dict[str, List[float]]:
    """Seconds of each peer in each round. The first sample is the warm-up."""
    seconds: Dict[str, List[float]] = {name: [] for name in peers}
    for turn, texts in enumerate(samples):
        for name, run in peers.items():
            started = time.perf_counter()
            run(texts)
            if turn:
                seconds[name].append(time.perf_counter() - started)
        print(f"round {turn} of {len(samples) - 1}", flush=True)
    return seconds


def median_rates(seconds: Dict[str, List[float]], words: List[int]) -> Dict[str, float]:
    """Words per second, the median over the rounds."""
    return {peer: statistics.median(count / spent for count, spent in zip(words, times)) for peer, times in seconds.items()}


def report(seconds: Dict[str, List[float]], words: List[int], bars: Dict) -> Dict[str, Any]:
    """Print and return words per second, and the ratios that have a bar."""
    rates = median_rates(seconds, words)
    for peer, rate in rates.items():
        print(f"{peer:22}{rate:12,.0f} words/s")
    best = max((peer for peer in LOW_PRECISION if peer in rates), key=lambda peer: rates[peer], default=None)
    times = dict(seconds)
    if best:
        times[BEST] = seconds[best]
        print(f"{BEST}: {best}")
    ratios = []
    for (our, peer), bar in bars.items():
        if our in times and peer in times:
            ratio = statistics.median(peer_time / our_time for our_time, peer_time in zip(times[our], times[peer]))
            verdict = "ok" if ratio >= bar else "FALLS SHORT"
            print(f"{our} over {peer}: {ratio:.2f} (at least {bar}) {verdict}")
            ratios.append({"ours": our, "peer": peer, "ratio": ratio, "bar": bar, "ok": ratio >= bar})
    return {"words_per_second": rates, "best": best, "ratios": ratios, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder", choices=list(TRAINING), default="minilm")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--text", default=str(ROOT / "corpus" / "domain.txt"), help=".txt, .jsonl or .spacy file, or a folder")
    parser.add_argument("--documents", type=int, default=500, help="documents per round")
    parser.add_argument("--warm-up", type=int, default=250, help="documents before the first round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--again", action="store_true", help="use the same documents in every round")
    parser.add_argument("--batch-size", type=int, default=256, help="documents per batch of our nlp.pipe")
    parser.add_argument("--peers", default="", help="measure these peers only, comma-separated")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    bars = BARS[device.type].get(arguments.encoder, {})
    default = {peer: None for pair in bars for peer in pair if peer != BEST}
    wanted = [peer.strip() for peer in arguments.peers.split(",")] if arguments.peers else list(default)
    samples = sample_rounds(list(read_documents([arguments.text])), arguments.documents, arguments.rounds, arguments.warm_up)
    if arguments.again:
        samples = samples[1:2] * len(samples)
    words = count_words(samples)
    with tempfile.TemporaryDirectory() as folder:
        peers = build_peers(arguments.encoder, Path(folder), wanted, arguments.batch_size, device)
        seconds = measure(peers, samples)
    result = {
        "encoder": arguments.encoder, "device": str(device), "text": Path(arguments.text).name, "documents": arguments.documents,
        "words": words, "again": arguments.again, "warm_up": arguments.warm_up, "rounds": arguments.rounds,
        "batch_size": arguments.batch_size, **report(seconds, words, bars), "environment": environment(),
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
