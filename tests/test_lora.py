"""Low-rank updates in joint training: few weights are trained, and merged when saved."""

import pytest
import spacy
import torch
from conftest import make_nlp, overfit, sample_examples
from safetensors.torch import load_file

from mtl.encoder.loaders import huggingface_loader
from mtl.errors import UserError

pytest.importorskip("peft", reason="needs it: pip install spacy-mtl[lora]")


@pytest.fixture
def low_rank(tiny):
    nlp = make_nlp(tiny())
    nlp.get_pipe("transformer").set_encoder(*huggingface_loader(tiny(), lora_rank=2)())
    return nlp


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_few_weights_are_trained_and_merged_when_saved(low_rank, tiny, tmp_path, precision):
    transformer = low_rank.get_pipe("transformer")
    transformer.encoder.inference.precision = precision
    trained = [name for name in transformer.parameters() if name.startswith("transformer.")]
    assert trained and all("lora_" in name for name in trained)
    overfit(low_rank)
    scores = low_rank.evaluate(sample_examples(low_rank))
    assert scores["ents_f"] > 0.9 and scores["cats_accuracy"] > 0.9
    low_rank.to_disk(tmp_path / "saved")
    stored = load_file(tmp_path / "saved" / "transformer" / "encoder" / "model.safetensors")
    start = load_file(tiny() + "/model.safetensors")
    assert not any("lora" in name or "base_layer" in name for name in stored)
    changed = {name for name, weight in stored.items() if not torch.equal(weight, start[name])}
    assert changed and all(name.endswith("weight") and start[name].ndim == 2 for name in changed)
    assert "embeddings.word_embeddings.weight" not in changed
    low_rank.get_pipe("transformer").encoder.inference.precision = "fp32"
    low_rank.get_pipe("transformer").encoder.inference.invalidate()
    text = "The pump failed in Oslo."
    loaded, original = spacy.load(tmp_path / "saved")(text), low_rank(text)
    assert [ent.text for ent in loaded.ents] == [ent.text for ent in original.ents]
    assert original.cats and all(loaded.cats[label] == pytest.approx(original.cats[label], abs=1e-5) for label in original.cats)


def test_saving_leaves_the_updates_as_they_are(low_rank, tmp_path):
    """spaCy saves at every evaluation and then trains on."""
    overfit(low_rank, steps=3)
    low_rank.get_pipe("transformer").take_due_step()
    parameters = low_rank.get_pipe("transformer").parameters()
    before = {name: parameter.detach().clone() for name, (parameter, _) in parameters.items()}
    low_rank.to_disk(tmp_path / "saved")
    after = low_rank.get_pipe("transformer").parameters()
    assert before.keys() == after.keys() and all(torch.equal(tensor, after[name][0]) for name, tensor in before.items())


def test_a_negative_rank_and_reinitialized_layers_are_refused(tiny):
    with pytest.raises(UserError, match=r"lora_rank = -1 is out of range"):
        huggingface_loader(tiny(), lora_rank=-1)
    with pytest.raises(UserError, match=r"lora_rank = 2 and reinit_layers = 1"):
        huggingface_loader(tiny(), lora_rank=2, reinit_layers=1)
