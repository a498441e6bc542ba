"""Learning-rate schedules, as thinc has them: a rate a step."""

import math
from typing import Callable, Iterator

from mtl.errors import check_range


def warmup_linear(rate: float, total_steps: int, warmup: float = 0.1) -> Iterator[float]:
    """`mtl.WarmupLinear.v1`: up to `rate` over the first `warmup` share of `total_steps`, then linearly down to 0 at its end.

    RAISES (UserError): a share outside 0..1.
    """
    return _warmup(rate, warmup, total_steps, lambda progress: 1 - progress)


def warmup_cosine(rate: float, total_steps: int, warmup: float = 0.1, final: float = 0.0) -> Iterator[float]:
    """`mtl.WarmupCosine.v1`: up to `rate` over the first `warmup` share of `total_steps`, then along half a cosine down to
    `final` times `rate`.

    RAISES (UserError): a share outside 0..1.
    """
    check_range("schedule.final", final, 0.0, 1.0)
    return _warmup(rate, warmup, total_steps, lambda p: final + (1 - final) * (1 + math.cos(math.pi * p)) / 2)


def _warmup(rate: float, warmup: float, total_steps: int, shape: Callable[[float], float]) -> Iterator[float]:
    check_range("schedule.total_steps", total_steps, 1)
    check_range("schedule.warmup", warmup, 0.0, 1.0)
    return _rates(rate, round(warmup * total_steps), total_steps, shape)


def _rates(rate: float, warmup_steps: int, total_steps: int, shape: Callable[[float], float]) -> Iterator[float]:
    step = 0
    while True:
        step += 1
        if step <= warmup_steps:
            yield rate * step / warmup_steps
        else:
            yield rate * shape(min((step - warmup_steps) / (total_steps - warmup_steps + 1), 1.0))
