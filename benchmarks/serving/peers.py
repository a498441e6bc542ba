"""Words a second of our pipeline beside its peers: the bare forward pass, stock spaCy, Hugging Face pipelines, EDS-NLP.

    python benchmarks/serving/peers.py OUT.json --text FILE [--encoder minilm | plumbing] [--peers ours,bare,...]

One run, the same encoder weights, peers interleaved (A B C A B C ...); a round has its own documents, the same for all peers,
which none of them has met before (with --again: all have); ratios are medians over the rounds. All three of our heads run; a
question is asked of every tenth document, in our pipeline, the bare pass and Hugging Face's (the others have no such head).
"plumbing" is a random encoder of one layer and width 32, where only what is around the encoder counts; its documents have no
questions. "base" is a random encoder of BERT base's shape, for a GPU. EDS-NLP needs edsnlp[ml], which is not among our extras,
and stock spaCy on a GPU CuPy.
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
    through,
)  # fmt: skip

from mtl.adapt.text import read_documents
from mtl.encoder.limits import pick_device
from mtl.encoder.precision import HALF

from environment import environment  # isort: skip  (pipelines.py puts its folder on the path)

STEPS = {"plumbing": (60, 3e-3), "minilm": (25, 1e-4), "base": (25, 1e-4)}  # of training, and the learning rate
SHAPES: Dict[str, Dict[str, int]] = {"plumbing": TINY, "base": {}}  # of the random encoders
LOW = "ours bf16", "ours fp16", "ours int8"
BEST = "ours at best"  # the fastest of those that were measured
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


def shares(bar: float) -> Dict:
    """Of the bare pass in the same precision."""
    return {("ours" + kind, "bare" + kind): bar for kind in ("", " bf16", " fp16")}


BARS = {  # device -> encoder -> (ours, peer) -> at least so many times the peer's words/s
    "cpu": {
        "plumbing": PLUMBING,
        "minilm": {("ours", "bare"): 0.95, ("ours bf16", "bare"): 1.5, ("ours int8", "bare"): 2.0} | OVER_PEERS,
    },
    "cuda": {"plumbing": PLUMBING, "minilm": shares(0.7) | OVER_PEERS, "base": shares(0.9) | OVER_PEERS},
}


def build(encoder: str, folder: Path, wanted: List[str], batch_size: int, device: torch.device) -> Dict[str, Run]:
    """The wanted peers, ready to run."""
    name = random_encoder(folder / "encoder", **SHAPES[encoder]) if encoder in SHAPES else MINILM
    steps, rate = STEPS[encoder]
    if device.type == "cuda" and "stock" in wanted:
        spacy.require_gpu(device.index or 0)
    asking = encoder != "plumbing"
    saved = folder / "ours"
    if any(peer.startswith("ours") for peer in wanted):
        ours(name, steps, rate, saved)

    def own(precision: str, backend: str = "auto") -> Run:
        given = {"precision": precision, "backend": backend, "device": str(device), "fallback": False}
        nlp = spacy.load(saved, config={f"components.transformer.model.{key}": value for key, value in given.items()})
        return through(nlp, batch_size, asking)

    makers: Dict[str, Callable[[], Run]] = {
        "ours": lambda: own("fp32"),
        "ours bf16": lambda: own("bf16"),
        "ours fp16": lambda: own("fp16"),
        "ours int8": lambda: own("int8"),
        "ours fp32 openvino": lambda: own("fp32", "openvino"),
        "bare": lambda: bare(name, asking, device),
        **{f"bare {kind}": lambda dtype=dtype: bare(name, asking, device, dtype=dtype) for kind, dtype in HALF.items()},
        "stock": lambda: through(stock(resolve_encoder(name), steps, rate), 256, False),
        "hf one by one": lambda: huggingface(name, 1, device),
        "hf in batches of 16": lambda: huggingface(name, 16, device),
        "edsnlp ner alone": lambda: through(edsnlp_ner(resolve_encoder(name), steps, rate, device), 256, False),
        "edsnlp ner and qa": lambda: edsnlp_ner_qa(resolve_encoder(name), steps, rate, device),
    }
    unknown = sorted(set(wanted) - set(makers))
    if unknown:
        raise SystemExit(f"--peers {','.join(unknown)}: not known; there are {', '.join(makers)}")
    return {peer: makers[peer]() for peer in wanted}


def draw(texts: List[str], count: int, rounds: int, warm_up: int) -> List[List[str]]:
    """`warm_up` texts, and `count` for each round, none twice, the same ones in every run."""
    needed = warm_up + count * rounds
    if len(texts) < needed:
        raise SystemExit(
            f"{len(texts)} documents are too few for {rounds} rounds of {count}, and {warm_up} before them: {needed}"
        )
    drawn = random.Random(0).sample(texts, needed)
    return [drawn[:warm_up], *(drawn[i : i + count] for i in range(warm_up, needed, count))]


def count_words(samples: List[List[str]]) -> List[int]:
    """spaCy's tokens in each round's texts."""
    nlp = spacy.blank("en")
    return [sum(len(nlp.make_doc(text)) for text in texts) for texts in samples[1:]]


def measure(peers: Dict[str, Run], samples: List[List[str]]) -> Dict[str, List[float]]:
    """Seconds of each peer in each round; the first sample warms up."""
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
    """Words a second, the median over the rounds."""
    return {peer: statistics.median(count / own for count, own in zip(words, times)) for peer, times in seconds.items()}


def report(seconds: Dict[str, List[float]], words: List[int], bars: Dict) -> Dict[str, Any]:
    """Words a second, the ratios that have a bar, and which of them fall short; printed as a table."""
    rates = median_rates(seconds, words)
    for peer, rate in rates.items():
        print(f"{peer:22}{rate:12,.0f} words/s")
    known, best = dict(seconds), max((peer for peer in LOW if peer in rates), key=lambda peer: rates[peer], default=None)
    if best:
        known[BEST] = seconds[best]
        print(f"{BEST}: {best}")
    ratios = []
    for (mine, peer), bar in bars.items():
        if mine in known and peer in known:
            ratio = statistics.median(theirs / own for own, theirs in zip(known[mine], known[peer]))
            verdict = "ok" if ratio >= bar else "FALLS SHORT"
            print(f"{mine} over {peer}: {ratio:.2f} (at least {bar}) {verdict}")
            ratios.append({"ours": mine, "peer": peer, "ratio": ratio, "bar": bar, "ok": ratio >= bar})
    return {"words_per_second": rates, "best": best, "ratios": ratios, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--encoder", choices=list(STEPS), default="minilm")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--text", default=str(ROOT / "corpus" / "domain.txt"), help="documents: .txt, .jsonl, .spacy or a folder")
    parser.add_argument("--documents", type=int, default=500, help="in a round")
    parser.add_argument("--warm-up", type=int, default=250, help="documents before the first round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--again", action="store_true", help="the same documents in every round, which all have met then")
    parser.add_argument("--batch-size", type=int, default=256, help="of our nlp.pipe")
    parser.add_argument("--peers", default="", help="of these only, comma-separated")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    bars = BARS[device.type].get(arguments.encoder, {})
    default = {peer: None for pair in bars for peer in pair if peer != BEST}
    wanted = [peer.strip() for peer in arguments.peers.split(",")] if arguments.peers else list(default)
    samples = draw(list(read_documents([arguments.text])), arguments.documents, arguments.rounds, arguments.warm_up)
    if arguments.again:
        samples = samples[1:2] * len(samples)
    words = count_words(samples)
    with tempfile.TemporaryDirectory() as folder:
        peers = build(arguments.encoder, Path(folder), wanted, arguments.batch_size, device)
        seconds = measure(peers, samples)
    result = {
        "encoder": arguments.encoder,
        "device": str(device),
        "text": Path(arguments.text).name,
        "documents": arguments.documents,
        "words": words,
    }
    result |= {
        "again": arguments.again,
        "warm_up": arguments.warm_up,
        "rounds": arguments.rounds,
        "batch_size": arguments.batch_size,
    }
    result |= report(seconds, words, bars)
    result["environment"] = environment()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
