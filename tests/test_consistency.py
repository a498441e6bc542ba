"""Consistency on documents without labels: two passes under different dropout are to predict the same."""

import pytest
import torch
from conftest import make_nlp, sample_examples, save_tiny
from spacy.training import Example
from thinc.api import fix_random_seed

from mtl.encoder.component import Transformer
from mtl.errors import UserError
from mtl.tasks.outputs import divergence
from mtl.tasks.qa.gold import set_open_questions
from mtl.tasks.training import weighted_mean
from mtl.training.optimizer import adamw

HEADS = ("textcat", "ner", "qa")


@pytest.fixture
def encoder(tmp_path):
    return save_tiny("bert", tmp_path / "encoder", hidden_dropout_prob=0.3)


def unlabelled(nlp):
    docs = [nlp.make_doc(text) for text in ("The pump failed in Oslo.", "The valve leaked.", "Crew flew home.")]
    for doc in docs:
        set_open_questions(doc, ["What failed?"])
    return [Example(nlp.make_doc(doc.text), doc) for doc in docs]


@pytest.mark.parametrize("head", HEADS)
def test_the_loss_on_unlabelled_documents_is_the_divergence_and_training_lowers_it(encoder, head):
    nlp = make_nlp(encoder, (head,))
    assert nlp.update(unlabelled(nlp), sgd=False, losses={})[head] == 0.0  # off by default
    nlp.get_pipe("transformer").consistency = 1.0
    fix_random_seed(1)
    loss = nlp.update(unlabelled(nlp), sgd=False, losses={})[head]
    assert loss > 0
    optimizer = adamw(3e-3)
    losses = [nlp.update(unlabelled(nlp), sgd=optimizer, losses={})[head] for _ in range(60)]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


def test_labelled_and_unlabelled_documents_count_by_their_numbers_and_the_weight(encoder):
    nlp = make_nlp(encoder, ("textcat",))
    labelled = [eg for eg in sample_examples(nlp) if eg.reference.cats][:2]
    transformer = nlp.get_pipe("transformer")

    def loss_of(examples, weight):
        transformer.consistency = weight
        for module in transformer.encoder.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # the divergence is 0 then
        return nlp.update(examples, sgd=False, losses={})["textcat"]

    gold = loss_of(labelled, 0.0)
    for weight in (1.0, 0.5):
        together = loss_of([*labelled, *unlabelled(nlp)], weight)
        assert together == pytest.approx(gold * 2 / (2 + 3 * weight), rel=1e-4)


def test_means_are_weighted_and_missing_parts_left_out():
    parts = [(torch.tensor(1.0), 2.0), (None, 0.0), (torch.tensor(4.0), 1.0)]
    loss, count = weighted_mean(parts)
    assert loss.item() == pytest.approx(2.0) and count == 3.0 and weighted_mean([(None, 0.0)]) == (None, 0.0)
    assert divergence(torch.zeros(1, 2), torch.zeros(1, 2)).item() == 0


def test_documents_are_encoded_twice_for_all_heads_together(encoder, monkeypatch):
    nlp = make_nlp(encoder, ("textcat", "ner"))
    nlp.get_pipe("transformer").consistency = 1.0
    encoded = []
    module = nlp.get_pipe("transformer").encoder
    encode = type(module).encode

    def count(self, docs, *args, **kwargs):
        encoded.append(len(docs))
        return encode(self, docs, *args, **kwargs)

    monkeypatch.setattr(type(module), "encode", count)
    nlp.update(unlabelled(nlp), sgd=adamw(1e-3))
    assert encoded == [3, 3]


def test_heads_without_comparable_outputs_do_not_take_part(encoder):
    nlp = make_nlp(encoder, ("regressor", "textcat"))
    nlp.get_pipe("transformer").consistency = 1.0
    losses = nlp.update(unlabelled(nlp), sgd=adamw(1e-3), losses={})
    assert losses["regressor"] == 0.0 and losses["textcat"] > 0


def test_a_negative_weight_is_refused():
    with pytest.raises(UserError, match=r"components.transformer.consistency = -1"):
        Transformer(None, None, weighting=None, consistency=-1.0)
