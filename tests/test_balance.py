"""Balances: each against a case solved by hand, what they do where a step lacks a task, and what they are for."""

import json
import logging
import math
import re
from dataclasses import replace

import pytest
import torch
from conftest import HEADS, gold_doc, gramian_of, make_nlp, sample_examples
from spacy.training import Example
from spacy.util import registry

from mtl.balance.balance import Balance
from mtl.errors import UserError
from mtl.training.optimizer import adamw

LOSS_BASED = ["Static", "Uncertainty", "DWA", "Random", "Geometric", "FAMO", "GradNorm"]
SURGERY = ["PCGrad", "CAGrad", "UPGrad", "IMTLG"]


def make(name, **settings) -> Balance:
    if name in SURGERY:
        pytest.importorskip("torchjd", reason="needs it: pip install spacy-mtl[surgery]")
    return registry.resolve({"balance": {"@misc": f"mtl.{name}Balance.v1", **settings}})["balance"]


TWO = gramian_of(a=[1.0, 0.0], b=[0.0, 1.0])


def test_uncertainty():
    """s starts at log(2 loss), where weight = 1 / (2 loss); then it descends along 1/2 - exp(-s) loss."""
    balance = make("Uncertainty", learn_rate=0.1)
    assert balance(TWO, {"a": 3.0, "b": 0.25}) == pytest.approx({"a": 1 / 6, "b": 2.0})
    assert balance(TWO, {"a": 1.5, "b": 0.25}) == pytest.approx({"a": 1 / 6, "b": 2.0})
    after = math.log(6) - 0.1 * (0.5 - 1.5 / 6)
    assert balance(TWO, {"a": 1.5, "b": 0.25})["a"] == pytest.approx(math.exp(-after))


def test_dwa():
    """a's mean loss halves from one period to the next, b's stays: exp(0.5 / 2) against exp(1 / 2), of mean 1."""
    balance = make("DWA", period=2, temperature=2.0, normalize=False)
    for a in (4.0, 4.0, 2.0):
        assert balance(TWO, {"a": a, "b": 1.0}) == {"a": 1.0, "b": 1.0}
    mean = (math.exp(0.25) + math.exp(0.5)) / 2
    assert balance(TWO, {"a": 2.0, "b": 1.0}) == pytest.approx({"a": math.exp(0.25) / mean, "b": math.exp(0.5) / mean})


def test_random():
    one, two, other = make("Random", seed=1), make("Random", seed=1), make("Random", seed=2)
    drawn = [one(TWO, {"a": 1.0, "b": 1.0}) for _ in range(300)]
    assert drawn == [two(TWO, {"a": 1.0, "b": 1.0}) for _ in range(300)] != [other(TWO, {}) for _ in range(300)]
    assert all(sum(weights.values()) == pytest.approx(2.0) for weights in drawn)
    assert sum(weights["a"] for weights in drawn) / 300 == pytest.approx(1.0, abs=0.1)
    logs = torch.tensor([math.log(weights["a"] / weights["b"]) for weights in drawn])
    assert logs.std().item() == pytest.approx(math.sqrt(2), abs=0.2)  # the difference of two normal draws


def test_geometric():
    """Of losses 4 and 1 the mean is 2: weights 2/4 and 2/1; the gradient of sqrt(a b) is half that."""
    balance = make("Geometric", smoothing=0.0)
    assert balance(TWO, {"a": 4.0, "b": 1.0}) == pytest.approx({"a": 0.5, "b": 2.0})
    assert balance(gramian_of(a=[1.0]), {"a": 16.0}) == pytest.approx({"a": 4 / 16})  # b still counts with 1


def test_famo():
    """Both xi at 0: 1/2 over the loss. Then a fell by log 2, b by nothing: xi of a falls by lr * 1/2 * (log 2 - log 2 / 2)."""
    balance = make("FAMO", learn_rate=0.1, decay=0.0)
    assert balance(TWO, {"a": 2.0, "b": 1.0}) == pytest.approx({"a": 2 / 3, "b": 4 / 3})
    found = balance(TWO, {"a": 1.0, "b": 1.0})
    xi = 0.1 * 0.25 * math.log(2)
    z = math.exp(-xi) / (math.exp(-xi) + math.exp(xi))
    assert found == pytest.approx({"a": 2 * z, "b": 2 * (1 - z)})


