"""What a run sees of itself: that its head learns no more, and that its learning rate is plainly wrong. Pure torch."""

import math
from typing import Any, Dict, List, Sequence

from torch import nn

DEFAULT_RATE, DEFAULT_WIDTH = 6e-4, 384  # measured: see docs/benchmarks.md
WINDOW = 50  # steps over which losses are averaged
PLATEAU = 0.1  # nats from one window to the next: less is noise, or better spent on the encoder
LEAST_MOVE = 0.01  # of the weights' own size: below it, a run has hardly begun
RISE = 0.1  # nats on held-out text


def default_rate(width: int) -> float:
    """The learning rate for an encoder of this width. AdamW's best rate is about inverse to the width of the layers (Yang et al.
    2021, https://arxiv.org/abs/2203.03466).
    """
    return DEFAULT_RATE * DEFAULT_WIDTH / width


def is_plateau(losses: Sequence[float]) -> bool:
    """Whether the mean of the last losses is hardly lower than that of as many before.

    Args:
        losses (Sequence[float]): The losses of all steps so far, or of the last two windows.
    """
    if len(losses) < 2 * WINDOW:
        return False
    before, now = losses[-2 * WINDOW : -WINDOW], losses[-WINDOW:]
    return sum(before) / WINDOW - sum(now) / WINDOW < PLATEAU


def weight_size(parameters: Sequence[nn.Parameter]) -> float:
    """The typical size of a weight: the root mean square of all matrices; 1 if there are none."""
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    count = sum(matrix.numel() for matrix in matrices)
    return math.sqrt(sum(float(matrix.detach().float().square().sum()) for matrix in matrices) / count) if count else 1.0


def judge_rate(rate: float, path: float, size: float, evaluations: List[Dict[str, Any]], text: str) -> str:
    """What to say of a learning rate after a run; "" if it is not plainly wrong.

    Args:
        rate (float): The highest learning rate.
        path (float): The sum of the rates of all steps: how far AdamW can have moved a weight.
        size (float): What `weight_size` returned.
        evaluations (List[Dict[str, Any]]): The evaluations of the encoder's training.
        text (str): The text whose loss decides.
    """
    losses = [evaluation["losses"][text] for evaluation in evaluations]
    if len(losses) > 1 and losses[-1] > min(losses) + RISE:
        return (
            f"learning-rate = {rate:g} is too high: the loss on held-out text was {min(losses):.2f} and rose to {losses[-1]:.2f} "
            f"nats. Try {rate / 3:.1g}"
        )
    if path < LEAST_MOVE * size:
        return (
            f"learning-rate = {rate:g} is too low for so short a run: no weight can have moved by more than {path / size:.1%} of "
            f"the typical size, and the loss fell by {losses[0] - losses[-1]:.2f} nats. Train longer, or try {rate * 5:.1g}"
        )
    return ""
