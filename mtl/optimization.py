"""Learning-rate schedules and parameter groups, for joint training and continued pretraining alike. Pure torch."""

import math
from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple

from torch import nn

from mtl.errors import check_range


def warmup_linear(peak_rate: float, total_steps: int, warmup_ratio: float = 0.1) -> Iterator[float]:
    """Schedule `mtl.WarmupLinear.v1`: rise linearly to the peak, then fall linearly to 0.

    Args:
        peak_rate (float): The highest learning rate.
        total_steps (int): Steps of the run.
        warmup_ratio (float): Fraction of the steps over which the rate rises.

    Raises:
        UserError: A ratio outside 0 to 1.
    """
    return _warmup(peak_rate, warmup_ratio, total_steps, lambda progress: 1 - progress)


def warmup_cosine(peak_rate: float, total_steps: int, warmup_ratio: float = 0.1, final_ratio: float = 0.0) -> Iterator[float]:
    """Schedule `mtl.WarmupCosine.v1`: rise linearly to the peak, then fall along half a cosine.

    Args:
        peak_rate (float): The highest learning rate.
        total_steps (int): Steps of the run.
        warmup_ratio (float): Fraction of the steps over which the rate rises.
        final_ratio (float): The rate at the end, as a fraction of the peak.

    Raises:
        UserError: A ratio outside 0 to 1.
    """
    check_range("schedule.final_ratio", final_ratio, 0.0, 1.0)
    return _warmup(
        peak_rate, warmup_ratio, total_steps, lambda p: final_ratio + (1 - final_ratio) * (1 + math.cos(math.pi * p)) / 2
    )


def _warmup(peak_rate: float, warmup_ratio: float, total_steps: int, shape: Callable[[float], float]) -> Iterator[float]:
    check_range("schedule.total_steps", total_steps, 1)
    check_range("schedule.warmup_ratio", warmup_ratio, 0.0, 1.0)
    return _rates(peak_rate, round(warmup_ratio * total_steps), total_steps, shape)


def _rates(peak_rate: float, warmup_steps: int, total_steps: int, shape: Callable[[float], float]) -> Iterator[float]:
    step = 0
    while True:
        step += 1
        if step <= warmup_steps:
            yield peak_rate * step / warmup_steps
        else:
            yield peak_rate * shape(min((step - warmup_steps) / (total_steps - warmup_steps + 1), 1.0))


def warmup_stable_decay(step: int, total_steps: int, spent: float, warmup_ratio: float, decay_ratio: float) -> float:
    """The factor on the peak rate at a step: rise, stay, fall (Hu et al. 2024, MiniCPM, https://arxiv.org/abs/2404.06395).

    Args:
        step (int): The step, from 0.
        total_steps (int): Steps of the run.
        spent (float): Fraction of the budget that is spent, which may be limited by time rather than steps.
        warmup_ratio (float): Fraction of the steps over which the rate rises.
        decay_ratio (float): Final fraction of the budget over which the rate falls to 0; 0 for no decay.
    """
    rising = (step + 1) / (warmup_ratio * total_steps + 1)
    falling = (1 - spent) / decay_ratio if decay_ratio else 1.0
    return min(rising, falling, 1.0)


def parameter_groups(
    members: Iterable[Tuple[nn.Parameter, float, float, Dict[str, Any]]],
) -> List[Dict[str, Any]]:
    """Parameter groups for a torch optimizer: parameters with equal settings share a group.

    Vectors (biases and norms) get no weight decay.

    Args:
        members (Iterable[Tuple]): For each parameter: the parameter, the factor on its learning rate (kept in the group as
            "lr_multiplier"), its weight decay, and further entries of its group.
    """
    groups: Dict[Tuple, Dict[str, Any]] = {}
    for parameter, lr_multiplier, weight_decay, extra in members:
        decay = weight_decay if parameter.ndim > 1 else 0.0
        key = (lr_multiplier, decay, *sorted(extra.items()))
        group = groups.setdefault(key, {"params": [], "weight_decay": decay, "lr_multiplier": lr_multiplier, **extra})
        group["params"].append(parameter)
    return list(groups.values())