def test_gradnorm():
    """Norms 1 and 3 at level losses: the weights move until the weighted norms are one, at 3 to 1."""
    balance = make("GradNorm", learn_rate=0.01)
    gradients, losses = gramian_of(a=[1.0, 0.0], b=[0.0, 3.0]), {"a": 1.0, "b": 1.0}
    assert balance(gradients, losses) == {"a": 1.0, "b": 1.0}
    # The mean norm is 2: a is below it and rises by 0.01 * 1/2, b above it and falls by 0.01 * 3/2; then both to mean 1.
    mean = (1.005 + 0.985) / 2
    assert balance(gradients, losses) == pytest.approx({"a": 1.005 / mean, "b": 0.985 / mean})
    for _ in range(300):
        weights = balance(gradients, losses)
    assert weights["a"] == pytest.approx(3 * weights["b"], rel=0.05)
    for _ in range(300):  # b's loss has fallen to a tenth of its start: it may have a smaller norm
        weights = balance(gradients, {"a": 1.0, "b": 0.1})
    assert weights["a"] > 4 * weights["b"]


def test_surgery_by_hand():
    """Of two gradients at 120 degrees, of norm 1."""
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([-0.5, math.sqrt(3) / 2])
    gradients = gramian_of(a=a.tolist(), b=b.tolist())

    def sum_by(name, **settings):
        weights = make(name, normalize=False, **settings)(gradients, {"a": 1.0, "b": 1.0})
        return weights["a"] * a + weights["b"] * b

    projected = a + 0.5 * b + b + 0.5 * a  # each less its part along the other
    torch.testing.assert_close(sum_by("PCGrad"), projected)
    torch.testing.assert_close(sum_by("UPGrad"), projected / 2, atol=1e-3, rtol=1e-3)  # their mean
    torch.testing.assert_close(sum_by("CAGrad", c=0.0), (a + b) / 2, atol=1e-3, rtol=1e-3)  # no way from the mean
    mean = (a + b) / 2
    torch.testing.assert_close(sum_by("CAGrad", c=0.5), 1.5 * mean, atol=1e-3, rtol=1e-3)  # alike: both gain most along the mean
    shorter = gramian_of(a=a.tolist(), b=(0.1 * b).tolist())
    weights = make("IMTLG")(shorter, {"a": 1.0, "b": 1.0})
    combined = weights["a"] * a + weights["b"] * 0.1 * b
    assert (combined @ a).item() == pytest.approx((combined @ b).item(), abs=1e-4)  # equal projections, whatever the norms


@pytest.mark.parametrize("name", LOSS_BASED + SURGERY)
def test_a_step_may_lack_a_task_and_the_state_comes_back(name):
    balance = make(name)
    steps = [
        (TWO, {"a": 2.0, "b": 0.5}),
        (gramian_of(a=[1.0]), {"a": 1.5}),
        (gramian_of(b=[0.3, 2.0]), {"b": 0.4}),
        (gramian_of(a=[1.0, 0.0], c=[0.0, 2.0]), {"a": 1.0}),  # c, a stock component, keeps its loss to itself
        (gramian_of(a=[0.0], b=[1.0]), {"a": 0.0, "b": 0.2}),  # a is solved
    ]
    for gradients, losses in steps:
        weights = balance(gradients, losses)
        assert set(weights) == set(gradients.tasks) and all(math.isfinite(w) and w >= 0 for w in weights.values())
    again = make(name)
    again.load(json.loads(json.dumps(balance.state())))
    for gradients, losses in steps * 2:
        torch.manual_seed(0)
        one = balance(gradients, losses)
        torch.manual_seed(0)
        assert again(gradients, losses) == one


def gradients_of(nlp, examples):
    """What an update leaves on the encoder's parameters, when the optimizer comes."""
    found = {}

    class Look:
        def step_parameters(self, parameters):
            found.update({name: p.grad.clone() for name, (p, depth) in parameters.items() if depth >= 0 and p.grad is not None})

    nlp.update(examples, sgd=Look())
    return found


def one_task_examples(nlp):
    texts = [("The pump failed in Oslo.", {"cats": {"A": 1.0, "B": 0.0}}), ("The valve leaked.", {"cats": {"A": 0.0, "B": 1.0}}),
             ("Crew flew to Oslo.", {"ents": [(13, 17, "LOC")]}), ("A pump.", {"ents": [(2, 6, "PART")]}),
             ("The wire chafed in the bay.", {"qas": {"What chafed?": "The wire", "Who?": None}})]  # fmt: skip
    return [Example(nlp.make_doc(text), gold_doc(nlp, text, **gold)) for text, gold in texts]


