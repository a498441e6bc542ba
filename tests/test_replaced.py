"""Replaced-token detection: its loss, its run, its folder."""

import json
import math

import pytest
import torch
from conftest import TEXTS, save_tiny
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, ElectraForPreTraining

from mtl.adapt.loop import adapt
from mtl.adapt.replaced import WEIGHT, load_replaced, replaced_loss
from mtl.adapt.settings import AdaptSettings
from mtl.adapt.vocabulary import adapt_with_words
from mtl.encoder.masking import MaskedBatch
from mtl.encoder.sources import load_tokenizer
from mtl.errors import UserError

SMALL = {"length": 32, "batch_blocks": 4, "device": "cpu", "precision": "fp32", "held_out": 0.1}


@pytest.fixture
def pair(tmp_path):
    """The folders of a tiny discriminator and of a generator half as wide."""
    folders = []
    for name, model_class, sizes in (
        ("discriminator", ElectraForPreTraining, {}),
        ("generator", AutoModelForMaskedLM, {"hidden_size": 16, "intermediate_size": 20}),
    ):
        save_tiny("electra", tmp_path / name, **sizes)
        model = model_class.from_config if hasattr(model_class, "from_config") else model_class
        model(AutoConfig.from_pretrained(tmp_path / name)).save_pretrained(tmp_path / name)
        folders.append(str(tmp_path / name))
    return folders


@pytest.fixture
def text_file(tmp_path):
    (tmp_path / "domain.txt").write_text("\n\n".join(TEXTS * 10))
    return str(tmp_path / "domain.txt")


def batch_of(tokenizer):
    ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"][:20], tokenizer(TEXTS[1])["input_ids"][:20]])
    chosen = torch.zeros_like(ids, dtype=torch.bool)
    chosen[:, 3:9] = True
    attention = torch.ones_like(ids)
    attention[1, 15:] = 0
    return MaskedBatch(ids.masked_fill(chosen, tokenizer.mask_token_id), chosen, ids[chosen]), attention, ids


def test_the_loss_is_electras(pair, monkeypatch):
    """A generator that is sure of one wordpiece puts that in everywhere, which leaves nothing to chance."""
    discriminator, generator = pair
    tokenizer = load_tokenizer(discriminator)
    model, missing = load_replaced(discriminator, generator, tokenizer)
    assert not missing
    batch, attention, ids = batch_of(tokenizer)
    sure = int(batch.targets[2])  # so that at least one drawn wordpiece is the original, and counts as such
    with torch.no_grad():
        model.generator.get_output_embeddings().bias[sure] += 1000
    text = ids.clone()
    text[batch.chosen] = sure
    with torch.no_grad():
        expected = 0.0
        logits = model.discriminator.eval()(input_ids=text, attention_mask=attention).logits
        for row, place in attention.nonzero().tolist():
            replaced = float(text[row, place] != ids[row, place])
            expected += torch.nn.functional.softplus(logits[row, place] * (1 - 2 * replaced)).item() / int(attention.sum())
        assert replaced_loss(model.eval(), batch, attention).item() == pytest.approx(expected, rel=1e-4)
        model.train()
        whole = model.generator(input_ids=batch.pieces, attention_mask=attention).logits[batch.chosen]
        of_generator = torch.nn.functional.cross_entropy(whole, batch.targets).item()
    loss = replaced_loss(model, batch, attention)
    assert loss.item() == pytest.approx(of_generator + WEIGHT * expected, rel=1e-3)


def test_the_generators_choices_follow_its_distribution(pair):
    discriminator, generator = pair
    tokenizer = load_tokenizer(discriminator)
    model, _ = load_replaced(discriminator, generator, tokenizer)
    batch, attention, _ = batch_of(tokenizer)
    with torch.no_grad():
        bias = model.generator.get_output_embeddings().bias
        bias -= 1000
        bias[[10, 20]] += 1000 + torch.tensor([math.log(3), 0.0])  # 3 to 1, up to what the random network adds
    seen = []
    model.discriminator.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["input_ids"][batch.chosen]), with_kwargs=True
    )
    model.train()
    for seed in range(100):
        torch.manual_seed(seed)
        model(batch, attention)
    drawn = torch.cat(seen)
    assert set(drawn.tolist()) == {10, 20} and 0.65 < (drawn == 10).float().mean().item() < 0.85


def test_a_run(pair, text_file, tmp_path):
    discriminator, generator = pair
    settings = AdaptSettings(passes=30, learn_rate=3e-3, generator=generator, **SMALL)
    report = adapt(discriminator, [text_file], tmp_path / "out", settings=settings)
    assert report["objective"] == "replaced" and report["head_steps"] == 0 and "bits_per_byte" not in report
    assert report["perplexity_after"]["in-domain"] < report["perplexity_before"]["in-domain"] - 0.1
    assert json.loads((tmp_path / "out" / "adapt.json").read_text())["settings"]["objective"] == "auto"
    _, info = ElectraForPreTraining.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert AutoModel.from_pretrained(tmp_path / "out")
    again = adapt(discriminator, [text_file], tmp_path / "again", settings=settings)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "again"))
    assert report["evaluations"] == again["evaluations"] and all(torch.equal(one[name], two[name]) for name in one)
    before = load_file(tmp_path / "discriminator" / "model.safetensors")
    assert not torch.equal(
        before["electra.encoder.layer.0.output.dense.weight"], one["electra.encoder.layer.0.output.dense.weight"]
    )


def test_it_goes_on_after_an_interruption(pair, text_file, tmp_path, monkeypatch):
    from mtl.adapt.trainer import Trainer

    discriminator, generator = pair
    settings = AdaptSettings(passes=3, learn_rate=3e-3, generator=generator, **SMALL)
    adapt(discriminator, [text_file], tmp_path / "whole", settings=settings)
    step = Trainer.step
    with monkeypatch.context() as patched:

        def interrupted(self, optimizer, number, *rest):
            if number == 11:
                raise KeyboardInterrupt
            return step(self, optimizer, number, *rest)

        patched.setattr(Trainer, "step", interrupted)
        assert adapt(discriminator, [text_file], tmp_path / "out", settings=settings)["interrupted"]
    adapt(discriminator, [text_file], tmp_path / "out", settings=settings)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "whole"))
    assert all(torch.equal(one[name], two[name]) for name in two)


def test_mistakes(pair, tiny, text_file, tmp_path):
    discriminator, generator = pair

    def run(encoder, **settings):
        return adapt(encoder, [text_file], tmp_path / "out", settings=AdaptSettings(max_steps=2, **SMALL, **settings))

    for encoder, given, message in (
        (discriminator, {"objective": "replaced"}, 'objective = "replaced" needs a generator'),
        (discriminator, {"objective": "words", "generator": generator}, 'generator is for objective = "replaced"'),
        (tiny(), {"generator": generator}, "is for ELECTRA discriminators, and encoder '.*' is a bert"),
        (discriminator, {"generator": tiny("roberta")}, "its vocabulary is not that of encoder"),
        (discriminator, {"generator": discriminator}, "generator = '.*discriminator': the checkpoint has no masked-LM head"),
    ):
        with pytest.raises(UserError, match=message):
            run(encoder, **given)
    settings = AdaptSettings(max_steps=2, generator=generator, **SMALL)
    with pytest.raises(UserError, match="grow-vocabulary is judged by a text's probability"):
        adapt_with_words(discriminator, settings, 5, [text_file], [], tmp_path / "out", True, None, print)
    assert not (tmp_path / "out").exists()
