"""Continued pretraining: packing, masking, the loss, the loop, its folder."""

import json
import math

import pytest
import spacy
import torch
from conftest import TEXTS, save_tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from mtl.adapt.loop import Adaptation, AdaptSettings, adapt
from mtl.adapt.masking import MaskedBatch, MaskSettings, mask_words
from mtl.adapt.mlm import head_parameters, load_mlm, masked_loss
from mtl.adapt.text import pack_blocks, read_documents, split_documents
from mtl.data.docs import write_docs
from mtl.encoder.sources import load_tokenizer
from mtl.errors import UserError


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "domain.txt"
    path.write_text("\n\n".join(TEXTS * 10))
    return str(path)


SMALL = {"length": 32, "batch_blocks": 4, "device": "cpu", "precision": "fp32", "held_out": 0.1}


def test_documents_of_every_kind(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\n\nthree\n")
    (tmp_path / "b.jsonl").write_text('{"text": "four"}\n\n{"text": "five", "label": 1}\n')
    nlp = spacy.blank("en")
    write_docs([nlp.make_doc("six")], tmp_path / "c.spacy")
    assert read_documents([str(tmp_path)]) == ["one\ntwo", "three", "four", "five", "six"]


@pytest.mark.parametrize(
    "name, data, words",
    [
        ("x.pdf", b"a", [".txt, .jsonl, .spacy", "'.pdf'"]),
        ("x.txt", b" \n", ["empty"]),
        ("x.txt", b"ok\n\xff", ["line 2", "UTF-8"]),
        ("x.jsonl", b'{"txt": "a"}\n', ["line 1", '"text" is missing']),
    ],
)
def test_text_that_cannot_be_read(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError) as error:
        read_documents([str(tmp_path / name)])
    assert all(word in str(error.value) for word in words)


def test_held_out_documents_are_apart():
    documents = [str(i) for i in range(40)]
    train, held = split_documents(documents, 0.1, 0)
    assert len(held) == 4 and sorted(train + held) == sorted(documents)
    assert split_documents(documents, 0.1, 0) == (train, held) != split_documents(documents, 0.1, 1)
    with pytest.raises(UserError, match="too few"):
        split_documents(["one"], 0.05, 0)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_blocks_hold_every_wordpiece_once_and_words_whole(tiny, tmp_path, family):
    tokenizer = load_tokenizer(tiny(family))
    blocks = pack_blocks(TEXTS * 3, tokenizer, 24, str(tmp_path))
    ids = [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch(TEXTS * 3, add_special_tokens=False)]
    expected = [piece for own in ids for piece in [*own, tokenizer.sep_token_id]]
    packed = []
    for row in blocks:
        pieces, words = row["pieces"].tolist(), row["words"].tolist()
        assert len(pieces) == len(words) == 24
        assert (
            pieces[0] == tokenizer.cls_token_id and words[0] == 0 and pieces[-1 - pieces[::-1].index(tokenizer.sep_token_id)] >= 0
        )
        inner = [w for w in words if w]
        assert inner == sorted(inner) and (not inner or inner[0] == 1)
        packed += pieces[1 : 24 - 1]
    padding = len(packed) - len(expected)
    assert 0 <= padding < 22
    last_sep = packed[len(expected)] if padding else None
    assert packed[: len(expected)] == expected and (
        last_sep is None or last_sep in (tokenizer.sep_token_id, tokenizer.pad_token_id)
    )


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 9), st.floats(0.05, 0.9))
def test_masking_hides_whole_words_and_always_something(seed, blocks, words, rate):
    generator = torch.Generator().manual_seed(seed)
    of_piece = torch.randint(1, 4, (blocks, words), generator=generator)
    width = int(of_piece.sum(1).max()) + 2
    table = torch.zeros(blocks, width, dtype=torch.long)
    for row, lengths in enumerate(of_piece):
        flat = torch.repeat_interleave(torch.arange(1, words + 1), lengths)
        table[row, 1 : 1 + len(flat)] = flat
    pieces = torch.randint(10, 100, table.shape, generator=generator)
    batch = mask_words(pieces, table, MaskSettings(5, 100, rate=rate), generator)
    assert not batch.chosen[table == 0].any() and batch.chosen.any(1).all()
    for row in range(blocks):
        for word in range(1, words + 1):
            own = batch.chosen[row][table[row] == word]
            assert own.all() or not own.any()
    assert torch.equal(batch.pieces[~batch.chosen], pieces[~batch.chosen]) and torch.equal(batch.targets, pieces[batch.chosen])


