"""Subwords per second of continued pretraining: `mtl adapt`, Hugging Face's `run_mlm`, and the bound that the processor sets.

    python benchmarks/adapt/throughput.py OUT.json [--text FILE] [--rounds 5] [--steps 8]

One run with the same encoder and text, interleaved. The baseline is `run_mlm --line_by_line --pad_to_max_length` without its
Trainer: a paragraph in each row, padded, logits at every position, fp32, the library's own collator and AdamW. It is compared
with a step of `mtl adapt` in fp32 and in bf16. Padding is not counted in either. The bound is the arithmetic of a step divided by
the measured speed of a matrix product of the encoder's size.
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

from mtl.adaptation.blocks import BlockSettings, load_corpus
from mtl.adaptation.checkpoint import AdaptCheckpoints
from mtl.adaptation.phases import Phase, make_optimizer
from mtl.adaptation.run import Adaptation
from mtl.adaptation.settings import AdaptSettings
from mtl.adaptation.text import read_documents
from mtl.encoder.pretrained.sources import load_tokenizer, resolve_encoder
from mtl.encoder.runtime.precision import why_unsupported

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from environment import environment  # noqa: E402

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
LENGTH, ROWS = 128, 16
BARS = {"bf16": 2.5, "fp32": 1.8}  # times the baseline
Step = Callable[[int], int]  # number of a step -> subwords that it learned from
KINDS = {
    "matrix products": ("mm", "linear", "bmm"),
    "attention": ("attention",),
    "optimizer": ("adam",),
    "loss": ("softmax", "nll"),
}


def baseline_step(paragraphs: List[str]) -> Step:
    """A step of `run_mlm --line_by_line --pad_to_max_length`."""
    tokenizer = load_tokenizer(ENCODER)
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_pretrained(resolve_encoder(ENCODER)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    encodings = tokenizer(paragraphs, truncation=True, max_length=LENGTH, padding="max_length", return_special_tokens_mask=True)
    examples = [{key: encodings[key][i] for key in encodings} for i in range(len(paragraphs))]

    def step(number: int) -> int:
        rows = [examples[(number * ROWS + i) % len(examples)] for i in range(ROWS)]
        batch = collate([dict(example) for example in rows])
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return int(batch["attention_mask"].sum())

    return step


def adapt_step(text: str, precision: str, cache: Path) -> Step:
    """A step of `mtl adapt`."""
    settings = AdaptSettings(block_size=LENGTH, batch_size=ROWS, precision=precision, device="cpu")
    run = Adaptation(ENCODER, settings)
    corpus = load_corpus([text], run.objective.tokenizer, BlockSettings(LENGTH, 0.05, 0), cache, print)
    trainer = run.trainer(corpus, None, AdaptCheckpoints(cache / "none", {}, 1))
    model = run.objective.model.train()
    phase = Phase("encoder", list(model.parameters()), 1e-5, 1000, 0)
    optimizer = make_optimizer(model, phase, settings)

    def step(number: int) -> int:
        trainer.step(optimizer, number, phase.parameters)
        return int(trainer.batches[number].attention_mask.sum())

    return step


def padding_fraction(text: str, cache: Path) -> float:
    """Fraction of the positions in packed blocks that are padding."""
    tokenizer = load_tokenizer(ENCODER)
    corpus = load_corpus([text], tokenizer, BlockSettings(LENGTH, 0.05, 0), cache, print)
    padding = sum(int((row["subwords"] == tokenizer.pad_token_id).sum()) for row in corpus.train)
    return padding / (len(corpus.train) * LENGTH)


def operations() -> float:
    """Floating-point operations per subword: 2 per weight forward and 4 backward, attention, the head for 15%."""
    config = AutoModelForMaskedLM.from_pretrained(resolve_encoder(ENCODER)).config
    width, inner = config.hidden_size, config.intermediate_size
    layer = 2 * (4 * width * width + 2 * width * inner) + 4 * LENGTH * width
    head = 0.15 * 2 * (width * width + width * config.vocab_size)
    return 3 * (config.num_hidden_layers * layer + head)


def matrix_rate(dtype: torch.dtype) -> float:
    """Floating-point operations per second of a matrix product of the encoder's largest layer, the best of 50."""
    left, right = torch.randn(LENGTH * ROWS, 384).to(dtype), torch.randn(384, 1536).to(dtype)
    best = 0.0
    for _ in range(50):
        started = time.perf_counter()
        left @ right
        best = max(best, 2 * left.numel() * right.shape[1] / (time.perf_counter() - started))
    return best


def where_time_goes(step: Step) -> Dict[str, float]:
    """Fraction of the time that each kind of operation takes in three steps."""
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
    precisions = ["fp32"] if why_unsupported("bf16", "torch", torch.device("cpu")) else ["fp32", "bf16"]
    paragraphs = [line for text in read_documents([arguments.text]) for line in text.splitlines()][:2000]
    with tempfile.TemporaryDirectory() as cache:
        steps: Dict[str, Step] = {"baseline": baseline_step(paragraphs)}
        steps |= {precision: adapt_step(arguments.text, precision, Path(cache)) for precision in precisions}
        padding = padding_fraction(arguments.text, Path(cache))
        rates: Dict[str, List[float]] = {name: [] for name in steps}
        for turn in range(arguments.rounds + 1):
            for name, step in steps.items():
                started = time.perf_counter()
                subwords = sum(step(turn * arguments.steps + i) for i in range(arguments.steps))
                if turn:
                    rates[name].append(subwords / (time.perf_counter() - started))
            print(f"round {turn} of {arguments.rounds}", flush=True)
        kinds = {name: where_time_goes(step) for name, step in steps.items()}
    report(arguments, rates, padding, kinds)


def report(arguments: argparse.Namespace, rates: Dict[str, List[float]], padding: float, kinds: Dict[str, Any]) -> None:
    result: Dict[str, Any] = {"text": Path(arguments.text).name, "rounds": arguments.rounds, "steps": arguments.steps}
    result |= {"padding": padding, "operations_per_subword": operations(), "where_time_goes": kinds, "precisions": {}}
    print(f"{'baseline':8}{statistics.median(rates['baseline']):10,.0f} subwords/s")
    for name in (name for name in rates if name != "baseline"):
        rate = statistics.median(rates[name])
        ratio = statistics.median(adapt / baseline for adapt, baseline in zip(rates[name], rates["baseline"]))
        bound = matrix_rate(torch.bfloat16 if name == "bf16" else torch.float32) / operations()
        verdict = "ok" if ratio >= BARS[name] else "FALLS SHORT"
        print(f"{name:8}{rate:10,.0f} subwords/s, {ratio:.2f} times the baseline (at least {BARS[name]}) {verdict}")
        print(f"        {rate / bound:.0%} of the arithmetic bound of {bound:,.0f}; {kinds[name]}")
        result["precisions"][name] = {
            "subwords_per_second": rate, "over_baseline": ratio, "bar": BARS[name], "ok": ratio >= BARS[name],
            "bound": bound, "share_of_bound": rate / bound,
        }  # fmt: skip
    print(f"padding: {padding:.2%} of positions (at most 2%) {'ok' if padding < 0.02 else 'FALLS SHORT'}")
    result |= {"subwords_per_second": rates, "environment": environment()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
