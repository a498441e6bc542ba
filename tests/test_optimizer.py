"""Optimizers: parameter groups, decay, clipping, averages, schedules."""

import itertools
import math

import pytest
import torch
from conftest import make_nlp, sample_examples
from spacy.util import registry

from mtl.errors import UserError
from mtl.optimization import warmup_cosine, warmup_linear
from mtl.training.optimizer import adam, adamw, rmsprop, sgd


def make_parameters(**depths):
    """name -> a 2x2 matrix of ones with gradient one; names with `bias` are vectors."""
    parameters = {}
    for name, depth in depths.items():
        parameter = torch.nn.Parameter(torch.ones(2) if "bias" in name else torch.ones(2, 2))
        parameter.grad = torch.ones_like(parameter)
        parameters[name] = (parameter, depth)
    return parameters


# name -> layers below the top; -1: a head
DEPTHS = {"embed": 2, "layer.0.w": 1, "layer.1.w": 0, "layer.1.bias": 0, "top": 0, "head": -1, "head_bias": -1}


def rates(optimizer, parameters):
    optimizer.step_parameters(parameters)
    return {
        name: group["lr"] for name, (parameter, _) in parameters.items() for group in optimizer.torch.param_groups
        if any(parameter is member for member in group["params"])
    }  # fmt: skip


def test_rates_by_depth():
    lr = rates(adamw(1e-3, head_lr_multiplier=10, layer_lr_decay=0.5), make_parameters(**DEPTHS))
    assert lr == pytest.approx(
        {
            "embed": 0.25e-3,
            "layer.0.w": 0.5e-3,
            "layer.1.w": 1e-3,
            "layer.1.bias": 1e-3,
            "top": 1e-3,
            "head": 1e-2,
            "head_bias": 1e-2,
        }
    )


def test_only_matrices_are_decayed():
    parameters = make_parameters(**DEPTHS)
    for parameter, _ in parameters.values():
        parameter.grad.zero_()
    adamw(0.1, weight_decay=0.5, head_lr_multiplier=1).step_parameters(parameters)
    for name, (parameter, _) in parameters.items():
        assert parameter.flatten()[0].item() == pytest.approx(1.0 if "bias" in name else 0.95)


def test_the_norm_is_clipped_over_all_parameters():
    parameters = make_parameters(a=2, b=1, c=0)
    sgd(1.0, momentum=0.0, grad_clip=1.0).step_parameters(parameters)
    moved = torch.cat([(1 - parameter).flatten() for parameter, _ in parameters.values()])
    assert moved.norm().item() == pytest.approx(1.0, rel=1e-4)


def test_lr_multipliers_match_or_are_an_error():
    lr = rates(adamw(1e-3, head_lr_multiplier=1, lr_multipliers={"layer": 0.5, "1.w": 0.1}), make_parameters(**DEPTHS))
    assert lr["layer.0.w"] == pytest.approx(5e-4) and lr["layer.1.w"] == pytest.approx(5e-5) and lr["embed"] == 1e-3
    with pytest.raises(UserError, match="'nothing' matches no parameter"):
        adamw(lr_multipliers={"nothing": 1.0}).step_parameters(make_parameters(**DEPTHS))
    with pytest.raises(UserError, match="layer_lr_decay is set, but the encoder's parameter names show no layers"):
        adamw(layer_lr_decay=0.9).step_parameters(make_parameters(embed=0, top=0, head=-1))


@pytest.mark.parametrize("make", [adamw, adam, sgd, rmsprop])
def test_every_optimizer_goes_down(make):
    parameter = torch.nn.Parameter(torch.ones(4))
    optimizer = make(0.05, head_lr_multiplier=1.0)
    for _ in range(50):
        parameter.grad = parameter.detach().clone()
        optimizer.step_parameters({"p": (parameter, 0)})
    assert parameter.abs().max() < 0.5