def test_masking_rates():
    generator = torch.Generator().manual_seed(0)
    words = torch.arange(1, 129).expand(200, 128)
    pieces = torch.randint(10, 1000, words.shape, generator=generator)
    batch = mask_words(pieces, words, MaskSettings(5, 1000, rate=0.15), generator)
    assert batch.chosen.float().mean().item() == pytest.approx(0.15, abs=0.01)
    assert (batch.pieces[batch.chosen] == 5).float().mean().item() == pytest.approx(0.8, abs=0.03)
    assert (batch.pieces[batch.chosen] == batch.targets).float().mean().item() == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet", "deberta-v2", "modernbert"])
def test_the_loss_at_masked_positions_equals_the_full_one(tiny, family):
    """Logits at the chosen rows only, for each architecture's own head."""
    model, missing = load_mlm(tiny(family))
    model.eval()
    assert missing and head_parameters(model)
    pieces = torch.randint(5, model.config.vocab_size, (3, 20))
    chosen = torch.rand(3, 20) < 0.3
    chosen[0, 0] = True
    batch = MaskedBatch(pieces, chosen, pieces[chosen])
    attention = torch.ones_like(pieces)
    with torch.no_grad():
        full = model(input_ids=pieces, attention_mask=attention).logits[chosen]
        expected = torch.nn.functional.cross_entropy(full, pieces[chosen])
        assert masked_loss(model, batch, attention).item() == pytest.approx(expected.item(), abs=1e-5)
        after = model(input_ids=pieces, attention_mask=attention).logits
    assert after.shape[:2] == (3, 20)  # the hook is gone


def test_adapting_lowers_perplexity_and_leaves_a_plain_folder(tiny, tmp_path):
    """A document repeats one word: unknown to the head alone, known to an encoder that has learned to look around."""
    words = ["the", "pump", "failed", "on", "climb", "out", "of", "oslo"]
    text_file = tmp_path / "domain.txt"
    text_file.write_text("\n\n".join(" ".join([words[i % 8]] * 24) for i in range(40)))
    out = tmp_path / "adapted"
    general = tmp_path / "general.txt"
    general.write_text("A king had three daughters.\n\nThe end.")
    settings_ = AdaptSettings(passes=60, learn_rate=3e-3, **SMALL)
    report = adapt(tiny(), [str(text_file)], out, [str(general)], settings_)
    before, after = report["perplexity_before"], report["perplexity_after"]
    assert after["in-domain"] < before["in-domain"] / 2 and set(after) == {"in-domain", "general"}
    assert report["head_steps"] > 0 and report["tokens"] > 0
    assert json.loads((out / "adapt.json").read_text())["steps"] == report["steps"]
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.mask_token and AutoModel.from_pretrained(out).config.hidden_size == 32
    model = AutoModelForMaskedLM.from_pretrained(out)
    logits = model(**tokenizer("The [MASK]", return_tensors="pt")).logits
    assert torch.isfinite(logits).all()
    for file in out.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes() and not file.name.endswith(".bin")
    again = Adaptation(str(out), settings_)
    assert again.missing == []  # the head is in the folder: no second warm-up


def test_the_head_warms_up_with_the_encoder_frozen(tiny, text_file, tmp_path, monkeypatch):
    run = Adaptation(tiny(), AdaptSettings(passes=3, **SMALL))
    before = {name: p.clone() for name, p in run.model.base_model.named_parameters()}
    seen = []
    real = Adaptation._perplexities

    def check(self, evaluations):
        seen.append(all(torch.equal(before[name], p) for name, p in self.model.base_model.named_parameters()))
        return real(self, evaluations)

    monkeypatch.setattr(Adaptation, "_perplexities", check)
    run.run([text_file], [], tmp_path / "out")
    assert seen == [True, False]  # untouched at "before", trained at "after"


