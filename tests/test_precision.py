"""Predictions in bf16 and int8: near fp32, made of the weights as they are now, refused where the processor lacks them."""

import copy

import numpy as np
import pytest
import spacy
import torch
from conftest import FAMILIES, TEXTS, make_nlp, overfit, sample_examples

from mtl.encoder import precision
from mtl.encoder.precision import Int8Linear, Serving, with_linears
from mtl.encoder.windows import Tokens
from mtl.errors import UserError


@pytest.fixture
def any_processor(monkeypatch):
    """The arithmetic is the same where a processor emulates it, only slower."""
    monkeypatch.setattr(precision, "lacks", lambda *_: "")


def whole(text):
    return Tokens(text, np.array([0]), np.array([len(text)]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", ["bf16", "int8"])
def test_every_family_predicts_and_is_near_fp32(tiny, family, name, any_processor):
    vectors = {}
    for own in ("fp32", name):
        encoder = make_nlp(tiny(family), heads=("textcat",), model={"precision": own}).get_pipe("transformer").encoder
        vectors[own] = encoder.encode([whole(text) for text in TEXTS]).vectors
    assert vectors[name].dtype == torch.float32
    assert torch.cosine_similarity(vectors["fp32"], vectors[name], dim=1).min() > 0.97
    has_linears = family != "gpt2"  # its layers are of another class, and stay as they are in int8
    assert torch.equal(vectors["fp32"], vectors[name]) == (name == "int8" and not has_linears)


def test_int8_linear_is_exact_on_what_int8_holds():
    """Weights and inputs that are whole multiples of their scales lose nothing."""
    linear = torch.nn.Linear(4, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[127.0, -3, 0, 50], [1.27, -0.5, 0.01, 0]]))
        linear.bias.copy_(torch.tensor([0.5, -7]))
    inputs = torch.tensor([[255.0, 0, 3, 100]])  # 0 to 255: scale 1
    assert torch.allclose(Int8Linear(linear)(inputs), linear(inputs), rtol=1e-5)


@pytest.mark.parametrize("name", ["bf16", "int8"])
def test_the_weights_that_serve_follow_training(tiny, tmp_path, name, any_processor):
    """A prediction between two updates, then another update: what is saved and loaded predicts the same, bit for bit."""
    nlp = make_nlp(tiny(), model={"precision": name})
    before = nlp(TEXTS[0]).cats
    overfit(nlp, steps=2)
    between = nlp(TEXTS[0]).cats
    overfit(nlp, steps=2)
    after = nlp(TEXTS[0]).cats
    assert before != between != after
    nlp.to_disk(tmp_path)
    assert spacy.load(tmp_path)(TEXTS[0]).cats == after
    assert nlp.from_disk(tmp_path)(TEXTS[0]).cats == after


def test_int8_trains_in_fp32(tiny, any_processor):
    losses = [overfit(make_nlp(tiny(), model={"precision": name}), steps=3) for name in ("fp32", "int8")]
    assert losses[0] == losses[1]


def test_one_pipeline_in_another_precision_by_config(tiny, tmp_path, any_processor):
    nlp = make_nlp(tiny())
    overfit(nlp)
    nlp.to_disk(tmp_path)
    examples = sample_examples(nlp)
    for name in ("bf16", "int8"):
        other = spacy.load(tmp_path, config={"components.transformer.model.precision": name})
        assert other.get_pipe("transformer").encoder.serving.precision == name
        for example in examples:
            ours, theirs = nlp(example.reference.text), other(example.reference.text)
            assert ours.cats == pytest.approx(theirs.cats, abs=0.1) and ours.cats != theirs.cats
            assert [(e.start, e.label) for e in ours.ents] == [(e.start, e.label) for e in theirs.ents]


def test_a_precision_that_the_processor_lacks(tiny, monkeypatch):
    monkeypatch.setattr(precision, "_multiplies_int8", lambda: False)
    with pytest.warns(UserWarning, match=r'precision = "int8": the processor does not .* fp32 is used instead'):
        nlp = make_nlp(tiny(), model={"precision": "int8"})
    assert nlp.get_pipe("transformer").encoder.describe()["precision"] == "fp32"
    assert nlp(TEXTS[0]).cats == make_nlp(tiny())(TEXTS[0]).cats
    with pytest.raises(UserError, match=r'precision = "int8": the processor does not .* or fallback = true'):
        make_nlp(tiny(), model={"precision": "int8", "fallback": False})
    with pytest.raises(UserError, match="fp16 is for GPUs, and the device is cpu"):
        make_nlp(tiny(), model={"precision": "fp16", "fallback": False})
    with pytest.raises(UserError, match=r"precision = 'fp8' is not known; allowed: 'fp32', 'bf16', 'fp16', 'int8'"):
        make_nlp(tiny(), model={"precision": "fp8"})


def test_all_but_the_linear_layers_is_shared():
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    served = with_linears(model, Int8Linear)
    assert served[0].weight is model[0].weight and served[2].weight is model[2].weight
    assert isinstance(served[1], Int8Linear) and isinstance(model[1], torch.nn.Linear)


def test_serving_is_made_once_and_is_not_copied():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3))
    serving = Serving("bf16")
    made = serving.model(model)
    assert serving.model(model) is made
    assert copy.deepcopy(serving)._made is None
    assert Serving("fp32").model(model) is model