def test_a_gradient_that_is_not_finite_is_skipped(caplog):
    parameters = make_parameters(a=1, b=0)
    parameters["a"][0].grad[0, 0] = math.inf
    optimizer = adamw()
    optimizer.step_parameters(parameters)
    assert optimizer.skipped == 1 and "NaN or infinite" in caplog.text
    assert all(torch.equal(parameter, torch.ones_like(parameter)) for parameter, _ in parameters.values())


def test_parameters_that_come_later_are_taken_in():
    parameters = make_parameters(**DEPTHS)
    optimizer = adamw()
    optimizer.step_parameters(parameters)
    late = parameters | make_parameters(new_head=-1)
    optimizer.step_parameters(late)
    assert not torch.equal(late["new_head"][0], torch.ones(2, 2))


def test_schedules():
    linear = list(itertools.islice(warmup_linear(1.0, 5, 0.4), 7))
    assert linear == pytest.approx([0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0])
    cosine = list(itertools.islice(warmup_cosine(1.0, 5, 0.4, final_ratio=0.1), 7))
    assert cosine[:2] == [0.5, 1.0] and cosine[2] > cosine[3] > cosine[4] > 0.1 and cosine[6] == pytest.approx(0.1)
    for make in (warmup_linear, warmup_cosine):
        with pytest.raises(UserError, match=r"schedule\.warmup_ratio"):
            make(1.0, 5, 2.0)


def test_schedules_drive_the_rate_of_the_torch_optimizer():
    optimizer = adamw(warmup_linear(1.0, 3, 0.3), head_lr_multiplier=1)
    parameters = make_parameters(**DEPTHS)
    seen = []
    for _ in range(3):
        optimizer.step_parameters(parameters)
        seen.append(optimizer.torch.param_groups[0]["lr"])
        optimizer.step_schedules()
    assert seen == pytest.approx([1.0, 2 / 3, 1 / 3])


@pytest.mark.parametrize(
    "setting", [{"weight_decay": -1}, {"layer_lr_decay": 0}, {"layer_lr_decay": 2}, {"grad_clip": -1}, {"head_lr_multiplier": -1}]
)
def test_settings_out_of_range_are_named(setting):
    with pytest.raises(UserError, match=f"optimizer.{next(iter(setting))}"):
        adamw(**setting)


def test_registered_names_resolve_from_a_config(tiny):
    config = {
        "optimizer": {
            "@optimizers": "mtl.AdamW.v1", "layer_lr_decay": 0.9, "lr_multipliers": {"embeddings": 0.5},
            "learn_rate": {"@schedules": "mtl.WarmupCosine.v1", "peak_rate": 1e-3, "warmup_ratio": 0.2, "total_steps": 9},
        }
    }  # fmt: skip
    optimizer = registry.resolve(config)["optimizer"]
    nlp = make_nlp(tiny())
    nlp.update(sample_examples(nlp), sgd=optimizer)
    nlp.get_pipe("transformer").take_due_step()  # otherwise taken before the weights are next read
    multipliers = sorted({round(group["lr_multiplier"], 4) for group in optimizer.torch.param_groups})
    assert multipliers == [round(0.9**2 * 0.5, 4), 0.9, 1.0, 10.0]
    for name in ("mtl.SGD.v1", "mtl.Adam.v1", "mtl.RMSprop.v1"):
        assert registry.resolve({"o": {"@optimizers": name}})["o"].torch is None


