"""Learning-rate schedules and parameter groups, for joint training and continued pretraining alike. Pure torch."""

import math
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from torch import nn

from mtl.errors import UserError, check_range


class WarmupSchedule:
    """Iterator over learning rates: a linear rise to the peak, then a fall.

    Args:
        peak_rate (float): The highest learning rate.
        warmup_ratio (float): Fraction of the steps over which the rate rises.
        total_steps (Optional[int]): Steps of the run; None if they are not known yet. The first rate is 0 then, and the length
            must be set before the second: see `set_run_length`.
        shape (Callable): From the part of the fall that is done, 0 to 1, to the factor on the peak.

    Raises:
        UserError: A setting is out of range.
    """

    def __init__(
        self, peak_rate: float, warmup_ratio: float, total_steps: Optional[int], shape: Callable[[float], float]
    ) -> None:
        if total_steps is not None:
            check_range("schedule.total_steps", total_steps, 1)
        check_range("schedule.warmup_ratio", warmup_ratio, 0.0, 1.0)
        self.peak_rate, self.warmup_ratio, self.total_steps, self.shape = peak_rate, warmup_ratio, total_steps, shape
        self.step = 0

    def __iter__(self) -> Iterator[float]:
        return self

    def __next__(self) -> float:
        self.step += 1
        if self.total_steps is None and self.step > 1:
            raise UserError(
                "[training.optimizer.learn_rate] does not know how long the run is: set its total_steps to the number of steps"
            )
        return self.rate()

    def rate(self) -> float:
        """The rate of the current step, which is 1 for the first."""
        if self.total_steps is None:
            return 0.0
        warmup_steps = round(self.warmup_ratio * self.total_steps)
        if self.step <= warmup_steps:
            return self.peak_rate * self.step / warmup_steps
        return self.peak_rate * self.shape(min((self.step - warmup_steps) / (self.total_steps - warmup_steps + 1), 1.0))


def set_run_length(optimizer: Any, steps: int) -> None:
    """Tell the schedules of an optimizer that do not know it how long the run is.

    Args:
        optimizer (Any): A thinc Optimizer.
        steps (int): `training.max_steps`.

    Raises:
        UserError: The run has no number of steps.
    """
    for name, schedule in getattr(optimizer, "schedules", {}).items():
        if not isinstance(schedule, WarmupSchedule) or schedule.total_steps is not None:
            continue
        if steps < 1:
            raise UserError(
                "[training] max_steps = 0: set it, or total_steps in [training.optimizer.learn_rate], which rises and falls over "
                "that many steps"
            )
        schedule.total_steps = steps
        setattr(optimizer, name, schedule.rate())


def warmup_linear(peak_rate: float, total_steps: Optional[int] = None, warmup_ratio: float = 0.1) -> WarmupSchedule:
    """Schedule `mtl.WarmupLinear.v1`: rise linearly to the peak, then fall linearly to 0.

    Args:
        peak_rate (float): The highest learning rate.
        total_steps (Optional[int]): Steps of the run; null for `training.max_steps`.
        warmup_ratio (float): Fraction of the steps over which the rate rises.

    Raises:
        UserError: A ratio outside 0 to 1.
    """
    return WarmupSchedule(peak_rate, warmup_ratio, total_steps, lambda progress: 1 - progress)


def warmup_cosine(
    peak_rate: float, total_steps: Optional[int] = None, warmup_ratio: float = 0.1, final_ratio: float = 0.0
) -> WarmupSchedule:
    """Schedule `mtl.WarmupCosine.v1`: rise linearly to the peak, then fall along half a cosine.

    Args:
        peak_rate (float): The highest learning rate.
        total_steps (Optional[int]): Steps of the run; null for `training.max_steps`.
        warmup_ratio (float): Fraction of the steps over which the rate rises.
        final_ratio (float): The rate at the end, as a fraction of the peak.

    Raises:
        UserError: A ratio outside 0 to 1.
    """
    check_range("schedule.final_ratio", final_ratio, 0.0, 1.0)
    return WarmupSchedule(
        peak_rate, warmup_ratio, total_steps, lambda p: final_ratio + (1 - final_ratio) * (1 + math.cos(math.pi * p)) / 2
    )


def warmup_stable_decay(step: int, total_steps: int, spent: float, warmup_ratio: float, decay_ratio: float) -> float:
    """The factor on the peak rate at a step: rise, stay, fall (Hu et al. 2024, MiniCPM, https://arxiv.org/abs/2404.06395).

    Args:
        step (int): The step, from 0.
        total_steps (int): Steps of the run.
        spent (float): Fraction of the budget that is spent, which may be limited by time rather than steps.
        warmup_ratio (float): First fraction of the budget over which the rate rises.
        decay_ratio (float): Final fraction of the budget over which the rate falls to 0; 0 for no decay.
    """
    by_time = spent / warmup_ratio if warmup_ratio else 1.0  # ahead of the steps if there is no time for all of them
    rising = max((step + 1) / (warmup_ratio * total_steps + 1), by_time)
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