@pytest.mark.parametrize("examples", [sample_examples, one_task_examples])
@pytest.mark.parametrize("name", SURGERY)
def test_the_encoder_gets_the_weighted_sum_of_the_tasks_gradients(tiny, examples, name):
    """Each task's gradient is found with the other heads left out; weights and sum are then made here."""
    own = {}
    for head in HEADS:
        nlp = make_nlp(tiny(), balance={"@misc": "mtl.StaticBalance.v1", "normalize": False})
        weights = {one: nlp.get_pipe(one).to_bytes() for one in HEADS}
        given = examples(nlp)
        with nlp.select_pipes(enable=["transformer", head]):
            own[head] = gradients_of(nlp, given)
    nlp = make_nlp(tiny(), balance={"@misc": f"mtl.{name}Balance.v1"} | ({} if name == "IMTLG" else {"normalize": False}))
    for head, stored in weights.items():
        nlp.get_pipe(head).from_bytes(stored)
    torch.manual_seed(3)
    found = gradients_of(nlp, examples(nlp))
    names = sorted(found)
    flat = {
        head: torch.cat([grads.get(one, torch.zeros_like(found[one])).flatten() for one in names]) for head, grads in own.items()
    }
    statistics = nlp.get_pipe("transformer").statistics
    for head, gradient in flat.items():
        assert statistics[f"norm/{head}"] == pytest.approx(gradient.norm().item(), rel=1e-4)
    cosine = torch.nn.functional.cosine_similarity(flat["ner"], flat["qa"], dim=0).item()
    assert statistics["cosine/ner/qa"] == pytest.approx(cosine, abs=1e-4) and cosine != 0.0  # at the output it would be 0
    torch.manual_seed(3)
    order = nlp.get_pipe("transformer").listening_components
    again = make(name, **({} if name == "IMTLG" else {"normalize": False}))(
        gramian_of(**{head: flat[head].tolist() for head in order}), dict.fromkeys(order, 1.0)
    )
    total = sum(again[head] * flat[head] for head in order)
    torch.testing.assert_close(torch.cat([found[one].flatten() for one in names]), total, atol=1e-5, rtol=1e-2)


@pytest.mark.parametrize("name", ["UPGrad", "Static"])
def test_gradients_add_up_over_several_updates_before_a_step(tiny, name):
    nlp = make_nlp(tiny(), balance={"@misc": f"mtl.{name}Balance.v1"})
    examples = one_task_examples(nlp)
    weights = {one: nlp.get_pipe(one).to_bytes() for one in HEADS}
    nlp.update(examples[:2], sgd=False)
    nlp.update(examples[2:4], sgd=False)
    apart = gradients_of(nlp, examples[4:])
    if name == "UPGrad":
        nlp = make_nlp(tiny(), balance={"@misc": f"mtl.{name}Balance.v1"})
        for head, stored in weights.items():
            nlp.get_pipe(head).from_bytes(stored)
        together = gradients_of(nlp, one_task_examples(nlp))
        for key in together:
            torch.testing.assert_close(apart[key], together[key], atol=1e-5, rtol=1e-2)
    assert not nlp.get_pipe("transformer")._task_gradients.tasks


def left_of_the_losses(tiny, balance):
    """Each head's last loss over its first, where one task's loss is a hundred times the others', and only the encoder learns."""
    nlp = make_nlp(tiny(), balance=balance)
    textcat = nlp.get_pipe("textcat")
    whole = textcat.loss
    textcat.loss = lambda *given: replace(loss := whole(*given), mean=100 * loss.mean)
    optimizer, examples = adamw(3e-3, head_factor=0.0), sample_examples(nlp)
    losses = [nlp.update(examples, sgd=optimizer, losses={}) for _ in range(60)]
    assert {"weight/ner", "norm/ner", "cosine/ner/textcat"} <= set(nlp.get_pipe("transformer").statistics)
    return {head: sum(one[head] for one in losses[-5:]) / sum(one[head] for one in losses[:5]) for head in HEADS}


def test_a_plain_sum_trains_the_task_with_the_largest_loss_alone(tiny):
    left = left_of_the_losses(tiny, {"@misc": "mtl.StaticBalance.v1", "normalize": False})
    assert left["textcat"] < 0.6 and left["ner"] > 0.97