def test_the_average_of_weights_is_what_is_evaluated_and_saved(tiny, tmp_path):
    """By hand: with decay 0.5 the average is w1, then 1/11 of the way kept, then 2/12: shorter while it begins."""
    import spacy

    optimizer, parameters = sgd(0.1, momentum=0.0, grad_clip=0.0, ema_decay=0.5), make_parameters(top=0)
    (parameter, _), seen = parameters["top"], []
    expected = None
    for step in range(1, 5):
        parameter.grad = torch.full_like(parameter, float(step))
        optimizer.step_parameters(parameters)
        seen.append(parameter[0, 0].item())
        decay = min(0.5, step / (step + 10))
        expected = seen[0] if expected is None else decay * expected + (1 - decay) * seen[-1]
        assert optimizer.averages[id(parameter)][0, 0].item() == pytest.approx(expected)

    nlp = make_nlp(tiny())
    optimizer, examples = adamw(3e-3, ema_decay=0.9), sample_examples(nlp)
    for _ in range(15):
        nlp.update(examples, sgd=optimizer)
    encoder = nlp.get_pipe("transformer").encoder
    last = {name: p.detach().clone() for name, p in encoder.model.named_parameters()}
    plain = [dict(doc.cats) for doc in nlp.pipe(["The pump failed."])]
    with nlp.use_params(optimizer.averages):
        averaged = {name: p.detach().clone() for name, p in encoder.model.named_parameters()}
        with_average = [dict(doc.cats) for doc in nlp.pipe(["The pump failed."])]
        nlp.to_disk(tmp_path / "out")
    assert any(not torch.equal(averaged[name], last[name]) for name in last) and with_average != plain
    assert all(torch.equal(p, last[name]) for name, p in encoder.model.named_parameters())
    assert [dict(doc.cats) for doc in nlp.pipe(["The pump failed."])] == plain
    assert [dict(doc.cats) for doc in spacy.load(tmp_path / "out").pipe(["The pump failed."])] == with_average


def test_the_encoder_is_pulled_back_to_where_it_started_and_heads_are_not():
    optimizer = sgd(0.1, momentum=0.0, grad_clip=0.0, l2_sp=2.0, weight_decay=0.5)
    parameters = make_parameters(top=0, head=-1)
    for _ in range(2):
        for parameter, _ in parameters.values():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step_parameters(parameters)
    # From 1: 1 - 0.1 = 0.9; then 0.2 of the way back, 0.92, and 0.1 down. The head decays: 1 - 0.1 (1 + 0.5), then again.
    assert parameters["top"][0][0, 0].item() == pytest.approx(0.82)
    assert parameters["head"][0][0, 0].item() == pytest.approx(0.85 - 0.1 * 1.425)


def test_layers_begin_to_learn_one_after_another():
    optimizer, parameters = sgd(0.1, momentum=0.0, grad_clip=0.0, unfreeze_every=2), make_parameters(**DEPTHS)
    learned = []
    for _ in range(5):
        before = {name: parameter.detach().clone() for name, (parameter, _) in parameters.items()}
        for parameter, _ in parameters.values():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step_parameters(parameters)
        learned.append({name for name, (parameter, _) in parameters.items() if not torch.equal(parameter, before[name])})
    assert learned[0] == learned[1] == {"layer.1.w", "layer.1.bias", "top", "head", "head_bias"}
    assert learned[2] == learned[3] == learned[0] | {"layer.0.w"} and learned[4] == set(DEPTHS)


def test_state_comes_back_with_averages_and_starts():
    def run(optimizer, parameters, steps):
        for step in steps:
            for parameter, _ in parameters.values():
                parameter.grad = torch.full_like(parameter, 1.0 + step)
            optimizer.step_parameters(parameters)

    first, parameters = adamw(0.1, ema_decay=0.9, l2_sp=0.5, unfreeze_every=1), make_parameters(**DEPTHS)
    run(first, parameters, range(3))
    second = adamw(0.1, ema_decay=0.9, l2_sp=0.5, unfreeze_every=1)
    copies = {name: (torch.nn.Parameter(parameter.detach().clone()), below) for name, (parameter, below) in parameters.items()}
    second.load_tensors(copies, first.tensors())
    run(first, parameters, range(3, 6))
    run(second, copies, range(3, 6))
    for name, (parameter, _) in parameters.items():
        assert torch.equal(parameter, copies[name][0])
        assert torch.equal(first.averages[id(parameter)], second.averages[id(copies[name][0])])


@pytest.mark.parametrize("setting", [{"ema_decay": 1.0}, {"l2_sp": -1.0}, {"unfreeze_every": -1}])
def test_settings_of_regularisation_out_of_range_are_named(setting):
    with pytest.raises(UserError, match=f"optimizer.{next(iter(setting))} = "):
        adamw(1e-3, **setting)
