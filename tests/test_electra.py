"""Replaced token detection: the loss, a run, the folder it writes."""

import json
import math

import pytest
import torch
from conftest import TEXTS, save_tiny
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, ElectraForPreTraining

from mtl.adaptation.electra import DISCRIMINATOR_WEIGHT, load_electra, rtd_loss
from mtl.adaptation.run import adapt
from mtl.adaptation.settings import AdaptSettings
from mtl.adaptation.trainer import Trainer
from mtl.adaptation.vocabulary import adapt_with_words
from mtl.encoder.model.masking import MaskedBatch
from mtl.encoder.pretrained.sources import load_tokenizer
from mtl.errors import UserError

SMALL = {"block_size": 32, "batch_size": 4, "device": "cpu", "precision": "fp32", "validation_split": 0.1}


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
    selected = torch.zeros_like(ids, dtype=torch.bool)
    selected[:, 3:9] = True
    attention_mask = torch.ones_like(ids)
    attention_mask[1, 15:] = 0
    return MaskedBatch(ids.masked_fill(selected, tokenizer.mask_token_id), selected, ids[selected]), attention_mask, ids


def test_the_loss_is_that_of_the_paper(pair):
    """A generator that is sure of one subword puts it everywhere, which leaves nothing to chance."""
    discriminator, generator = pair
    tokenizer = load_tokenizer(discriminator)
    model, missing = load_electra(discriminator, generator, tokenizer)
    assert not missing
    batch, attention_mask, ids = batch_of(tokenizer)
    certain_id = int(batch.targets[2])  # so that at least one drawn subword is the original, and counts as such
    with torch.no_grad():
        model.generator.get_output_embeddings().bias[certain_id] += 1000
    input_ids = ids.clone()
    input_ids[batch.selected] = certain_id
    with torch.no_grad():
        expected = 0.0
        logits = model.discriminator.eval()(input_ids=input_ids, attention_mask=attention_mask).logits
        for row, position in attention_mask.nonzero().tolist():
            is_replaced = float(input_ids[row, position] != ids[row, position])
            loss = torch.nn.functional.softplus(logits[row, position] * (1 - 2 * is_replaced)).item()
            expected += loss / int(attention_mask.sum())
        assert rtd_loss(model.eval(), batch, attention_mask).item() == pytest.approx(expected, rel=1e-4)
        model.train()
        generator_logits = model.generator(input_ids=batch.input_ids, attention_mask=attention_mask).logits[batch.selected]
        generator_loss = torch.nn.functional.cross_entropy(generator_logits, batch.targets).item()
    loss = rtd_loss(model, batch, attention_mask)
    assert loss.item() == pytest.approx(generator_loss + DISCRIMINATOR_WEIGHT * expected, rel=1e-3)


def test_replacements_follow_the_generators_distribution(pair):
    discriminator, generator = pair
    tokenizer = load_tokenizer(discriminator)
    model, _ = load_electra(discriminator, generator, tokenizer)
    batch, attention_mask, _ = batch_of(tokenizer)
    with torch.no_grad():
        bias = model.generator.get_output_embeddings().bias
        bias -= 1000
        bias[[10, 20]] += 1000 + torch.tensor([math.log(3), 0.0])  # 3 to 1, up to what the random network adds
    seen = []
    model.discriminator.register_forward_pre_hook(
        lambda _, __, inputs: seen.append(inputs["input_ids"][batch.selected]), with_kwargs=True
    )
    model.train()
    for seed in range(100):
        torch.manual_seed(seed)
        model(batch, attention_mask)
    drawn = torch.cat(seen)
    assert set(drawn.tolist()) == {10, 20} and 0.65 < (drawn == 10).float().mean().item() < 0.85


def test_a_run_improves_the_discriminator_saves_it_alone_and_repeats_exactly(pair, text_file, tmp_path):
    discriminator, generator = pair
    settings = AdaptSettings(epochs=30, learning_rate=3e-3, generator=generator, **SMALL)
    report = adapt(discriminator, [text_file], tmp_path / "out", settings=settings)
    assert report["objective"] == "rtd" and report["head_steps"] == 0 and "bits_per_byte" not in report
    assert report["perplexity_after"]["in-domain"] < report["perplexity_before"]["in-domain"] - 0.1
    assert json.loads((tmp_path / "out" / "adapt.json").read_text())["settings"]["objective"] == "auto"
    _, info = ElectraForPreTraining.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert AutoModel.from_pretrained(tmp_path / "out")
    again = adapt(discriminator, [text_file], tmp_path / "again", settings=settings)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "again"))
    losses = [[evaluation["losses"] for evaluation in run["evaluations"]] for run in (report, again)]
    assert losses[0] == losses[1] and all(torch.equal(first[name], second[name]) for name in first)
    before = load_file(tmp_path / "discriminator" / "model.safetensors")
    key = "electra.encoder.layer.0.output.dense.weight"
    assert not torch.equal(before[key], first[key])


def test_an_interrupted_run_resumes_to_the_same_weights(pair, text_file, tmp_path, monkeypatch):
    discriminator, generator = pair
    settings = AdaptSettings(epochs=3, learning_rate=3e-3, generator=generator, **SMALL)
    adapt(discriminator, [text_file], tmp_path / "whole", settings=settings)
    trainer_step = Trainer.step

    def interrupt(self, optimizer, number, *arguments):
        if number == 11:
            raise KeyboardInterrupt
        return trainer_step(self, optimizer, number, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", interrupt)
        assert adapt(discriminator, [text_file], tmp_path / "out", settings=settings)["interrupted"]
    adapt(discriminator, [text_file], tmp_path / "out", settings=settings)
    resumed, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "whole"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_settings_and_models_that_do_not_fit_are_refused(pair, tiny, text_file, tmp_path):
    discriminator, generator = pair

    def run(encoder, **settings):
        return adapt(encoder, [text_file], tmp_path / "out", settings=AdaptSettings(max_steps=2, **SMALL, **settings))

    for encoder, changes, message in (
        (discriminator, {"objective": "rtd"}, 'objective = "rtd" needs a generator'),
        (discriminator, {"objective": "mlm", "generator": generator}, 'generator is for objective = "rtd"'),
        (tiny(), {"generator": generator}, "is for ELECTRA discriminators, and encoder '.*' is a bert"),
        (discriminator, {"generator": tiny("roberta")}, "its vocabulary differs from that of encoder"),
        (discriminator, {"generator": discriminator}, "generator = '.*discriminator': the checkpoint has no masked-LM head"),
    ):
        with pytest.raises(UserError, match=message):
            run(encoder, **changes)
    settings = AdaptSettings(max_steps=2, generator=generator, **SMALL)
    with pytest.raises(UserError, match="grow-vocabulary compares bits per byte"):
        adapt_with_words(discriminator, settings, 5, [text_file], tmp_path / "out")
    assert not (tmp_path / "out").exists()
