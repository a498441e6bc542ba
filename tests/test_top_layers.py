"""`top_layers` of `mtl.Encoder.v1`: a token's vector holds several layers, and each head weighs them itself."""

import pytest
import spacy
import torch
from conftest import TASKS, TEXTS, make_nlp, overfit, sample_examples
from test_encoder import docs_of, load
from test_masked_lm import save_whole, with_masked_lm

from mtl.errors import UserError
from mtl.training.distill import DistillSettings, distill
from mtl.training.optimizer import adamw


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "modernbert"])
@pytest.mark.parametrize("train", [False, True])
def test_a_vector_holds_the_top_layers_the_last_one_first(tiny, family, train):
    one, two = load(tiny(family)), load(tiny(family), top_layers=2)
    docs = docs_of([text for text in TEXTS if text.strip()])
    torch.manual_seed(1)
    single = one.encode(docs, train=train)
    torch.manual_seed(1)
    double = two.encode(docs, train=train)
    width = one.width
    assert two.width == 2 * width and double.vectors.shape[1] == double.summaries.shape[1] == 2 * width
    torch.testing.assert_close(double.vectors[:, :width], single.vectors, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(double.summaries[:, :width], single.summaries, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(double.vectors[:, width:], single.vectors, atol=1e-2)


def test_the_layer_below_is_that_of_the_model(tiny):
    encoder = load(tiny("bert"), top_layers=2)
    text = "pump"
    (vector,) = encoder.encode(docs_of([text])).vectors
    ids = encoder.tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        below = encoder.model(**ids, output_hidden_states=True).hidden_states[-2][0, 1:-1].mean(0)
    torch.testing.assert_close(vector[encoder.width // 2 :], below, atol=1e-5, rtol=1e-4)


def test_every_head_learns_from_them_and_predicts_the_same_after_loading(tiny, tmp_path):
    nlp = make_nlp(tiny(), heads=tuple(TASKS), model={"top_layers": 2})
    overfit(nlp, steps=40)
    assert nlp.get_pipe("ner").module.output.in_features == nlp.get_pipe("transformer").width == 64
    nlp.to_disk(tmp_path / "nlp")
    loaded = spacy.load(tmp_path / "nlp")
    for example in sample_examples(nlp):
        before, after = nlp(example.text), loaded(example.text)
        assert before.cats == after.cats and before.to_json() == after.to_json()


def test_a_student_keeps_the_layers_that_heads_read(tiny, tmp_path):
    make_nlp(tiny(), heads=("textcat",), model={"top_layers": 2}).to_disk(tmp_path / "nlp")
    with pytest.raises(UserError, match=r"layers = 1: the teacher's encoder has 2; allowed: 2 to 1"):
        distill(str(tmp_path / "nlp"), ["a"], [], [], tmp_path / "out", DistillSettings(layers=(1,)), print)


def test_masked_words_are_predicted_from_the_last_layer(tmp_path):
    folder, _ = save_whole("bert", tmp_path / "whole")
    nlp = with_masked_lm(folder)
    wide = spacy.blank("en")
    wide.add_pipe("mtl_transformer", name="transformer", config={"model": {"top_layers": 2, "device": "cpu"}})
    wide.add_pipe("mtl_masked_lm", name="masked_lm")
    wide.config["initialize"]["components"] = {
        "transformer": {"encoder_loader": {"@misc": "mtl.HuggingFaceLoader.v1", "name": folder}}, "masked_lm": {"name": folder}
    }  # fmt: skip
    wide.initialize(lambda: sample_examples(wide))
    losses = {}
    wide.update(sample_examples(wide), sgd=adamw(learn_rate=1e-3), losses=losses)
    assert losses["masked_lm"] > 0 and nlp.get_pipe("transformer").width * 2 == wide.get_pipe("transformer").width


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"top_layers": 0}, ["top_layers = 0"]),
        ({"top_layers": 3}, ["top_layers = 3 is more than the encoder's 2 layers"]),
        ({"top_layers": 2, "precision": "int8"}, ["top_layers = 2 needs torch", "other than int8"]),
        ({"top_layers": 2, "backend": "openvino"}, ["top_layers = 2 needs torch", 'backend = "torch"']),
    ],
)
def test_what_cannot_be_is_named(tiny, settings, words):
    with pytest.raises(UserError) as error:
        load(tiny(), **settings)
    assert all(word in str(error.value) for word in words)
