"""R-Drop: two passes under different dropout masks, and a loss on the difference of their predictions."""

import math

import numpy as np
import pytest
import torch
from conftest import make_nlp, sample_examples, save_tiny
from thinc.api import fix_random_seed

from mtl.encoder.component import Transformer
from mtl.encoder.model.encoder import Encoder
from mtl.errors import UserError
from mtl.tasks.loss import Loss, with_consistency
from mtl.tasks.outputs import Names, Outputs, binary_logits, divergence
from mtl.training.optimizer import adamw

HEADS = ("textcat", "ner", "qa")


def test_the_divergence_is_that_computed_by_hand():
    """p = (1/2, 1/2) and q = (3/4, 1/4): half of KL(p, q) + KL(q, p); the mean over two rows, one without a difference."""
    p, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.75, 0.25]).log()
    p_to_q = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    q_to_p = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert divergence(p, q).item() == pytest.approx((p_to_q + q_to_p) / 2, rel=1e-5)
    assert divergence(torch.stack([p, p]), torch.stack([q, p])).item() == pytest.approx((p_to_q + q_to_p) / 4, rel=1e-5)
    log_probabilities = binary_logits(torch.tensor([[0.0, math.log(3)]]))
    assert torch.allclose(log_probabilities.exp(), torch.tensor([[0.5, 0.5], [0.75, 0.25]]))


def test_impossible_outcomes_do_not_count():
    """Start logits of the shorter of two documents end in -inf."""
    logits = torch.tensor([[1.0, 2.0, -math.inf]], requires_grad=True)
    difference = divergence(logits, torch.tensor([[2.0, 1.0, -math.inf]]))
    difference.backward()
    assert difference.item() == pytest.approx(divergence(torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 1.0]])).item())
    assert torch.isfinite(logits.grad).all()


def test_the_loss_is_the_mean_of_both_plus_the_divergence_times_its_weight():
    p, q = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    first, second = (Outputs((table,), np.zeros(1), lambda example: Names([""], [["yes", "no"]])) for table in (p, q))
    loss = with_consistency(Loss(torch.tensor(1.0), 4, first), Loss(torch.tensor(3.0), 4, second), 5.0)
    assert loss.mean.item() == pytest.approx(2 + 5 * divergence(p, q).item()) and loss.count == 4
    assert with_consistency(Loss(torch.tensor(1.0), 4), Loss(torch.tensor(3.0), 4), 5.0).mean.item() == 2  # a regressor's


@pytest.mark.parametrize("head", HEADS)
def test_the_loss_grows_by_the_divergence_under_dropout_only(tmp_path, head):
    """Without dropout the passes are the same, and so is the loss; with it the loss is higher by the divergence."""
    losses = {}
    for rate in (0.0, 0.3):
        encoder = save_tiny("bert", tmp_path / f"{rate}", hidden_dropout_prob=rate)
        for strength in (0.0, 10.0):
            nlp = make_nlp(encoder, (head,))
            nlp.get_pipe("transformer").r_drop = strength
            fix_random_seed(1)
            losses[rate, strength] = nlp.update(sample_examples(nlp), sgd=False, losses={})[head]
    assert losses[0.0, 0.0] == pytest.approx(losses[0.0, 10.0], rel=1e-5)
    assert losses[0.3, 10.0] > losses[0.3, 0.0] + 1e-4


def test_all_heads_share_both_passes_and_learn(tmp_path, monkeypatch):
    encoded = []
    encode = Encoder.encode
    monkeypatch.setattr(
        Encoder, "encode", lambda self, docs, prompts=None, train=False, before=0: encoded.append(
            (len(docs), prompts is not None, train)
        ) or encode(self, docs, prompts, train=train, before=before)
    )  # fmt: skip
    nlp = make_nlp(save_tiny("bert", tmp_path / "encoder", hidden_dropout_prob=0.1), HEADS)
    nlp.get_pipe("transformer").r_drop = 1.0
    examples, optimizer = sample_examples(nlp), adamw(3e-3, head_lr_multiplier=3.0)
    encoded.clear()
    first = nlp.update(examples, sgd=optimizer, losses={})
    plain = sum(size for size, prompted, train in encoded if train and not prompted)
    assert plain == 2 * 7  # each document with categories or entities twice, not once for each head
    assert sum(size for size, prompted, train in encoded if train and prompted) == 2 * 7
    for _ in range(60):
        last = nlp.update(examples, sgd=optimizer, losses={})
    assert all(last[head] < 0.5 * first[head] for head in HEADS)


def test_it_is_off_by_default_and_a_negative_weight_is_refused(tiny):
    with pytest.raises(UserError, match=r"components.transformer.r_drop = -1"):
        Transformer(None, None, weighting=None, r_drop=-1.0)
    nlp = make_nlp(tiny(), ("textcat",))
    assert nlp.config["components"]["transformer"]["r_drop"] == 0.0
