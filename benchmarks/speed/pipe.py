"""Words a second through `nlp.pipe`: our pipeline, the stock spacy-transformers pipeline, and the bare forward pass.

    python benchmarks/speed/pipe.py OUT.json

One run, the same documents, the same encoder weights, peers interleaved (A B C A B C ...); ratios are medians over the
rounds. Two encoders: a random one of one layer and width 32, where only the plumbing is measured, and MiniLM in fp32.
The heads are trained for some steps on the sample corpus first, so that they predict entities as a trained pipeline does.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List

import numpy as np
import spacy
import torch
from spacy.language import Language
from spacy.training import Example
from transformers import AutoModel, BertConfig, BertModel

from mtl.adapt.text import read_documents
from mtl.data.docs import read_records, record_to_doc
from mtl.data.records import Report
from mtl.encoder.sources import load_tokenizer, resolve_encoder
from mtl.encoder.windows import window_starts
from mtl.mixture.reader import make_example
from mtl.training.optimizer import adamw

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from environment import environment  # noqa: E402

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
BARS = {  # encoder -> peer -> our words/s over its, at least
    "one layer, 32 wide": {"stock": 8.0},
    "MiniLM": {"bare": 0.85, "stock": 1.5},
}
LISTENER = {
    "@architectures": "spacy-transformers.TransformerListener.v1",
    "grad_factor": 1.0,
    "pooling": {"@layers": "reduce_mean.v1"},
}


def tiny_encoder(folder: Path) -> str:
    """A random BERT of one layer and width 32 with MiniLM's tokenizer."""
    tokenizer = load_tokenizer(MINILM)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def labelled(nlp: Language) -> List[Example]:
    report = Report()
    records = list(read_records(ROOT / "corpus" / "train.jsonl", report))
    labels = sorted({label for record in records for label in record.cats or ()})
    for record in records:
        if record.cats:
            record.cats = {label: record.cats.get(label, 0.0) for label in labels}
    return [make_example(nlp, record_to_doc(record, nlp, report)) for record in records]


def ours(encoder: str, steps: int, rate: float) -> Language:
    nlp = spacy.blank("en")
    nlp.add_pipe("mtl_transformer", name="transformer")
    for head in ("textcat", "ner", "qa"):
        nlp.add_pipe(f"mtl_{head}", name=head)
    nlp.config["initialize"]["components"] = {
        "transformer": {"encoder_loader": {"@misc": "mtl.HuggingFaceLoader.v1", "name": encoder}}
    }
    examples = labelled(nlp)
    nlp.initialize(lambda: examples)
    train(nlp, examples, steps, adamw(rate))
    return nlp


def stock(encoder: str, steps: int, rate: float) -> Language:
    """spacy-transformers with ner and textcat, as spaCy's quickstart configures them."""
    nlp = spacy.blank("en")
    model = {"@architectures": "spacy-transformers.TransformerModel.v3", "name": encoder}
    nlp.add_pipe("transformer", config={"model": model})
    parser = {"@architectures": "spacy.TransitionBasedParser.v2", "state_type": "ner", "extra_state_tokens": False}
    parser |= {"hidden_width": 64, "maxout_pieces": 2, "use_upper": False, "nO": None, "tok2vec": LISTENER}
    nlp.add_pipe("ner", config={"model": parser})
    # After ner: where TextCatEnsemble is not the last listener, its training crashes in spacy-transformers 1.4.
    words = {"@architectures": "spacy.TextCatBOW.v3", "exclusive_classes": True, "length": 262144, "ngram_size": 1}
    words["no_output_layer"] = False
    ensemble = {"@architectures": "spacy.TextCatEnsemble.v2", "tok2vec": LISTENER, "linear_model": words}
    nlp.add_pipe("textcat", config={"model": ensemble})
    examples = [example for example in labelled(nlp) if example.reference.cats and example.reference.has_annotation("ENT_IOB")]
    nlp.initialize(lambda: examples)
    optimizer = nlp.create_optimizer()
    optimizer.learn_rate = rate
    train(nlp, examples, steps, optimizer)
    return nlp


def train(nlp: Language, examples: List[Example], steps: int, optimizer) -> None:
    for step in range(steps):
        chosen = [examples[(step * 8 + i) % len(examples)] for i in range(8)]
        nlp.update([Example(nlp.make_doc(eg.reference.text), eg.reference) for eg in chosen], sgd=optimizer)


