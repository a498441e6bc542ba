"""Train single-task twins: each head alone with the plain Hugging Face class, on the same Docs and encoder as the joint run.

    python benchmarks/biomedical/twins.py ENCODER CORPUS OUT.json --epochs ner=6,roles=1,qa=2 --learning-rate 1e-4 --batch-size 16

CORPUS contains {train,dev}/{ner,roles,qa}. The tokens are spaCy's, which the tokenizer gets as words, and the scores are computed
by the functions that score the pipeline's heads. So only the model and its training differ.
"""

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Tuple

import spacy
import torch
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import filter_spans
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    get_linear_schedule_with_warmup,
)

from mtl.data.docs import read_docs
from mtl.encoder.pretrained.architecture import set_attention_dropout
from mtl.encoder.pretrained.sources import load_tokenizer, resolve_encoder
from mtl.tasks.qa.metrics import score_answers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from environment import environment

NLP = spacy.blank("en")
WARMUP, DECAY = 0.1, 0.01
PREDICTION_BATCH = 16
Batch = Tuple[List[Dict], Callable]


@dataclass(frozen=True)
class Settings:
    epochs: int
    learning_rate: float
    batch_size: int
    seed: int
    precision: str  # fp32, or bf16 for autocast


def autocast(settings: Settings):
    return torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bf16")


