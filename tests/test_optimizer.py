"""Groups, decay, clipping, schedules."""

import itertools
import math

import pytest
import torch
from conftest import make_nlp, sample_examples
from spacy.util import registry

from mtl.errors import UserError
from mtl.training.optimizer import adam, adamw, rmsprop, sgd
from mtl.training.schedules import warmup_cosine, warmup_linear


def parameters(**depths):
    """name -> a 2x2 matrix of ones with gradient one; names with `bias` are vectors."""
    made = {}
    for name, depth in depths.items():
        parameter = torch.nn.Parameter(torch.ones(2) if "bias" in name else torch.ones(2, 2))
        parameter.grad = torch.ones_like(parameter)
        made[name] = (parameter, depth)
    return made


# name -> layers below the top; -1: a head
DEPTHS = {"embed": 2, "layer.0.w": 1, "layer.1.w": 0, "layer.1.bias": 0, "top": 0, "head": -1, "head_bias": -1}


def rates(optimizer, made):
    optimizer.step_parameters(made)
    return {
        name: group["lr"] for name, (parameter, _) in made.items() for group in optimizer.torch.param_groups
        if any(parameter is own for own in group["params"])
    }  # fmt: skip


def test_rates_by_depth():
    found = rates(adamw(1e-3, head_factor=10, layer_decay=0.5), parameters(**DEPTHS))
    assert found == pytest.approx(
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
    made = parameters(**DEPTHS)
    for parameter, _ in made.values():
        parameter.grad.zero_()
    adamw(0.1, weight_decay=0.5, head_factor=1).step_parameters(made)
    for name, (parameter, _) in made.items():
        assert parameter.flatten()[0].item() == pytest.approx(1.0 if "bias" in name else 0.95)


def test_the_norm_is_clipped_over_all_parameters():
    made = parameters(a=2, b=1, c=0)
    sgd(1.0, momentum=0.0, clip=1.0).step_parameters(made)
    moved = torch.cat([(1 - parameter).flatten() for parameter, _ in made.values()])
    assert moved.norm().item() == pytest.approx(1.0, rel=1e-4)


def test_factors_match_or_are_an_error():
    found = rates(adamw(1e-3, head_factor=1, factors={"layer": 0.5, "1.w": 0.1}), parameters(**DEPTHS))
    assert found["layer.0.w"] == pytest.approx(5e-4) and found["layer.1.w"] == pytest.approx(5e-5) and found["embed"] == 1e-3
    with pytest.raises(UserError, match="'nothing' matches no parameter"):
        adamw(factors={"nothing": 1.0}).step_parameters(parameters(**DEPTHS))
    with pytest.raises(UserError, match="layer_decay is set, but no layers"):
        adamw(layer_decay=0.9).step_parameters(parameters(embed=0, top=0, head=-1))


@pytest.mark.parametrize("make", [adamw, adam, sgd, rmsprop])
def test_every_optimizer_goes_down(make):
    parameter = torch.nn.Parameter(torch.ones(4))
    optimizer = make(0.05, head_factor=1.0)
    for _ in range(50):
        parameter.grad = parameter.detach().clone()
        optimizer.step_parameters({"p": (parameter, 0)})
    assert parameter.abs().max() < 0.5


def test_a_gradient_that_is_not_finite_is_skipped(caplog):
    made = parameters(a=1, b=0)
    made["a"][0].grad[0, 0] = math.inf
    optimizer = adamw()
    optimizer.step_parameters(made)
    assert optimizer.skipped == 1 and "not finite" in caplog.text
    assert all(torch.equal(parameter, torch.ones_like(parameter)) for parameter, _ in made.values())


def test_parameters_that_come_later_are_taken_in():
    made = parameters(**DEPTHS)
    optimizer = adamw()
    optimizer.step_parameters(made)
    late = made | parameters(new_head=-1)
    optimizer.step_parameters(late)
    assert not torch.equal(late["new_head"][0], torch.ones(2, 2))


def test_schedules():
    linear = list(itertools.islice(warmup_linear(1.0, 5, 0.4), 7))
    assert linear == pytest.approx([0.5, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0])
    cosine = list(itertools.islice(warmup_cosine(1.0, 5, 0.4, final=0.1), 7))
    assert cosine[:2] == [0.5, 1.0] and cosine[2] > cosine[3] > cosine[4] > 0.1 and cosine[6] == pytest.approx(0.1)
    for make in (warmup_linear, warmup_cosine):
        with pytest.raises(UserError, match=r"schedule\.warmup"):
            make(1.0, 5, 2.0)


def test_schedules_drive_the_rate_of_the_torch_optimizer():
    optimizer = adamw(warmup_linear(1.0, 3, 0.3), head_factor=1)
    made = parameters(**DEPTHS)
    seen = []
    for _ in range(3):
        optimizer.step_parameters(made)
        seen.append(optimizer.torch.param_groups[0]["lr"])
        optimizer.step_schedules()
    assert seen == pytest.approx([1.0, 2 / 3, 1 / 3])


@pytest.mark.parametrize(
    "setting", [{"weight_decay": -1}, {"layer_decay": 0}, {"layer_decay": 2}, {"clip": -1}, {"head_factor": -1}]
)
def test_settings_out_of_range_are_named(setting):
    with pytest.raises(UserError, match=f"optimizer.{next(iter(setting))}"):
        adamw(**setting)


def test_registered_names_resolve_from_a_config(tiny):
    config = {
        "optimizer": {
            "@optimizers": "mtl.AdamW.v1", "layer_decay": 0.9, "factors": {"embeddings": 0.5},
            "learn_rate": {"@schedules": "mtl.WarmupCosine.v1", "rate": 1e-3, "warmup": 0.2, "total_steps": 9},
        }
    }  # fmt: skip
    optimizer = registry.resolve(config)["optimizer"]
    nlp = make_nlp(tiny())
    nlp.update(sample_examples(nlp), sgd=optimizer)
    factors = sorted({round(group["factor"], 4) for group in optimizer.torch.param_groups})
    assert factors == [round(0.9**2 * 0.5, 4), 0.9, 1.0, 10.0]
    for name in ("mtl.SGD.v1", "mtl.Adam.v1", "mtl.RMSprop.v1"):
        assert registry.resolve({"o": {"@optimizers": name}})["o"].torch is None


def test_the_average_of_weights_is_what_is_evaluated_and_saved(tiny, tmp_path):
    """By hand: with decay 0.5 the average is w1, then 1/11 of the way kept, then 2/12: shorter while it begins."""
    import spacy

    optimizer, made = sgd(0.1, momentum=0.0, clip=0.0, average=0.5), parameters(top=0)
    (parameter, _), seen = made["top"], []
    expected = None
    for step in range(1, 5):
        parameter.grad = torch.full_like(parameter, float(step))
        optimizer.step_parameters(made)
        seen.append(parameter[0, 0].item())
        keep = min(0.5, step / (step + 10))
        expected = seen[0] if expected is None else keep * expected + (1 - keep) * seen[-1]
        assert optimizer.averages[id(parameter)][0, 0].item() == pytest.approx(expected)

    nlp = make_nlp(tiny())
    optimizer, examples = adamw(3e-3, average=0.9), sample_examples(nlp)
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
    optimizer = sgd(0.1, momentum=0.0, clip=0.0, l2_sp=2.0, weight_decay=0.5)
    made = parameters(top=0, head=-1)
    for _ in range(2):
        for parameter, _ in made.values():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step_parameters(made)
    # From 1: 1 - 0.1 = 0.9; then 0.2 of the way back, 0.92, and 0.1 down. The head decays: 1 - 0.1 (1 + 0.5), then again.
    assert made["top"][0][0, 0].item() == pytest.approx(0.82)
    assert made["head"][0][0, 0].item() == pytest.approx(0.85 - 0.1 * 1.425)


def test_layers_begin_to_learn_one_after_another():
    optimizer, made = sgd(0.1, momentum=0.0, clip=0.0, unfreeze=2), parameters(**DEPTHS)
    learned = []
    for _ in range(5):
        before = {name: parameter.detach().clone() for name, (parameter, _) in made.items()}
        for parameter, _ in made.values():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step_parameters(made)
        learned.append({name for name, (parameter, _) in made.items() if not torch.equal(parameter, before[name])})
    assert learned[0] == learned[1] == {"layer.1.w", "layer.1.bias", "top", "head", "head_bias"}
    assert learned[2] == learned[3] == learned[0] | {"layer.0.w"} and learned[4] == set(DEPTHS)


def test_state_comes_back_with_averages_and_starts():
    def run(optimizer, made, steps):
        for step in steps:
            for parameter, _ in made.values():
                parameter.grad = torch.full_like(parameter, 1.0 + step)
            optimizer.step_parameters(made)

    one, made = adamw(0.1, average=0.9, l2_sp=0.5, unfreeze=1), parameters(**DEPTHS)
    run(one, made, range(3))
    two = adamw(0.1, average=0.9, l2_sp=0.5, unfreeze=1)
    copies = {name: (torch.nn.Parameter(parameter.detach().clone()), below) for name, (parameter, below) in made.items()}
    two.take(copies, one.tensors())
    run(one, made, range(3, 6))
    run(two, copies, range(3, 6))
    for name, (parameter, _) in made.items():
        assert torch.equal(parameter, copies[name][0])
        assert torch.equal(one.averages[id(parameter)], two.averages[id(copies[name][0])])


@pytest.mark.parametrize("setting", [{"average": 1.0}, {"l2_sp": -1.0}, {"unfreeze": -1}])
def test_bad_settings_of_regularisation_are_named(setting):
    with pytest.raises(UserError, match=f"optimizer.{next(iter(setting))} = "):
        adamw(1e-3, **setting)
