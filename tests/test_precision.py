"""Predictions in bf16 and int8: near fp32, made of the weights as they are now, refused where the processor lacks them."""

import copy

import numpy as np
import pytest
import spacy
import torch
from conftest import FAMILIES, TEXTS, make_nlp, overfit, sample_examples
from torch.nn.functional import scaled_dot_product_attention

from mtl.encoder import precision
from mtl.encoder.attention import BlockedAttention, blocked_attention
from mtl.encoder.precision import Int8Linear, PackedLinear, Serving, half, served
from mtl.encoder.windows import Tokens
from mtl.errors import UserError

LACKS_INT8 = precision.lacks("int8", torch.device("cpu"))
with_int8 = pytest.mark.skipif(bool(LACKS_INT8), reason=LACKS_INT8)
LOW = ["bf16", pytest.param("int8", marks=with_int8)]


@pytest.fixture
def any_processor(monkeypatch):
    """bf16 is the same where a processor emulates it, only slower."""
    monkeypatch.setattr(precision, "lacks", lambda *_: "")


def whole(text):
    return Tokens(text, np.array([0]), np.array([len(text)]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", LOW)
def test_every_family_predicts_and_is_near_fp32(tiny, family, name, any_processor):
    vectors = {}
    for own in ("fp32", name):
        encoder = make_nlp(tiny(family), heads=("textcat",), model={"precision": own}).get_pipe("transformer").encoder
        vectors[own] = encoder.encode([whole(text) for text in TEXTS]).vectors
    assert vectors[name].dtype == torch.float32
    assert torch.cosine_similarity(vectors["fp32"], vectors[name], dim=1).min() > 0.97
    assert not torch.equal(vectors["fp32"], vectors[name])


@with_int8
@pytest.mark.parametrize("bf16", [True, False])
def test_an_int8_vector_does_not_depend_on_the_batch(tiny, monkeypatch, bf16):
    """To what bf16 or fp32 sums make of it, that is: not by a scale shared with the neighbours."""
    monkeypatch.setattr(precision, "lacks", lambda name, _: "" if bf16 or name != "bf16" else "lacks it")
    encoder = make_nlp(tiny(), heads=("textcat",), model={"precision": "int8"}).get_pipe("transformer").encoder
    assert next(encoder.serving.model(encoder.model).parameters()).dtype == (torch.bfloat16 if bf16 else torch.float32)
    loud = whole("! " * 100)
    alone = encoder.encode([whole(TEXTS[0])]).vectors
    together = encoder.encode([whole(TEXTS[0]), loud, whole(TEXTS[1])]).vectors[:1]
    assert torch.allclose(alone, together, atol=0.05 if bf16 else 1e-4)


@with_int8
def test_int8_linear_is_exact_on_what_int8_holds():
    """Weights and inputs that are whole multiples of their scales lose nothing."""
    linear = torch.nn.Linear(4, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[127.0, -3, 0, 50], [1.27, -0.5, 0.01, 0]]))
        linear.bias.copy_(torch.tensor([0.5, -7]))
    inputs = torch.tensor([[[127.0, 0, -3, 100]], [[0, -12.7, 0.1, 5]], [[0, 0, 0, 0]]])  # scales 1, 0.1 and none
    assert torch.allclose(Int8Linear(linear, torch.float32)(inputs), linear(inputs), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 4, 7, 7), (2, 4, 300, 300), (2, 2, 800, 800), (1, 2, 5, 9)])
@pytest.mark.parametrize("mask", [None, (1, 1, 1), (1, 1, 0), (0, 1, 1), (1, 0, 0), (0, 0, 0)])
def test_blocked_attention_is_attention(shape, mask):
    """The mask's sizes: 1 where it is broadcast over the batch, the heads, the length."""
    batch, heads, length, source = shape
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(batch, n, heads, 8, generator=generator).transpose(1, 2) for n in (length, source, source))
    if mask is not None:
        sizes = [1 if broadcast else size for broadcast, size in zip(mask, shape)]
        mask = torch.where(torch.rand(*sizes, source, generator=generator) < 0.8, 0.0, torch.finfo(torch.bfloat16).min)
    expected = scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert torch.allclose(blocked_attention(query, key, value, mask), expected, atol=1e-5)
    low = [None if tensor is None else tensor.bfloat16() for tensor in (query, key, value, mask)]
    with BlockedAttention():
        ours = scaled_dot_product_attention(*low[:3], attn_mask=low[3])
    assert torch.equal(ours, blocked_attention(*low))
    assert torch.allclose(ours.float(), expected, atol=0.03)


def test_attention_that_is_not_taken_over_is_torchs_own():
    tensors = [torch.randn(2, 2, 5, 8).bfloat16() for _ in range(3)]
    for case in ({"is_causal": True}, {"attn_mask": torch.ones(5, 5, dtype=torch.bool)}, {"dropout_p": 1.0}):
        expected = scaled_dot_product_attention(*tensors, **case)
        with BlockedAttention():
            assert torch.equal(scaled_dot_product_attention(*tensors, **case), expected)


@pytest.mark.parametrize("name", LOW)
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
    for name in ("bf16",) if LACKS_INT8 else ("bf16", "int8"):
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


def test_what_is_saved_stays_fp32():
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    copied = half(model, torch.float16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in copied.parameters()} == {torch.float16}
    assert copied[2].running_mean is model[2].running_mean


@with_int8
def test_int8_without_bf16_shares_all_but_the_linear_layers(monkeypatch):
    monkeypatch.setattr(precision, "lacks", lambda *_: "lacks it")
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    ours = served(model, "int8")
    assert torch.equal(ours[0].weight, model[0].weight) and ours[0].weight.data_ptr() == model[0].weight.data_ptr()
    assert ours[2].weight.data_ptr() == model[2].weight.data_ptr()
    assert isinstance(ours[1], Int8Linear) and isinstance(model[1], torch.nn.Linear)


@with_int8
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 16), (3, 700, 16), (0, 16)])
def test_a_packed_layer_is_a_linear_layer(dtype, bias, shape):
    linear = torch.nn.Linear(16, 7, bias).to(dtype)
    inputs = torch.randn(shape).to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    with torch.inference_mode():
        assert torch.allclose(PackedLinear(linear)(inputs), linear(inputs), atol=tolerance)
        turned = torch.randn(16, 5).to(dtype).T
        assert torch.allclose(PackedLinear(linear)(turned), linear(turned), atol=tolerance)


@with_int8
def test_fp32_that_serves_shares_its_weights_with_what_trains():
    model = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    ours = served(model, "fp32")
    assert isinstance(ours[1], PackedLinear)
    assert [own.data_ptr() for own in ours.parameters()] == [own.data_ptr() for own in model.parameters()]


def test_nothing_is_packed_for_another_processor(monkeypatch):
    monkeypatch.setattr(precision, "_is_x86", lambda: False)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3))
    assert served(model, "fp32") is model and type(served(model, "bf16")[0]) is torch.nn.Linear


def test_serving_is_made_once_and_is_not_copied():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3))
    serving = Serving("bf16")
    made = serving.model(model)
    assert serving.model(model) is made
    assert copy.deepcopy(serving)._made is None
