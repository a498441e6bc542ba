"""Weightings: each against a case solved by hand, on steps that lack a task, and on the imbalance they are made for."""

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

from mtl.errors import UserError
from mtl.training.optimizer import adamw
from mtl.weighting.base import Weighting

LOSS_BASED = ["Static", "Uncertainty", "DWA", "Random", "Geometric", "FAMO", "GradNorm"]
SURGERY = ["PCGrad", "CAGrad", "UPGrad", "IMTLG"]


def make(name, **settings) -> Weighting:
    """The weighting of that registered name."""
    if name in SURGERY:
        pytest.importorskip("torchjd", reason="needs TorchJD: pip install spacy-mtl[surgery]")
    return registry.resolve({"weighting": {"@misc": f"mtl.{name}Weighting.v1", **settings}})["weighting"]


TWO = gramian_of(a=[1.0, 0.0], b=[0.0, 1.0])


def test_uncertainty_solved_by_hand():
    """s starts at log(2 loss), where weight = 1 / (2 loss); then it descends along 1/2 - exp(-s) loss."""
    weighting = make("Uncertainty", learning_rate=0.1)
    assert weighting(TWO, {"a": 3.0, "b": 0.25}) == pytest.approx({"a": 1 / 6, "b": 2.0})
    assert weighting(TWO, {"a": 1.5, "b": 0.25}) == pytest.approx({"a": 1 / 6, "b": 2.0})
    after = math.log(6) - 0.1 * (0.5 - 1.5 / 6)
    assert weighting(TWO, {"a": 1.5, "b": 0.25})["a"] == pytest.approx(math.exp(-after))


def test_dwa_solved_by_hand():
    """a's mean loss halves from one period to the next, b's stays: exp(0.5 / 2) against exp(1 / 2), scaled to mean 1."""
    weighting = make("DWA", period=2, temperature=2.0, normalize=False)
    for a in (4.0, 4.0, 2.0):
        assert weighting(TWO, {"a": a, "b": 1.0}) == {"a": 1.0, "b": 1.0}
    mean = (math.exp(0.25) + math.exp(0.5)) / 2
    assert weighting(TWO, {"a": 2.0, "b": 1.0}) == pytest.approx({"a": math.exp(0.25) / mean, "b": math.exp(0.5) / mean})


def test_random_weights_are_a_softmax_of_normal_draws_by_seed():
    weighting, same_seed, other_seed = make("Random", seed=1), make("Random", seed=1), make("Random", seed=2)
    drawn = [weighting(TWO, {"a": 1.0, "b": 1.0}) for _ in range(300)]
    assert drawn == [same_seed(TWO, {"a": 1.0, "b": 1.0}) for _ in range(300)] != [other_seed(TWO, {}) for _ in range(300)]
    assert all(sum(weights.values()) == pytest.approx(2.0) for weights in drawn)
    assert sum(weights["a"] for weights in drawn) / 300 == pytest.approx(1.0, abs=0.1)
    logs = torch.tensor([math.log(weights["a"] / weights["b"]) for weights in drawn])
    assert logs.std().item() == pytest.approx(math.sqrt(2), abs=0.2)  # the difference of two normal draws


def test_geometric_solved_by_hand():
    """Of losses 4 and 1 the mean is 2: weights 2/4 and 2/1; the gradient of sqrt(a b) is half that."""
    weighting = make("Geometric", smoothing=0.0)
    assert weighting(TWO, {"a": 4.0, "b": 1.0}) == pytest.approx({"a": 0.5, "b": 2.0})
    assert weighting(gramian_of(a=[1.0]), {"a": 16.0}) == pytest.approx({"a": 4 / 16})  # b still counts with 1


def test_famo_solved_by_hand():
    """Both xi at 0: 1/2 over the loss. Then a fell by log 2, b by nothing: xi of a falls by lr * 1/2 * (log 2 - log 2 / 2)."""
    weighting = make("FAMO", learning_rate=0.1, decay=0.0)
    assert weighting(TWO, {"a": 2.0, "b": 1.0}) == pytest.approx({"a": 2 / 3, "b": 4 / 3})
    weights = weighting(TWO, {"a": 1.0, "b": 1.0})
    xi = 0.1 * 0.25 * math.log(2)
    z = math.exp(-xi) / (math.exp(-xi) + math.exp(xi))
    assert weights == pytest.approx({"a": 2 * z, "b": 2 * (1 - z)})


