"""Wordpieces a second of continued pretraining: ours beside Hugging Face's `run_mlm`, and how far from what the processor can do.

    python benchmarks/adapt/throughput.py OUT.json [--text FILE] [--rounds 5] [--steps 8]

One run, the same encoder and text, interleaved. Theirs is `run_mlm --line_by_line --pad_to_max_length` without its Trainer: a
paragraph a row, padded, logits at every position, fp32, the library's own collator and AdamW. Ours is `mtl adapt`'s step in fp32,
and in bf16. Padding is not counted, in either. The bound is the arithmetic of a step over the rate of a matrix product of the
encoder's size, measured here.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForMaskedLM, DataCollatorForLanguageModeling

from mtl.adapt.blocks import BlockSettings, load_corpus
from mtl.adapt.checkpoint import Checkpoints
from mtl.adapt.loop import Adaptation
from mtl.adapt.settings import AdaptSettings
from mtl.adapt.text import read_documents
from mtl.adapt.trainer import Phase
from mtl.encoder.precision import lacks
from mtl.encoder.sources import load_tokenizer, resolve_encoder

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from environment import environment  # noqa: E402

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
LENGTH, ROWS = 128, 16
BARS = {"bf16": 2.5, "fp32": 1.8}  # times theirs
Step = Callable[[int], int]  # the number of a step -> the wordpieces that it learned from
KINDS = {
    "matrix products": ("mm", "linear", "bmm"),
    "attention": ("attention",),
    "optimizer": ("adam",),
    "loss": ("softmax", "nll"),
}


def theirs(paragraphs: List[str]) -> Step:
    """A step of `run_mlm --line_by_line --pad_to_max_length`."""
    tokenizer = load_tokenizer(ENCODER)
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_pretrained(resolve_encoder(ENCODER)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    rows = tokenizer(paragraphs, truncation=True, max_length=LENGTH, padding="max_length", return_special_tokens_mask=True)
    examples = [{key: rows[key][i] for key in rows} for i in range(len(paragraphs))]

    def step(number: int) -> int:
        chosen = [examples[(number * ROWS + i) % len(examples)] for i in range(ROWS)]
        batch = collate([dict(one) for one in chosen])
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return int(batch["attention_mask"].sum())

    return step


def ours(text: str, precision: str, cache: Path) -> Step:
    """A step of `mtl adapt`."""
    run = Adaptation(ENCODER, AdaptSettings(length=LENGTH, batch_blocks=ROWS, precision=precision, device="cpu"))
    corpus = load_corpus([text], run.tokenizer, BlockSettings(LENGTH, 0.05, 0), cache, print)
    trainer = run.trainer(corpus, None, Checkpoints(cache / "none", 1, {}))
    phase = Phase("encoder", list(run.model.parameters()), 1e-5, 1000, 0)
    optimizer = trainer.optimizer(phase)
    run.model.train()

    def step(number: int) -> int:
        trainer.step(optimizer, number, phase.parameters)
        return int(trainer.batches[number][1].sum())

    return step


def waste(text: str, cache: Path) -> float:
    """The share of positions in packed blocks that are padding."""
    tokenizer = load_tokenizer(ENCODER)
    corpus = load_corpus([text], tokenizer, BlockSettings(LENGTH, 0.05, 0), cache, print)
    padding = sum(int((row["pieces"] == tokenizer.pad_token_id).sum()) for row in corpus.train)
    return padding / (len(corpus.train) * LENGTH)


def operations() -> float:
    """Floating-point operations a wordpiece: 2 a weight forward and 4 backward, attention, the head for 15%."""
    config = AutoModelForMaskedLM.from_pretrained(resolve_encoder(ENCODER)).config
    width, inner = config.hidden_size, config.intermediate_size
    layer = 2 * (4 * width * width + 2 * width * inner) + 4 * LENGTH * width
    head = 0.15 * 2 * (width * width + width * config.vocab_size)
    return 3 * (config.num_hidden_layers * layer + head)


def matrix_rate(dtype: torch.dtype) -> float:
    """Floating-point operations a second of a matrix product of the encoder's largest layer, the best of several."""
    left, right = torch.randn(LENGTH * ROWS, 384).to(dtype), torch.randn(384, 1536).to(dtype)
    best = 0.0
    for _ in range(50):
        started = time.perf_counter()
        left @ right
        best = max(best, 2 * left.numel() * right.shape[1] / (time.perf_counter() - started))
    return best


def where_time_goes(step: Step) -> Dict[str, float]:
    """The share of each kind of operation in three steps."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for number in range(3):
            step(number)
    shares = dict.fromkeys([*KINDS, "other"], 0.0)
    events = profiler.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    for event in events:
        kind = next((kind for kind, names in KINDS.items() if any(name in event.key.lower() for name in names)), "other")
        shares[kind] += event.self_cpu_time_total / total
    return {kind: round(share, 3) for kind, share in shares.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", default=str(ROOT / "corpus" / "domain.txt"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    arguments = parser.parse_args()
    precisions = ["fp32"] if lacks("bf16", torch.device("cpu")) else ["fp32", "bf16"]
    paragraphs = [line for text in read_documents([arguments.text]) for line in text.splitlines()][:2000]
    with tempfile.TemporaryDirectory() as cache:
        steps: Dict[str, Step] = {"theirs": theirs(paragraphs)}
        steps |= {precision: ours(arguments.text, precision, Path(cache)) for precision in precisions}
        padding = waste(arguments.text, Path(cache))
        rates: Dict[str, List[float]] = {name: [] for name in steps}
        for turn in range(arguments.rounds + 1):
            for name, step in steps.items():
                started = time.perf_counter()
                pieces = sum(step(turn * arguments.steps + i) for i in range(arguments.steps))
                if turn:
                    rates[name].append(pieces / (time.perf_counter() - started))
            print(f"round {turn} of {arguments.rounds}", flush=True)
        kinds = {name: where_time_goes(step) for name, step in steps.items()}
    report(arguments, rates, padding, kinds)


def report(arguments: argparse.Namespace, rates: Dict[str, List[float]], padding: float, kinds: Dict[str, Any]) -> None:
    result: Dict[str, Any] = {"text": Path(arguments.text).name, "rounds": arguments.rounds, "steps": arguments.steps}
    result |= {"padding": padding, "operations_a_wordpiece": operations(), "where_time_goes": kinds, "precisions": {}}
    print(f"{'theirs':8}{statistics.median(rates['theirs']):10,.0f} wordpieces/s")
    for name in (name for name in rates if name != "theirs"):
        rate = statistics.median(rates[name])
        ratio = statistics.median(own / other for own, other in zip(rates[name], rates["theirs"]))
        bound = matrix_rate(torch.bfloat16 if name == "bf16" else torch.float32) / operations()
        verdict = "ok" if ratio >= BARS[name] else "FALLS SHORT"
        print(f"{name:8}{rate:10,.0f} wordpieces/s, {ratio:.2f} times theirs (at least {BARS[name]}) {verdict}")
        print(f"        {rate / bound:.0%} of the arithmetic bound of {bound:,.0f}; {kinds[name]}")
        result["precisions"][name] = {
            "wordpieces_per_second": rate, "over_theirs": ratio, "bar": BARS[name], "ok": ratio >= BARS[name],
            "bound": bound, "share_of_bound": rate / bound,
        }  # fmt: skip
    print(f"padding: {padding:.2%} of positions (at most 2%) {'ok' if padding < 0.02 else 'FALLS SHORT'}")
    result |= {"wordpieces_per_second": rates, "environment": environment()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
