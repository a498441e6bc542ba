"""Domain words as subwords: which are chosen, how they start, and that they are kept only if that is better."""

import json

import numpy as np
import pytest
import torch
from conftest import FAMILIES, make_nlp, save_tiny
from transformers import AutoModelForMaskedLM, AutoTokenizer

from mtl.adaptation import vocabulary
from mtl.adaptation.domain_words import add_words, domain_words
from mtl.adaptation.settings import AdaptSettings
from mtl.adaptation.vocabulary import adapt_with_words
from mtl.encoder.model.mlm import load_mlm
from mtl.encoder.model.subwords import TokenizedText
from mtl.encoder.pretrained.sources import load_tokenizer
from mtl.errors import UserError

SMALL = {"block_size": 32, "batch_size": 4, "device": "cpu", "precision": "fp32", "validation_split": 0.1}
WORDS = ["metformin", "hydrochlorothiazide", "placebo"]
MASKED = [name for name in FAMILIES if name != "gpt2"]


def test_the_words_that_save_the_most_subwords_come_first(tiny):
    tokenizer = load_tokenizer(tiny())
    text = "Metformin and METFORMIN, metformin; nitroglycerin. a1b2c3d4e5 the the, unknownzzz"  # no z in the vocabulary
    texts = [text] * 10 + ["rarelymentioned"] * 19
    assert domain_words(texts, tokenizer, 5) == ["metformin"]  # three times ten; the other ten times only
    assert set(domain_words(texts * 2, tokenizer, 5)) == {"metformin", "nitroglycerin", "rarelymentioned"}
    assert len(domain_words(texts * 2, tokenizer, 2)) == 2
    lengths = {word: len(tokenizer(word, add_special_tokens=False)["input_ids"]) for word in ("metformin", "rarelymentioned")}
    saved = {"metformin": 60 * (lengths["metformin"] - 1), "rarelymentioned": 38 * (lengths["rarelymentioned"] - 1)}
    order = domain_words(texts * 2, tokenizer, 5)
    assert (order.index("metformin") < order.index("rarelymentioned")) == (saved["metformin"] > saved["rarelymentioned"])


@pytest.mark.parametrize("family", MASKED)
def test_a_grown_vocabulary_is_an_ordinary_folder(tiny, tmp_path, family):
    tokenizer, (model, _) = load_tokenizer(tiny(family)), load_mlm(tiny(family))
    before = len(tokenizer)
    pieces = [tokenizer(word, add_special_tokens=False)["input_ids"] for word in WORDS]
    rows = model.get_input_embeddings().weight.detach().clone()
    add_words(model, tokenizer, WORDS)
    model.save_pretrained(tmp_path / "out")
    tokenizer.save_pretrained(tmp_path / "out")
    loaded, again = AutoModelForMaskedLM.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    assert len(again) == before + 3
    embeddings = loaded.get_input_embeddings().weight
    for number, (word, piece_ids) in enumerate(zip(WORDS, pieces)):
        (word_id,) = again(word, add_special_tokens=False)["input_ids"]
        assert word_id == before + number and torch.allclose(embeddings[word_id], rows[piece_ids].mean(0), atol=1e-6)
    text = "Of metformin, placebo and nonplacebos."
    encoding = again.backend_tokenizer.encode(text, add_special_tokens=False)
    parts = [text[start:end].strip() for start, end in encoding.offsets]
    assert parts.count("metformin") == parts.count("placebo") == 1  # not within another word
    assert encoding.word_ids.count(encoding.word_ids[parts.index("placebo")]) == 1
    assert torch.isfinite(loaded(again(text, return_tensors="pt")["input_ids"]).logits).all()


def test_a_pipeline_aligns_added_words(tmp_path):
    folder = save_tiny("bert", tmp_path / "encoder")
    tokenizer, (model, _) = load_tokenizer(folder), load_mlm(folder)
    add_words(model, tokenizer, WORDS)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    encoder = make_nlp(folder, heads=("textcat",)).get_pipe("transformer").encoder
    tokens = encoder.encode([TokenizedText("Of metformin daily", np.array([0, 3, 13]), np.array([2, 12, 18]))])
    assert tokens.vectors.shape == (3, 32) and tokens.aligned.all()


def corpus(path):
    texts = [f"metformin was better than placebo and {word} metformin was placebo" for word in ("so", "then", "again", "now")]
    path.write_text("\n\n".join(texts * 12))
    return [str(path)]


def test_the_better_vocabulary_is_kept(tiny, tmp_path):
    messages, texts = [], corpus(tmp_path / "domain.txt")
    settings = AdaptSettings(epochs=6, learning_rate=3e-3, **SMALL)
    report = adapt_with_words(tiny(), settings, 5, texts, tmp_path / "out", echo=messages.append)
    bits = report["vocabulary"]["bits_per_byte"]
    choice = report["vocabulary"]["kept"]
    assert bits[choice] == min(bits.values()) == report["bits_per_byte"] and 0 < bits[choice] < 20
    assert json.loads((tmp_path / "out" / "adapt.json").read_text())["vocabulary"] == report["vocabulary"]
    added = len(AutoTokenizer.from_pretrained(tmp_path / "out")) - len(load_tokenizer(tiny()))
    assert added == len(report["vocabulary"]["words"]) and (added > 0) == (choice == "grown")
    assert not (tmp_path / "out.vocabulary").exists() and messages[-1].endswith(f"{choice} is kept")
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "out")


def test_a_finished_run_of_the_two_is_not_repeated(tiny, tmp_path, monkeypatch):
    texts, settings = corpus(tmp_path / "domain.txt"), AdaptSettings(epochs=1, **SMALL)
    out = tmp_path / "out"

    def adapt(settings):
        return adapt_with_words(tiny(), settings, 5, texts, out, echo=lambda _: None)

    with monkeypatch.context() as patched:
        patched.setattr(vocabulary, "add_words", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            adapt(settings)
    first = tmp_path / "out.vocabulary" / "plain" / "model.safetensors"
    written = first.stat().st_mtime_ns
    monkeypatch.setattr(vocabulary.shutil, "rmtree", lambda *_, **__: None)
    adapt(settings)
    assert first.stat().st_mtime_ns == written
    monkeypatch.undo()
    folders, run = [], vocabulary.Adaptation.run

    def record(self, texts, folder, **arguments):
        folders.append(folder.name)
        return run(self, texts, folder, **arguments)

    monkeypatch.setattr(vocabulary.Adaptation, "run", record)
    adapt(AdaptSettings(epochs=1, mlm_probability=0.3, **SMALL))
    assert folders == ["plain", "grown"]  # with other settings, nothing is taken over


def test_text_without_words_worth_adding_is_refused(tiny, tmp_path):
    (tmp_path / "plain.txt").write_text("\n\n".join(["the cat of the king"] * 10))
    with pytest.raises(UserError, match=r"grow-vocabulary = 5: no word of the text occurs 20 times"):
        settings = AdaptSettings(max_steps=1, **SMALL)
        adapt_with_words(tiny(), settings, 5, [str(tmp_path / "plain.txt")], tmp_path / "out")