def test_gradnorm_solved_by_hand():
    """Norms 1 and 3 at level losses: the weights move until the weighted norms are equal, at 3 to 1."""
    weighting = make("GradNorm", learning_rate=0.01)
    gradients, losses = gramian_of(a=[1.0, 0.0], b=[0.0, 3.0]), {"a": 1.0, "b": 1.0}
    assert weighting(gradients, losses) == {"a": 1.0, "b": 1.0}
    # The mean norm is 2: a is below it and rises by 0.01 * 1/2, b above it and falls by 0.01 * 3/2; then both to mean 1.
    mean = (1.005 + 0.985) / 2
    assert weighting(gradients, losses) == pytest.approx({"a": 1.005 / mean, "b": 0.985 / mean})
    for _ in range(300):
        weights = weighting(gradients, losses)
    assert weights["a"] == pytest.approx(3 * weights["b"], rel=0.05)
    for _ in range(300):  # b's loss has fallen to a tenth of its start: it may have a smaller norm
        weights = weighting(gradients, {"a": 1.0, "b": 0.1})
    assert weights["a"] > 4 * weights["b"]


def test_surgery_solved_by_hand():
    """Two gradients of norm 1 at 120 degrees."""
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([-0.5, math.sqrt(3) / 2])
    gradients = gramian_of(a=a.tolist(), b=b.tolist())

    def sum_by(name, **settings):
        weights = make(name, normalize=False, **settings)(gradients, {"a": 1.0, "b": 1.0})
        return weights["a"] * a + weights["b"] * b

    projected = a + 0.5 * b + b + 0.5 * a  # each less its part along the other
    torch.testing.assert_close(sum_by("PCGrad"), projected)
    torch.testing.assert_close(sum_by("UPGrad"), projected / 2, atol=1e-3, rtol=1e-3)  # their mean
    torch.testing.assert_close(sum_by("CAGrad", c=0.0), (a + b) / 2, atol=1e-3, rtol=1e-3)  # at the mean itself
    mean = (a + b) / 2
    torch.testing.assert_close(sum_by("CAGrad", c=0.5), 1.5 * mean, atol=1e-3, rtol=1e-3)  # both gain most along the mean
    shorter = gramian_of(a=a.tolist(), b=(0.1 * b).tolist())
    weights = make("IMTLG")(shorter, {"a": 1.0, "b": 1.0})
    combined = weights["a"] * a + weights["b"] * 0.1 * b
    assert (combined @ a).item() == pytest.approx((combined @ b).item(), abs=1e-4)  # equal projections, whatever the norms


@pytest.mark.parametrize("name", LOSS_BASED + SURGERY)
def test_a_step_may_lack_a_task_and_the_state_is_restored(name):
    weighting = make(name)
    steps = [
        (TWO, {"a": 2.0, "b": 0.5}),
        (gramian_of(a=[1.0]), {"a": 1.5}),
        (gramian_of(b=[0.3, 2.0]), {"b": 0.4}),
        (gramian_of(a=[1.0, 0.0], c=[0.0, 2.0]), {"a": 1.0}),  # c, a stock component, does not tell its loss
        (gramian_of(a=[0.0], b=[1.0]), {"a": 0.0, "b": 0.2}),  # a is solved
    ]
    for gradients, losses in steps:
        weights = weighting(gradients, losses)
        assert set(weights) == set(gradients.tasks) and all(math.isfinite(w) and w >= 0 for w in weights.values())
    again = make(name)
    again.load(json.loads(json.dumps(weighting.state())))
    for gradients, losses in steps * 2:
        torch.manual_seed(0)
        weights = weighting(gradients, losses)
        torch.manual_seed(0)
        assert again(gradients, losses) == weights


def gradients_of(nlp, examples):
    """The gradients of the encoder's parameters in the optimizer step of an update, by name."""
    gradients = {}

    class Recorder:
        def step_parameters(self, parameters, learn_rate=None):
            for name, (parameter, depth) in parameters.items():
                if depth >= 0 and parameter.grad is not None:
                    gradients[name] = parameter.grad.clone()

    nlp.update(examples, sgd=Recorder())
    nlp.get_pipe("transformer").take_due_step()  # which waits until the weights are read next
    return gradients


def one_task_examples(nlp):
    """Documents that carry the annotation of one task each; the first two are for textcat, the next two for ner."""
    texts = [("The pump failed in Oslo.", {"cats": {"A": 1.0, "B": 0.0}}), ("The valve leaked.", {"cats": {"A": 0.0, "B": 1.0}}),
             ("Crew flew to Oslo.", {"ents": [(13, 17, "LOC")]}), ("A pump.", {"ents": [(2, 6, "PART")]}),
             ("The wire chafed in the bay.", {"qas": {"What chafed?": "The wire", "Who?": None}}),
             ("The pump was bad.", {"tags": list("DNVJ.")}), ("The valve was good.", {"score": 2.0}),
             ("An old pump leaked.", {"attributes": {"pump": ["OLD"]}})]  # fmt: skip
    return [Example(nlp.make_doc(text), gold_doc(nlp, text, **gold)) for text, gold in texts]