def fit(model, features: List[Dict], settings: Settings, collate: Callable, name: str) -> None:
    """Train with AdamW, linear warm-up and decay, as the Hugging Face example scripts do."""
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": DECAY},
        {"params": no_decay, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
    steps = settings.epochs * math.ceil(len(features) / settings.batch_size)
    schedule = get_linear_schedule_with_warmup(optimizer, round(WARMUP * steps), steps)
    generator = torch.Generator().manual_seed(settings.seed)
    model.train()
    with tqdm(total=steps, desc=name, mininterval=20) as bar:
        for _ in range(settings.epochs):
            order = torch.randperm(len(features), generator=generator).tolist()
            for start in range(0, len(order), settings.batch_size):
                rows = [features[i] for i in order[start : start + settings.batch_size]]
                with autocast(settings):
                    loss = model(**collate(rows)).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                bar.update()
                bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    model.eval()


def plain(auto_class, encoder: str, **settings):
    """The plain Hugging Face model, without dropout of attention weights, as in the joint run."""
    config = AutoConfig.from_pretrained(resolve_encoder(encoder), **settings)
    set_attention_dropout(config, 0.0)
    return auto_class.from_pretrained(resolve_encoder(encoder), config=config)


def padded(rows: List[Dict], names: Tuple[str, ...], fill: Dict[str, int]) -> Dict[str, torch.Tensor]:
    longest = max(len(row["input_ids"]) for row in rows)
    return {n: torch.tensor([row[n] + [fill.get(n, 0)] * (longest - len(row[n])) for row in rows]) for n in names}


INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@torch.no_grad()
def logits(model, features: List[Dict], settings: Settings, names: Tuple[str, ...] = INPUTS):
    """Yield the index of each feature and its output, in order of length, so that there is little padding."""
    order = sorted(range(len(features)), key=lambda i: len(features[i]["input_ids"]))
    for start in range(0, len(order), PREDICTION_BATCH):
        chosen = order[start : start + PREDICTION_BATCH]
        with autocast(settings):
            output = model(**padded([features[i] for i in chosen], names, {}))
        for row, i in enumerate(chosen):
            yield i, {key: value[row].float() for key, value in output.items()}


def roles(encoder: str, train: List[Doc], dev: List[Doc], settings: Settings) -> Dict[str, float]:
    labels = sorted(train[0].cats)
    tokenizer = load_tokenizer(encoder)

    def features(docs: List[Doc]) -> List[Dict]:
        encoded = tokenizer([doc.text for doc in docs], truncation=True, max_length=512)
        return [
            {**{n: encoded[n][i] for n in INPUTS}, "labels": labels.index(max(doc.cats, key=doc.cats.get))}
            for i, doc in enumerate(docs)
        ]

    def collate(rows: List[Dict]) -> Dict[str, torch.Tensor]:
        return padded(rows, INPUTS, {}) | {"labels": torch.tensor([row["labels"] for row in rows])}

    model = plain(AutoModelForSequenceClassification, encoder, num_labels=len(labels))
    fit(model, features(train), settings, collate, "roles")
    rows = features(dev)
    right = [int(output["logits"].argmax()) == rows[i]["labels"] for i, output in logits(model, rows, settings)]
    return {"cats_accuracy": sum(right) / len(right)}


def ner(encoder: str, train: List[Doc], dev: List[Doc], settings: Settings) -> Dict[str, float]:
    types = sorted({ent.label_ for doc in train for ent in doc.ents})
    tags = ["O", *(f"{prefix}-{label}" for label in types for prefix in "BI")]
    tokenizer = load_tokenizer(encoder)

    def features(docs: List[Doc]) -> List[Dict]:
        rows = []
        for number, doc in enumerate(docs):
            words = [token.text for token in doc]
            encoded = tokenizer(
                words, is_split_into_words=True, truncation=True, max_length=512, stride=128, return_overflowing_tokens=True
            )
            for part in range(len(encoded["input_ids"])):
                firsts, previous = [], None
                for word in encoded.word_ids(part):
                    firsts.append(word if word is not None and word != previous else None)
                    previous = word
                gold = [-100 if w is None or not doc[w].ent_iob else tags.index(_tag(doc[w])) for w in firsts]
                rows.append({**{n: encoded[n][part] for n in INPUTS}, "labels": gold, "words": firsts, "doc": number})
        return rows

    def collate(rows: List[Dict]) -> Dict[str, torch.Tensor]:
        return padded(rows, (*INPUTS, "labels"), {"labels": -100})

    model = plain(AutoModelForTokenClassification, encoder, num_labels=len(tags))
    fit(model, features(train), settings, collate, "ner")
    rows = features(dev)
    predicted = [["O"] * len(doc) for doc in dev]
    for i, output in logits(model, rows, settings):
        for word, tag in zip(rows[i]["words"], output["logits"].argmax(-1).tolist()):
            if word is not None:
                predicted[rows[i]["doc"]][word] = tags[tag]
    examples = []
    for doc, doc_tags in zip(dev, predicted):
        out = Doc(NLP.vocab, words=[t.text for t in doc], spaces=[bool(t.whitespace_) for t in doc])
        out.set_ents(filter_spans(_spans(out, doc_tags)))
        examples.append(Example(out, doc))
    scores = get_ner_prf(examples)
    return {key: scores[key] for key in ("ents_p", "ents_r", "ents_f")}


def _tag(token) -> str:
    return "O" if token.ent_iob_ == "O" else f"{token.ent_iob_}-{token.ent_type_}"


def _spans(doc: Doc, tags: List[str]) -> List:
    """The entities of a tag sequence, read leniently: an I- that continues nothing begins an entity."""
    spans, start = [], None
    for i, tag in enumerate([*tags, "O"]):
        if start is not None and tag != f"I-{tags[start][2:]}":
            spans.append(doc.char_span(doc[start].idx, doc[i - 1].idx + len(doc[i - 1]), label=tags[start][2:]))
            start = None
        if start is None and tag != "O":
            start = i
    return spans


def qa(encoder: str, train: List[Doc], dev: List[Doc], settings: Settings) -> Dict[str, float]:
    tokenizer = load_tokenizer(encoder)

    def features(docs: List[Doc]) -> List[Dict]:
        rows = []
        for number, doc in enumerate(docs):
            group = doc.spans["qa"]
            for id, question in group.attrs["questions"].items():
                gold = next((span for span in group if span.id_ == id), None)
                encoded = tokenizer(
                    question, doc.text, truncation="only_second", max_length=384, stride=128,
                    return_overflowing_tokens=True, return_offsets_mapping=True,
                )  # fmt: skip
                for part in range(len(encoded["input_ids"])):
                    inside = [s == 1 for s in encoded.sequence_ids(part)]
                    offsets = encoded["offset_mapping"][part]
                    ends = _ends(offsets, inside, gold)
                    rows.append(
                        {**{n: encoded[n][part] for n in INPUTS}, "start_positions": ends[0], "end_positions": ends[1],
                         "offsets": offsets, "inside": inside, "id": id, "doc": number}
                    )  # fmt: skip
        return rows

    def collate(rows: List[Dict]) -> Dict[str, torch.Tensor]:
        gold = {n: torch.tensor([row[n] for row in rows]) for n in ("start_positions", "end_positions")}
        return padded(rows, INPUTS, {}) | gold

    model = plain(AutoModelForQuestionAnswering, encoder)
    fit(model, features(train), settings, collate, "qa")
    rows = features(dev)
    best: Dict[str, Tuple[float, str]] = {}
    for i, output in logits(model, rows, settings):
        row = rows[i]
        score, start, end = _best_span(output["start_logits"], output["end_logits"], torch.tensor(row["inside"]), 400)
        text = dev[row["doc"]].text[row["offsets"][start][0] : row["offsets"][end][1]]
        best[row["id"]] = max(best.get(row["id"], (-math.inf, "")), (score, text))
    golds = {id: answers for doc in dev for id, answers in doc.spans["qa"].attrs["answers"].items()}
    return score_answers({id: text for id, (_, text) in best.items()}, golds)


def _ends(offsets: List[Tuple[int, int]], inside: List[bool], gold) -> Tuple[int, int]:
    """First and last subword of the gold answer in this window; those of [CLS] if the window does not contain all of it."""
    if gold is not None:
        covered = [i for i, (s, e) in enumerate(offsets) if inside[i] and s < gold.end_char and e > gold.start_char]
        if covered and offsets[covered[0]][0] <= gold.start_char and offsets[covered[-1]][1] >= gold.end_char:
            return covered[0], covered[-1]
    return 0, 0


def _best_span(start: torch.Tensor, end: torch.Tensor, inside: torch.Tensor, longest: int) -> Tuple[float, int, int]:
    size = min(int(inside.sum()), len(start[: len(inside)]))
    start = start[: len(inside)].masked_fill(~inside, -1e4)
    end = end[: len(inside)].masked_fill(~inside, -1e4)
    scores = (start[:, None] + end[None, :]).triu().tril(longest - 1)
    scores = scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).triu().tril(longest - 1), -1e9)
    flat = int(scores.argmax())
    assert size > 0
    return float(scores.max()), flat // len(inside), flat % len(inside)


