"""The cost of a training step: ours beside a bare PyTorch loop, and gradient methods beside static weights.

    python benchmarks/training/steps.py OUT.json --roles FILE --names FILE --questions FILE [--steps 4] [--rounds 5]

One run, the same encoder, documents and precision, interleaved. A step is one batch of each task (categories, entities, one
question per document), whose gradients are summed, and one AdamW step. The bare loop has the tokenizer, `AutoModel`, a linear
layer and cross-entropy for each task, and torch's fused AdamW; it does not align tokens, sum over the paths of a CRF, or look at
the tasks' gradients. The files are converted ones; documents of 20 to 300 words are used.
"""

import argparse
import json
import statistics
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Dict, List

import spacy
import torch
from spacy.training import Example
from torch import nn
from transformers import AutoModel

from mtl.data.docs import read_docs
from mtl.encoder.pretrained.sources import load_tokenizer, resolve_encoder
from mtl.sampling.corpus import make_example
from mtl.training.optimizer import adamw

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from environment import environment  # noqa: E402

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
BATCH_DOCS = {"roles": 12, "names": 3, "questions": 3}
WINDOW, MIN_WORDS, MAX_WORDS = 384, 20, 300
METHODS = ("PCGrad", "CAGrad", "UPGrad", "IMTLG")
Step = Callable[[int], None]  # takes the number of the step


def bare(docs: Dict[str, List[Any]], precision: str) -> Step:
    """A step of the bare loop."""
    tokenizer, model = load_tokenizer(ENCODER), AutoModel.from_pretrained(resolve_encoder(ENCODER), attn_implementation="sdpa")
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    model.config.attention_probs_dropout_prob = 0.0
    for layer in model.encoder.layer:
        layer.attention.self.dropout_prob = 0.0
    heads = nn.ModuleDict({"roles": nn.Linear(384, 5), "names": nn.Linear(384, 5), "questions": nn.Linear(384, 2)})
    parameters = [*(p for name, p in model.named_parameters() if "pooler" not in name), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-5, fused=True)

    def loss_of(task: str, batch: List[Any]) -> torch.Tensor:
        texts = [doc.text for doc in batch]
        questions = [next(iter(doc.spans["qa"].attrs["questions"].values())) for doc in batch] if task == "questions" else None
        sequences = (questions, texts) if questions else (texts,)
        inputs = tokenizer(*sequences, padding=True, truncation=True, max_length=WINDOW, return_tensors="pt")
        hidden = model(**inputs).last_hidden_state
        logits = heads[task](hidden.mean(1) if task == "roles" else hidden).float()
        logits = logits.transpose(1, 2).flatten(0, 1) if task == "questions" else logits.flatten(0, -2)
        return nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))

    def step(number: int) -> None:
        for task, size in BATCH_DOCS.items():
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = loss_of(task, docs[task][number * size : (number + 1) * size])
            loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def ours(docs: Dict[str, List[Any]], precision: str, weighting: str) -> Step:
    """A step of our pipeline with a weighting, by the beginning of its registered name."""
    nlp = spacy.blank("en")
    config = {"model": {"@architectures": "mtl.Encoder.v1", "window": WINDOW, "overlap": 64, "precision": precision}}
    nlp.add_pipe("mtl_transformer", name="transformer", config={**config, "weighting": {"@misc": f"mtl.{weighting}Weighting.v1"}})
    for factory, name in (("mtl_textcat", "textcat"), ("mtl_ner", "ner"), ("mtl_qa", "qa")):
        nlp.add_pipe(factory, name=name)
    loader = {"@misc": "mtl.HuggingFaceLoader.v1", "name": ENCODER}
    nlp.config["initialize"]["components"] = {"transformer": {"encoder_loader": loader}}
    nlp.initialize(lambda: [make_example(nlp, doc) for task_docs in docs.values() for doc in task_docs])
    optimizer = adamw(1e-5, head_lr_multiplier=1.0)

    def step(number: int) -> None:
        for task, size in BATCH_DOCS.items():
            batch: List[Example] = [make_example(nlp, doc) for doc in docs[task][number * size : (number + 1) * size]]
            nlp.update(batch, sgd=False, drop=0.1)
        nlp.get_pipe("transformer").finish_update(optimizer)

    return step


def measure(kinds: Dict[str, Step], steps: int, rounds: int) -> Dict[str, List[float]]:
    """Seconds per step of each kind in each round. The kinds take turns."""
    for step in kinds.values():
        step(0)
    seconds: Dict[str, List[float]] = {name: [] for name in kinds}
    for round_ in range(rounds):
        for name, step in kinds.items():
            started = time.perf_counter()
            for number in range(steps):
                step(number)
            seconds[name].append((time.perf_counter() - started) / steps)
            print(f"round {round_ + 1}, {name}: {seconds[name][-1]:.3f} s per step", flush=True)
    return seconds


def median_ratio(first: List[float], second: List[float]) -> float:
    """The median over the rounds of the ratio of the times."""
    return statistics.median(a / b for a, b in zip(first, second))


def verdict(is_met: bool) -> str:
    return "ok" if is_met else "FALLS SHORT"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for task in BATCH_DOCS:
        parser.add_argument(f"--{task}", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments = parser.parse_args()
    vocab = spacy.blank("en").vocab
    docs = {}
    for task, size in BATCH_DOCS.items():
        candidates = (doc for doc in read_docs(getattr(arguments, task), vocab) if MIN_WORDS <= len(doc) <= MAX_WORDS)
        docs[task] = list(islice(candidates, size * arguments.steps))
        for doc in docs[task] if task == "questions" else ():
            group = doc.spans["qa"]
            first = next(iter(group.attrs["questions"]))
            group.attrs["questions"] = {first: group.attrs["questions"][first]}
    kinds = {"bare": bare(docs, arguments.precision), "Static": ours(docs, arguments.precision, "Static")}
    kinds |= {name: ours(docs, arguments.precision, name) for name in METHODS}
    seconds = measure(kinds, arguments.steps, arguments.rounds)
    speed = median_ratio(seconds["bare"], seconds["Static"])
    costs = {name: median_ratio(seconds[name], seconds["Static"]) for name in METHODS}
    print(f"ours with static weights: {speed:.2f} times as fast as the bare loop (at least 0.9) {verdict(speed >= 0.9)}")
    for name, cost in costs.items():
        print(f"{name}: {cost:.2f} times the time of a step with static weights (at most 1.5) {verdict(cost <= 1.5)}")
    result = {
        "precision": arguments.precision, "seconds_a_step": seconds, "ours_over_bare": speed, "cost_over_static": costs,
        "documents_a_batch": BATCH_DOCS, "encoder": ENCODER, "environment": environment(),
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