@pytest.mark.parametrize("examples", [sample_examples, one_task_examples])
@pytest.mark.parametrize("name", SURGERY)
def test_the_encoder_gets_the_weighted_sum_of_the_tasks_gradients(tiny, examples, name):
    """Each task's gradient is computed with the other heads disabled; weights and sum are then computed here."""
    by_head = {}
    for head in HEADS:
        nlp = make_nlp(tiny(), weighting={"@misc": "mtl.StaticWeighting.v1", "normalize": False})
        stored = {name: nlp.get_pipe(name).to_bytes() for name in HEADS}
        head_examples = examples(nlp)
        with nlp.select_pipes(enable=["transformer", head]):
            by_head[head] = gradients_of(nlp, head_examples)
    nlp = make_nlp(tiny(), weighting={"@misc": f"mtl.{name}Weighting.v1"} | ({} if name == "IMTLG" else {"normalize": False}))
    for head, weights in stored.items():
        nlp.get_pipe(head).from_bytes(weights)
    torch.manual_seed(3)
    combined = gradients_of(nlp, examples(nlp))
    names = sorted(combined)
    flat = {
        head: torch.cat([gradients.get(name, torch.zeros_like(combined[name])).flatten() for name in names])
        for head, gradients in by_head.items()
    }
    statistics = nlp.get_pipe("transformer").statistics
    for head, gradient in flat.items():
        assert statistics[f"norm/{head}"] == pytest.approx(gradient.norm().item(), rel=1e-4)
    cosine = torch.nn.functional.cosine_similarity(flat["ner"], flat["qa"], dim=0).item()
    assert statistics["cosine/ner/qa"] == pytest.approx(cosine, abs=1e-4) and cosine != 0.0  # at the encoder output it would be 0
    torch.manual_seed(3)
    order = nlp.get_pipe("transformer").listening_components
    task_weights = make(name, **({} if name == "IMTLG" else {"normalize": False}))(
        gramian_of(**{head: flat[head].tolist() for head in order}), dict.fromkeys(order, 1.0)
    )
    total = sum(task_weights[head] * flat[head] for head in order)
    torch.testing.assert_close(torch.cat([combined[key].flatten() for key in names]), total, atol=1e-5, rtol=1e-2)


@pytest.mark.parametrize("name", ["UPGrad", "Static"])
def test_gradients_add_up_over_several_updates_before_a_step(tiny, name):
    nlp = make_nlp(tiny(), weighting={"@misc": f"mtl.{name}Weighting.v1"})
    examples = one_task_examples(nlp)
    stored = {name: nlp.get_pipe(name).to_bytes() for name in HEADS}
    nlp.update(examples[:2], sgd=False)
    nlp.update(examples[2:4], sgd=False)
    apart = gradients_of(nlp, examples[4:])
    if name == "UPGrad":
        nlp = make_nlp(tiny(), weighting={"@misc": f"mtl.{name}Weighting.v1"})
        for head, weights in stored.items():
            nlp.get_pipe(head).from_bytes(weights)
        together = gradients_of(nlp, one_task_examples(nlp))
        for key in together:
            torch.testing.assert_close(apart[key], together[key], atol=1e-5, rtol=1e-2)
    assert not nlp.get_pipe("transformer").updates._task_gradients.tasks


def remaining_losses(tiny, weighting):
    """Each head's last loss over its first, if the loss of textcat is a hundred times the others' and only the encoder learns."""
    nlp = make_nlp(tiny(), weighting=weighting)
    textcat = nlp.get_pipe("textcat")
    original = textcat.loss
    textcat.loss = lambda *args: replace(loss := original(*args), mean=100 * loss.mean)
    optimizer, examples = adamw(3e-3, head_lr_multiplier=0.0), sample_examples(nlp)
    losses = [nlp.update(examples, sgd=optimizer, losses={}) for _ in range(60)]
    assert {"weight/ner", "norm/ner", "cosine/ner/textcat"} <= set(nlp.get_pipe("transformer").statistics)
    return {head: sum(step[head] for step in losses[-5:]) / sum(step[head] for step in losses[:5]) for head in HEADS}


def test_a_plain_sum_trains_only_the_task_with_the_largest_loss(tiny):
    remaining = remaining_losses(tiny, {"@misc": "mtl.StaticWeighting.v1", "normalize": False})
    assert remaining["textcat"] < 0.6 and remaining["ner"] > 0.97


