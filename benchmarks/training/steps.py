"""What a training step costs: ours beside a bare PyTorch loop, and gradient methods beside static weights.

    python benchmarks/training/steps.py OUT.json --roles FILE --names FILE --questions FILE [--steps 4] [--rounds 5]

One run, the same encoder, documents and precision, interleaved. A step is three batches of one task each (categories, entities, a
question a document), gradients added up, then one AdamW step. The bare loop has the tokenizer, `AutoModel`, a linear layer and
cross-entropy for each task, and torch's fused AdamW; it does not align tokens, sum over a CRF's paths, or look
at the tasks' gradients. Files are converted ones, of which documents of at most 300 words are taken.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import spacy
import torch
from spacy.training import Example
from torch import nn
from transformers import AutoModel

from mtl.data.docs import read_docs
from mtl.encoder.sources import load_tokenizer, resolve_encoder
from mtl.mixture.reader import make_example
from mtl.training.optimizer import adamw

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from environment import environment  # noqa: E402

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
SIZES = {"roles": 12, "names": 3, "questions": 3}  # documents a batch
WINDOW, LONGEST = 384, 300
METHODS = ("PCGrad", "CAGrad", "UPGrad", "IMTLG")
Step = Callable[[int], None]


def bare(docs: Dict[str, List[Any]], precision: str) -> Step:
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

    def loss_of(task: str, own: List[Any]) -> torch.Tensor:
        texts = [doc.text for doc in own]
        questions = [next(iter(doc.spans["qa"].attrs["questions"].values())) for doc in own] if task == "questions" else None
        given = (questions, texts) if questions else (texts,)
        inputs = tokenizer(*given, padding=True, truncation=True, max_length=WINDOW, return_tensors="pt")
        hidden = model(**inputs).last_hidden_state
        logits = heads[task](hidden.mean(1) if task == "roles" else hidden).float()
        if task == "questions":
            return nn.functional.cross_entropy(logits.transpose(1, 2).flatten(0, 1), torch.zeros(2 * len(own), dtype=torch.long))
        return nn.functional.cross_entropy(logits.flatten(0, -2), torch.zeros(logits.flatten(0, -2).shape[0], dtype=torch.long))

    def step(number: int) -> None:
        for task, size in SIZES.items():
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                loss = loss_of(task, docs[task][number * size : (number + 1) * size])
            loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def ours(docs: Dict[str, List[Any]], precision: str, balance: str) -> Step:
    nlp = spacy.blank("en")
    config = {"model": {"@architectures": "mtl.Encoder.v1", "window": WINDOW, "overlap": 64, "precision": precision}}
    nlp.add_pipe("mtl_transformer", name="transformer", config={**config, "balance": {"@misc": f"mtl.{balance}Balance.v1"}})
    for factory, name in (("mtl_textcat", "textcat"), ("mtl_ner", "ner"), ("mtl_qa", "qa")):
        nlp.add_pipe(factory, name=name)
    loader = {"@misc": "mtl.HuggingFaceLoader.v1", "name": ENCODER}
    nlp.config["initialize"]["components"] = {"transformer": {"encoder_loader": loader}}
    nlp.initialize(lambda: [make_example(nlp, doc) for own in docs.values() for doc in own])
    optimizer = adamw(1e-5, head_factor=1.0)

    def step(number: int) -> None:
        for task, size in SIZES.items():
            batch: List[Example] = [make_example(nlp, doc) for doc in docs[task][number * size : (number + 1) * size]]
            nlp.update(batch, sgd=False, drop=0.1)
        nlp.get_pipe("transformer").finish_update(optimizer)

    return step


def measure(kinds: Dict[str, Step], steps: int, rounds: int) -> Dict[str, List[float]]:
    """Seconds a step of each kind, by round; the kinds take turns."""
    for step in kinds.values():
        step(0)
    found: Dict[str, List[float]] = {name: [] for name in kinds}
    for round_ in range(rounds):
        for name, step in kinds.items():
            started = time.perf_counter()
            for number in range(steps):
                step(number)
            found[name].append((time.perf_counter() - started) / steps)
            print(f"round {round_ + 1}, {name}: {found[name][-1]:.3f} s a step", flush=True)
    return found


def ratio(one: List[float], other: List[float]) -> float:
    """The median over the rounds of the first's time over the second's."""
    return statistics.median(a / b for a, b in zip(one, other))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    for task in SIZES:
        parser.add_argument(f"--{task}", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments = parser.parse_args()
    vocab = spacy.blank("en").vocab
    docs = {}
    for task, size in SIZES.items():
        found = [doc for doc in read_docs(getattr(arguments, task), vocab) if 20 <= len(doc) <= LONGEST]
        docs[task] = found[: size * arguments.steps]
        for doc in docs[task] if task == "questions" else ():
            group = doc.spans["qa"]
            first = next(iter(group.attrs["questions"]))
            group.attrs["questions"] = {first: group.attrs["questions"][first]}
    kinds = {"bare": bare(docs, arguments.precision), "Static": ours(docs, arguments.precision, "Static")}
    kinds |= {name: ours(docs, arguments.precision, name) for name in METHODS}
    seconds = measure(kinds, arguments.steps, arguments.rounds)
    speed = ratio(seconds["bare"], seconds["Static"])
    costs = {name: ratio(seconds[name], seconds["Static"]) for name in METHODS}
    print(f"ours, static weights: {speed:.2f} times the bare loop's speed (bar 0.9: {'met' if speed >= 0.9 else 'falls short'})")
    for name, cost in costs.items():
        print(f"{name}: {cost:.2f} times a static step (bar 1.5: {'met' if cost <= 1.5 else 'falls short'})")
    result = {
        "precision": arguments.precision, "seconds_a_step": seconds, "ours_over_bare": speed, "cost_over_static": costs,
        "documents_a_batch": SIZES, "encoder": ENCODER, "environment": environment(),
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