@pytest.mark.parametrize("name", LOSS_BASED + SURGERY)
def test_every_balance_trains_all_tasks_where_one_loss_is_a_hundred_times_the_others(tiny, name):
    make(name)
    left = left_of_the_losses(tiny, {"@misc": f"mtl.{name}Balance.v1"})
    assert left["textcat"] < 0.8 and left["ner"] < 0.95 and left["qa"] < 0.92


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("mode", ["skip", "stop"])
def test_a_task_that_is_no_number_poisons_nothing(tiny, monkeypatch, caplog, what, mode):
    nlp = make_nlp(tiny())
    transformer, ner = nlp.get_pipe("transformer"), nlp.get_pipe("ner")
    transformer.stops = mode == "stop"
    whole = ner.loss

    def broken(rows, batch, drop):
        loss = whole(rows, batch, drop)
        if what == "loss":
            return replace(loss, mean=loss.mean * float("nan"))
        loss.mean.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    monkeypatch.setattr(ner, "loss", broken)
    before, heads = transformer.encoder.model.state_dict(), {head: nlp.get_pipe(head).to_bytes() for head in HEADS}
    before = {name: tensor.clone() for name, tensor in before.items()}
    message = f"the {what} of 'ner' is no finite number, in the batch of . documents that begins with 'The pump failed in Oslo.'"
    if mode == "stop":
        with pytest.raises(UserError, match=message + r".*components.transformer.not_finite = .skip."):
            nlp.update(sample_examples(nlp), sgd=adamw(1e-2))
        return
    with caplog.at_level(logging.WARNING):
        nlp.update(sample_examples(nlp), sgd=adamw(1e-2))
    assert any(re.match(message, line) for line in caplog.messages)
    after = transformer.encoder.model.state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert any(not torch.equal(before[name], tensor) for name, tensor in after.items())
    assert nlp.get_pipe("ner").to_bytes() == heads["ner"] and nlp.get_pipe("textcat").to_bytes() != heads["textcat"]
    assert "norm/ner" not in transformer.statistics
    with pytest.raises(UserError, match=r"components.other.not_finite = 'maybe' is not known; allowed: 'skip', 'stop'"):
        nlp.add_pipe("mtl_transformer", name="other", config={"not_finite": "maybe"})


def test_settings_are_checked():
    for name, settings, words in (
        ("Uncertainty", {"learn_rate": 3.0}, "balance.learn_rate = 3"),
        ("DWA", {"period": 0}, "balance.period = 0"),
        ("DWA", {"temperature": 0.0}, "balance.temperature = 0"),
        ("Geometric", {"smoothing": 1.5}, "balance.smoothing = 1.5"),
        ("FAMO", {"decay": -1.0}, "balance.decay = -1"),
        ("GradNorm", {"alpha": -1.0}, "balance.alpha = -1"),
        ("CAGrad", {"c": 1.5}, "balance.c = 1.5"),
    ):
        with pytest.raises(UserError, match=words):
            make(name, **settings)


def test_a_first_loss_of_almost_nothing_and_a_leap():
    """Neither is a task switched off for good, nor is there an overflow."""
    balance = make("Uncertainty")
    for loss in (1e-4, *[1.0] * 300):
        weights = balance(TWO, {"a": loss, "b": 1.0})
    assert 0.2 < weights["a"] < 2.0
    balance = make("DWA", period=1, temperature=0.01, normalize=False)
    for loss in (1e-6, 1e-2, 1.0):
        weights = balance(TWO, {"a": loss, "b": 1.0})
    assert all(math.isfinite(weight) for weight in weights.values())


def test_an_unknown_method_in_a_config_is_one_line_that_names_those_there_are():
    from mtl.cli.messages import message_of

    with pytest.raises(Exception) as caught:
        make("Uncertain")
    message = message_of(caught.value)
    assert message.startswith("the config: there is no 'mtl.UncertainBalance.v1' among the misc; there are mtl.")
    assert "mtl.UncertaintyBalance.v1" in message and "spacy." not in message and "\n" not in message
    assert message_of(UserError("said")) == "said" and message_of(ValueError("a programmer's")) is None


def test_a_section_that_a_config_has_twice(tmp_path, capsys, monkeypatch):
    from mtl.cli import app

    (tmp_path / "config.cfg").write_text('[nlp]\nlang = "en"\n[corpora]\n[nlp]\n')
    monkeypatch.setattr("sys.argv", ["mtl", "augment", str(tmp_path / "config.cfg")])
    with pytest.raises(SystemExit):
        app.main()
    assert "error: the config: While reading from '<string>' [line 4]: section 'nlp' already exists" in capsys.readouterr().err
