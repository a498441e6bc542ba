"""Attention pooling of categories: each weighs a document's tokens itself."""

import numpy as np
import pytest
import spacy
import torch
from conftest import make_nlp, overfit, sample_examples

from mtl.encoder.model.vectors import TokenVectors
from mtl.errors import UserError
from mtl.tasks.textcat.module import Textcat, attended

ATTENTION = {"model": {"pooling": "attention"}}


def vectors(lengths=(3, 0, 2), width=4):
    torch.manual_seed(0)
    total = sum(lengths)
    aligned = np.ones(total, dtype=bool)
    aligned[1] = False
    return TokenVectors(torch.randn(total, width), torch.randn(len(lengths), width), np.array(lengths), aligned)


def test_it_starts_as_the_mean():
    torch.manual_seed(1)
    mean = Textcat(4, ["A", "B"])
    attention = Textcat(4, ["A", "B"], "attention")
    attention.output.load_state_dict(mean.output.state_dict())
    torch.testing.assert_close(attention(vectors()), mean(vectors()))


def test_the_weights_are_a_softmax_over_each_documents_tokens_and_for_each_category():
    values, scores = torch.randn(5, 2), torch.randn(5, 2) * 50  # far apart: no overflow
    owners = torch.tensor([0, 0, 0, 2, 2])
    result = attended(values, scores, owners, 3)
    for owner in (0, 2):
        own = owners == owner
        torch.testing.assert_close(result[owner], (scores[own].softmax(0) * values[own]).sum(0))
    assert result[1].tolist() == [0.0, 0.0]


def test_gradients_reach_attention_and_vectors():
    module, tokens = Textcat(4, ["A", "B"], "attention"), vectors()
    tokens.vectors.requires_grad_(True)
    module(tokens)[0, 0].backward()
    assert module.attention.weight.grad[0].abs().sum() > 0 and module.attention.weight.grad[1].abs().sum() == 0
    assert tokens.vectors.grad[0].abs().sum() > 0 and tokens.vectors.grad[1].abs().sum() == 0  # not aligned


def test_a_head_with_attention_learns_grows_and_is_saved(tiny, tmp_path):
    nlp = make_nlp(tiny(), ("textcat",), textcat=ATTENTION)
    overfit(nlp, steps=80)
    assert nlp.evaluate(sample_examples(nlp))["cats_accuracy"] == 1.0
    head, text = nlp.get_pipe("textcat"), "The pump failed in Oslo."
    before = nlp(text).cats
    assert head.module.attention.weight.abs().sum() > 0
    nlp.to_disk(tmp_path / "saved")
    assert spacy.load(tmp_path / "saved")(text).cats == before
    head.add_label("NEW")
    after = nlp(text).cats
    assert max(after, key=after.get) == max(before, key=before.get) and after["NEW"] < 0.05


def test_another_pooling_is_refused(tiny):
    with pytest.raises(UserError, match=r"pooling = 'max'.*mean.*attention"):
        make_nlp(tiny(), ("textcat",), textcat={"model": {"pooling": "max"}})