def test_evaluation_masks_are_fixed_and_runs_repeat(tiny, text_file, tmp_path):
    one, two = (adapt(tiny(), [text_file], tmp_path / name, settings=AdaptSettings(passes=2, **SMALL)) for name in "ab")
    assert one["perplexity_after"] == two["perplexity_after"] and one["perplexity_before"] == two["perplexity_before"]


def test_ctrl_c_saves_what_was_learned(tiny, text_file, tmp_path, monkeypatch):
    import mtl.adapt.loop as loop

    calls = []

    def interrupt(*args):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return masked_loss(*args)

    monkeypatch.setattr(loop, "masked_loss", interrupt)
    report = adapt(tiny(), [text_file], tmp_path / "out", settings=AdaptSettings(passes=50, **SMALL))
    assert report["interrupted"] and 0 < report["steps"] < 10 and math.isfinite(report["perplexity_after"]["in-domain"])
    assert AutoModel.from_pretrained(tmp_path / "out")


def test_budgets(tiny, text_file, tmp_path):
    report = adapt(tiny(), [text_file], tmp_path / "out", settings=AdaptSettings(passes=50, max_steps=7, **SMALL))
    assert report["steps"] == 7
    report = adapt(tiny(), [text_file], tmp_path / "out", settings=AdaptSettings(passes=5000, minutes=0.03, **SMALL))
    assert report["steps"] < 5000


def test_a_failed_save_keeps_the_old_folder(tiny, text_file, tmp_path, monkeypatch):
    out = tmp_path / "out"
    adapt(tiny(), [text_file], out, settings=AdaptSettings(max_steps=2, **SMALL))
    before = (out / "model.safetensors").read_bytes()
    run = Adaptation(tiny(), AdaptSettings(max_steps=2, **SMALL))

    def full(folder, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run.model, "save_pretrained", full)
    with pytest.raises(UserError, match="not enough disk space"):
        run.run([text_file], [], out)
    assert (out / "model.safetensors").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"length": 100}, ["length = 100", "64"]),
        ({"precision": "fp16"}, ["precision", "'bf16'"]),
        ({"rate": 2.0}, ["rate = 2.0"]),
        ({"held_out": 0.0}, ["held-out"]),
        ({"minutes": -1}, ["minutes = -1"]),
        ({"max_steps": -3}, ["max-steps = -3"]),
        ({"learn_rate": -1.0}, ["learn-rate = -1.0"]),
    ],
)
def test_bad_settings_are_named(tiny, changes, words):
    with pytest.raises(UserError) as error:
        Adaptation(tiny(), AdaptSettings(**{**SMALL, **changes}))
    assert all(word in str(error.value) for word in words)


def test_nothing_worthless_is_saved(tiny, text_file, tmp_path):
    with pytest.raises(UserError, match=r"learn-rate = 10000.* too high"):
        adapt(tiny(), [text_file], tmp_path / "out", settings=AdaptSettings(max_steps=20, learn_rate=1e4, **SMALL))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(UserError, match=r"mine.*adapt.json is not in it"):
        adapt(tiny(), [text_file], tmp_path / "mine", settings=AdaptSettings(max_steps=1, **SMALL))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["domain.txt", "mine"]


def test_a_decoder_is_refused(tiny):
    with pytest.raises(UserError, match="no mask token"):
        Adaptation(tiny("gpt2"), AdaptSettings(**SMALL))


def test_a_packaged_encoder_with_other_weights_is_refused(tmp_path, monkeypatch):
    import importlib.util
    from types import SimpleNamespace

    import mtl.encoder.sources as sources

    save_tiny("bert", tmp_path / "model")
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match="not the published ones"):
        sources.resolve_encoder("sentence-transformers/all-MiniLM-L6-v2")