TASKS = {"ner": ner, "roles": roles, "qa": qa}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", default="ner=6,roles=1,qa=2", help="epochs over the data of each task")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    arguments = parser.parse_args()
    result = {"encoder": arguments.encoder, "seed": arguments.seed, "epochs": arguments.epochs, "tasks": {}}
    result["settings"] = {
        "learning_rate": arguments.learning_rate, "warmup_ratio": WARMUP, "batch_size": arguments.batch_size,
        "weight_decay": DECAY,
    }  # fmt: skip
    result["settings"]["precision"] = arguments.precision
    for pair in arguments.epochs.split(","):
        task, epochs = pair.split("=")
        torch.manual_seed(arguments.seed)
        train, dev = (list(_docs(arguments.corpus / split, task)) for split in ("train", "dev"))
        started = time.monotonic()
        settings = Settings(int(epochs), arguments.learning_rate, arguments.batch_size, arguments.seed, arguments.precision)
        scores = TASKS[task](arguments.encoder, train, dev, settings)
        seconds = round(time.monotonic() - started)
        result["tasks"][task] = {"train": len(train), "dev": len(dev), "seconds": seconds, **scores}
        print(task, json.dumps(result["tasks"][task]), flush=True)
        result["environment"] = environment()
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


def _docs(folder: Path, task: str):
    path = folder / task
    return read_docs(path if path.exists() else path.with_suffix(".spacy"), NLP.vocab)


if __name__ == "__main__":
    main()
