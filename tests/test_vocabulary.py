"""Domain words as wordpieces: which, how they begin, and that they are kept only where they pay."""

import json

import numpy as np
import pytest
import torch
from conftest import FAMILIES, make_nlp, save_tiny
from transformers import AutoModelForMaskedLM, AutoTokenizer

from mtl.adapt.settings import AdaptSettings
from mtl.adapt.vocabulary import adapt_with_words
from mtl.adapt.words import domain_words, grow
from mtl.encoder.mlm import load_mlm
from mtl.encoder.sources import load_tokenizer
from mtl.encoder.wordpieces import Tokens
from mtl.errors import UserError

SMALL = {"length": 32, "batch_blocks": 4, "device": "cpu", "precision": "fp32", "held_out": 0.1}
WORDS = ["metformin", "hydrochlorothiazide", "placebo"]
MASKED = [name for name in FAMILIES if name != "gpt2"]


def test_words_that_save_most_come_first(tiny):
    tokenizer = load_tokenizer(tiny())
    given = "Metformin and METFORMIN, metformin; nitroglycerin. a1b2c3d4e5 the the, unknownzzz"  # no z in the vocabulary
    texts = [given] * 10 + ["rarelymentioned"] * 19
    assert domain_words(texts, tokenizer, 5) == ["metformin"]  # three times ten; the other ten times only
    assert set(domain_words(texts * 2, tokenizer, 5)) == {"metformin", "nitroglycerin", "rarelymentioned"}
    assert len(domain_words(texts * 2, tokenizer, 2)) == 2
    pieces = {word: len(tokenizer(word, add_special_tokens=False)["input_ids"]) for word in ("metformin", "rarelymentioned")}
    saved = {"metformin": 60 * (pieces["metformin"] - 1), "rarelymentioned": 38 * (pieces["rarelymentioned"] - 1)}
    order = domain_words(texts * 2, tokenizer, 5)
    assert (order.index("metformin") < order.index("rarelymentioned")) == (saved["metformin"] > saved["rarelymentioned"])


@pytest.mark.parametrize("family", MASKED)
def test_a_grown_vocabulary_is_an_ordinary_folder(tiny, tmp_path, family):
    tokenizer, (model, _) = load_tokenizer(tiny(family)), load_mlm(tiny(family))
    before = len(tokenizer)
    pieces = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in WORDS]
    rows = model.get_input_embeddings().weight.detach().clone()
    grow(model, tokenizer, WORDS)
    model.save_pretrained(tmp_path / "out")
    tokenizer.save_pretrained(tmp_path / "out")
    loaded, again = AutoModelForMaskedLM.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(again) == before + 3
    embeddings = loaded.get_input_embeddings().weight
    for number, (word, own) in enumerate(zip(WORDS, pieces)):
        (found,) = again(word, add_special_tokens=False)["input_ids"]
        assert found == before + number and torch.allclose(embeddings[found], rows[own].mean(0), atol=1e-6)
    text = "Of metformin, placebo and nonplacebos."
    encoding = again.backend_tokenizer.encode(text, add_special_tokens=False)
    parts = [text[start:end].strip() for start, end in encoding.offsets]
    assert parts.count("metformin") == parts.count("placebo") == 1  # not within another word
    place = parts.index("placebo")
    assert encoding.word_ids.count(encoding.word_ids[place]) == 1
    assert torch.isfinite(loaded(again(text, return_tensors="pt")["input_ids"]).logits).all()


def test_a_pipeline_aligns_added_words(tmp_path):
    folder = save_tiny("bert", tmp_path / "encoder")
    tokenizer, (model, _) = load_tokenizer(folder), load_mlm(folder)
    grow(model, tokenizer, WORDS)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    encoder = make_nlp(folder, heads=("textcat",)).get_pipe("transformer").encoder
    found = encoder.encode([Tokens("Of metformin daily", np.array([0, 3, 13]), np.array([2, 12, 18]))])
    assert found.vectors.shape == (3, 32) and found.aligned.all()


def corpus(path):
    texts = [f"metformin was better than placebo and {word} metformin was placebo" for word in ("so", "then", "again", "now")]
    path.write_text("\n\n".join(texts * 12))
    return [str(path)]


def test_the_better_vocabulary_is_kept(tiny, tmp_path):
    said, texts = [], corpus(tmp_path / "domain.txt")
    settings = AdaptSettings(passes=6, learn_rate=3e-3, **SMALL)
    report = adapt_with_words(tiny(), settings, 5, texts, [], tmp_path / "out", True, None, said.append)
    bits = report["vocabulary"]["bits_per_byte"]
    kept = report["vocabulary"]["kept"]
    assert bits[kept] == min(bits.values()) == report["bits_per_byte"] and 0 < bits[kept] < 20
    assert json.loads((tmp_path / "out" / "adapt.json").read_text())["vocabulary"] == report["vocabulary"]
    more = len(AutoTokenizer.from_pretrained(tmp_path / "out")) - len(load_tokenizer(tiny()))
    assert more == len(report["vocabulary"]["words"]) and (more > 0) == (kept == "grown")
    assert not (tmp_path / "out.vocabulary").exists() and said[-1].endswith(f"{kept} is kept")
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "out")


def test_a_finished_half_is_not_run_again(tiny, tmp_path, monkeypatch):
    import mtl.adapt.vocabulary as vocabulary

    texts, settings = corpus(tmp_path / "domain.txt"), AdaptSettings(passes=1, **SMALL)
    given = (tiny(), settings, 5, texts, [], tmp_path / "out", True, None, lambda _: None)
    with monkeypatch.context() as patched:
        patched.setattr(vocabulary, "grow", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            adapt_with_words(*given)
    first = tmp_path / "out.vocabulary" / "plain" / "model.safetensors"
    written = first.stat().st_mtime_ns
    monkeypatch.setattr(vocabulary.shutil, "rmtree", lambda *_, **__: None)
    adapt_with_words(*given)
    assert first.stat().st_mtime_ns == written
    monkeypatch.undo()
    runs, run = [], vocabulary.Adaptation.run
    monkeypatch.setattr(vocabulary.Adaptation, "run", lambda self, *given: runs.append(1) or run(self, *given))
    adapt_with_words(tiny(), AdaptSettings(passes=1, rate=0.3, **SMALL), *given[2:])
    assert len(runs) == 2  # what lies there is of another run


def test_text_without_such_words(tiny, tmp_path):
    (tmp_path / "plain.txt").write_text("\n\n".join(["the cat of the king"] * 10))
    with pytest.raises(UserError, match=r"grow-vocabulary = 5: no word of the text occurs 20 times"):
        adapt_with_words(
            tiny(), AdaptSettings(max_steps=1, **SMALL), 5, [str(tmp_path / "plain.txt")], [], tmp_path / "out", True, None, print
        )