@pytest.mark.parametrize("name", LOSS_BASED + SURGERY)
def test_every_weighting_trains_all_tasks_if_one_loss_is_a_hundred_times_the_others(tiny, name):
    make(name)
    remaining = remaining_losses(tiny, {"@misc": f"mtl.{name}Weighting.v1"})
    assert remaining["textcat"] < 0.8 and remaining["ner"] < 0.95 and remaining["qa"] < 0.92


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("mode", ["skip", "stop"])
def test_a_task_that_is_not_finite_is_left_out_or_stops_training(tiny, monkeypatch, caplog, what, mode):
    nlp = make_nlp(tiny())
    transformer, ner = nlp.get_pipe("transformer"), nlp.get_pipe("ner")
    transformer.on_non_finite = mode
    original = ner.loss

    def non_finite(rows, batch, drop):
        loss = original(rows, batch, drop)
        if what == "loss":
            return replace(loss, mean=loss.mean * float("nan"))
        loss.mean.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    monkeypatch.setattr(ner, "loss", non_finite)
    before, heads = transformer.encoder.model.state_dict(), {head: nlp.get_pipe(head).to_bytes() for head in HEADS}
    before = {name: tensor.clone() for name, tensor in before.items()}
    message = f"the {what} of 'ner' is NaN or infinite in a batch of . documents that begins with 'The pump failed in Oslo.'"
    if mode == "stop":
        with pytest.raises(UserError, match=message + r".*components.transformer.on_non_finite = .skip."):
            nlp.update(sample_examples(nlp), sgd=adamw(1e-2))
            transformer.take_due_step()
        return
    with caplog.at_level(logging.WARNING):
        nlp.update(sample_examples(nlp), sgd=adamw(1e-2))
        transformer.take_due_step()
    assert any(re.match(message, line) for line in caplog.messages)
    after = transformer.encoder.model.state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert any(not torch.equal(before[name], tensor) for name, tensor in after.items())
    assert nlp.get_pipe("ner").to_bytes() == heads["ner"] and nlp.get_pipe("textcat").to_bytes() != heads["textcat"]
    assert "norm/ner" not in transformer.statistics
    with pytest.raises(UserError, match=r"components.other.on_non_finite = 'maybe' is not known; allowed: 'skip', 'stop'"):
        nlp.add_pipe("mtl_transformer", name="other", config={"on_non_finite": "maybe"})


def test_an_error_in_a_setting_names_it():
    for name, settings, words in (
        ("Uncertainty", {"learning_rate": 3.0}, "weighting.learning_rate = 3"),
        ("DWA", {"period": 0}, "weighting.period = 0"),
        ("DWA", {"temperature": 0.0}, "weighting.temperature = 0"),
        ("Geometric", {"smoothing": 1.5}, "weighting.smoothing = 1.5"),
        ("FAMO", {"learning_rate": -1.0}, "weighting.learning_rate = -1"),
        ("FAMO", {"decay": -1.0}, "weighting.decay = -1"),
        ("GradNorm", {"alpha": -1.0}, "weighting.alpha = -1"),
        ("GradNorm", {"learning_rate": -1.0}, "weighting.learning_rate = -1"),
        ("Static", {"weights": {"ner": -1.0}}, "weighting.weights.ner = -1"),
        ("Static", {"anneal": {"ner": 0}}, "weighting.anneal.ner = 0"),
        ("CAGrad", {"c": 1.5}, "weighting.c = 1.5"),
    ):
        with pytest.raises(UserError, match=words):
            make(name, **settings)


def test_a_tiny_first_loss_or_a_leap_neither_disables_a_task_nor_overflows():
    weighting = make("Uncertainty")
    for loss in (1e-4, *[1.0] * 300):
        weights = weighting(TWO, {"a": loss, "b": 1.0})
    assert 0.2 < weights["a"] < 2.0
    weighting = make("DWA", period=1, temperature=0.01, normalize=False)
    for loss in (1e-6, 1e-2, 1.0):
        weights = weighting(TWO, {"a": loss, "b": 1.0})
    assert all(math.isfinite(weight) for weight in weights.values())


def test_an_unknown_method_in_a_config_is_reported_in_one_line_with_those_that_exist():
    from mtl.cli.messages import message_of

    with pytest.raises(Exception) as caught:
        make("Uncertain")
    message = message_of(caught.value)
    assert message.startswith("the config: there is no 'mtl.UncertainWeighting.v1' among the misc; there are mtl.")
    assert "mtl.UncertaintyWeighting.v1" in message and "spacy." not in message and "\n" not in message
    assert message_of(UserError("said")) == "said" and message_of(ValueError("a programmer's")) is None


def test_a_duplicate_section_of_a_config_is_named(tmp_path, capsys, monkeypatch):
    from mtl.cli import app

    (tmp_path / "config.cfg").write_text('[nlp]\nlang = "en"\n[corpora]\n[nlp]\n')
    monkeypatch.setattr("sys.argv", ["mtl", "augment", str(tmp_path / "config.cfg")])
    with pytest.raises(SystemExit):
        app.main()
    assert "error: the config: While reading from '<string>' [line 4]: section 'nlp' already exists" in capsys.readouterr().err
