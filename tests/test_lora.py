"""Low-rank updates in joint training: few weights trained, merged when saved, and in checkpoints."""

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
    nlp.get_pipe("transformer").set_encoder(*huggingface_loader(tiny(), lora=2)())
    return nlp


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_few_weights_are_trained_and_merged_when_saved(low_rank, tiny, tmp_path, precision):
    transformer = low_rank.get_pipe("transformer")
    transformer.encoder.serving.precision = precision
    trained = [name for name in transformer.parameters() if name.startswith("transformer.")]
    assert trained and all("lora_" in name for name in trained)
    overfit(low_rank)
    scores = low_rank.evaluate(sample_examples(low_rank))
    assert scores["ents_f"] > 0.9 and scores["cats_accuracy"] > 0.9
    low_rank.to_disk(tmp_path / "saved")
    stored = load_file(tmp_path / "saved" / "transformer" / "encoder" / "model.safetensors")
    start = load_file(tiny() + "/model.safetensors")
    assert not any("lora" in name or "base_layer" in name for name in stored)
    changed = {name for name, one in stored.items() if not torch.equal(one, start[name])}
    assert changed and all(name.endswith("weight") and start[name].ndim == 2 for name in changed)
    assert "embeddings.word_embeddings.weight" not in changed
    low_rank.get_pipe("transformer").encoder.serving.precision = "fp32"
    low_rank.get_pipe("transformer").encoder.serving.forget()
    text = "The pump failed in Oslo."
    loaded, own = spacy.load(tmp_path / "saved")(text), low_rank(text)
    assert [ent.text for ent in loaded.ents] == [ent.text for ent in own.ents]
    assert all(loaded.cats[label] == pytest.approx(own.cats[label], abs=1e-5) for label in own.cats)


def test_training_goes_on_after_it_was_saved(low_rank, tmp_path):
    """spaCy saves at every evaluation: that leaves the updates as they are."""
    overfit(low_rank, steps=3)
    before = {name: one.detach().clone() for name, (one, _) in low_rank.get_pipe("transformer").parameters().items()}
    low_rank.to_disk(tmp_path / "saved")
    after = low_rank.get_pipe("transformer").parameters()
    assert before.keys() == after.keys() and all(torch.equal(one, after[name][0]) for name, one in before.items())


def test_mistakes(tiny):
    with pytest.raises(UserError, match=r"lora = -1 is out of range"):
        huggingface_loader(tiny(), lora=-1)
    with pytest.raises(UserError, match=r"lora = 2 and reinit_layers = 1"):
        huggingface_loader(tiny(), lora=2, reinit_layers=1)