def bare(encoder: str) -> Callable[[List[str]], None]:
    """Tokenise, cut into our windows, sort by length, pad, forward: the least that a pipeline with this encoder must do."""
    tokenizer, model = load_tokenizer(encoder), AutoModel.from_pretrained(resolve_encoder(encoder)).eval()
    model.pooler = None

    def run(texts: List[str]) -> None:
        for start in range(0, len(texts), 256):
            ids = [row for e in tokenizer.backend_tokenizer.encode_batch(texts[start : start + 256]) for row in cut(e.ids)]
            order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
            while order:
                size = 1
                while size < len(order) and (size + 1) * len(ids[order[size]]) <= 4096:
                    size += 1
                batch, order = [ids[i] for i in order[:size]], order[size:]
                padded = np.zeros((size, len(batch[-1])), dtype=np.int64)
                mask = np.arange(padded.shape[1]) < np.array([len(row) for row in batch])[:, None]
                padded[mask] = np.concatenate(batch)
                with torch.inference_mode():
                    model(input_ids=torch.from_numpy(padded), attention_mask=torch.from_numpy(mask.astype(np.int64)))

    return run


def cut(ids: List[int]) -> List[List[int]]:
    """A text's wordpieces, [CLS] and [SEP] included, as the windows of 512 that our encoder makes by default."""
    body = ids[1:-1]
    return [[ids[0], *body[i : i + 510], ids[-1]] for i in window_starts(len(body), 510, 128).tolist()]


def through(nlp: Language) -> Callable[[List[str]], None]:
    def run(texts: List[str]) -> None:
        for _ in nlp.pipe(texts, batch_size=256):
            pass

    return run


def measure(peers: Dict[str, Callable[[List[str]], None]], texts: List[str], rounds: int) -> Dict[str, List[float]]:
    """Seconds of each peer in each round, after one round that warms up."""
    seconds: Dict[str, List[float]] = {name: [] for name in peers}
    for turn in range(rounds + 1):
        for name, run in peers.items():
            started = time.perf_counter()
            run(texts)
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--text", default=str(ROOT / "corpus" / "domain.txt"), help="documents: .txt, .jsonl, .spacy or a folder")
    parser.add_argument("--only", default="", help="measure only the encoder whose name holds this")
    arguments = parser.parse_args()
    texts = read_documents([arguments.text])[: arguments.documents]
    words = sum(len(spacy.blank("en").make_doc(text)) for text in texts)
    result = {
        "text": Path(arguments.text).name,
        "documents": len(texts),
        "words": words,
        "rounds": arguments.rounds,
        "encoders": {},
    }
    short = []
    with tempfile.TemporaryDirectory() as folder:
        encoders = {"one layer, 32 wide": (tiny_encoder(Path(folder) / "tiny"), 60, 3e-3), "MiniLM": (MINILM, 25, 1e-4)}
        for name, (encoder, steps, rate) in encoders.items():
            if arguments.only not in name:
                continue
            peers = {"ours": through(ours(encoder, steps, rate)), "stock": through(stock(resolve_encoder(encoder), steps, rate))}
            peers["bare"] = bare(encoder)
            seconds = measure(peers, texts, arguments.rounds)
            own = {peer: words / statistics.median(times) for peer, times in seconds.items()}
            ratios = {
                peer: statistics.median(theirs / mine for mine, theirs in zip(seconds["ours"], seconds[peer]))
                for peer in ("bare", "stock")
            }
            result["encoders"][name] = {"words_per_second": own, "ours_over": ratios, "seconds": seconds}
            print(f"\n{name}")
            for peer, rate_ in own.items():
                print(f"  {peer:6} {rate_:10,.0f} words/s" + (f"   ours is {ratios[peer]:.2f} times" if peer in ratios else ""))
            for peer, bar in BARS[name].items():
                verdict = "ok" if ratios[peer] >= bar else "FALLS SHORT"
                short += [(name, peer)] if ratios[peer] < bar else []
                print(f"  at least {bar} times {peer}: {ratios[peer]:.2f} {verdict}")
    result["environment"] = environment()
    result["falls_short"] = short
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
