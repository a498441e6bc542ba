"""Token vectors to one vector for each document or span. Pure torch."""

from typing import Any, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mtl.encoder.model.vectors import TokenVectors

UNTRAINED_BIAS = -5.0  # of a label that is added to a trained head: a probability below 1% until it is trained


def mean_pooled(tokens: TokenVectors) -> Tensor:
    """Shape (items, width): the mean of each item's token vectors, over the tokens that have subwords; 0 if none has."""
    return pooled_spans(tokens, tokens.starts, tokens.starts + tokens.lengths)


def pooled_spans(tokens: TokenVectors, starts: np.ndarray, ends: np.ndarray) -> Tensor:
    """The mean of the token vectors in each span, over the tokens that have subwords; 0 if none has.

    Args:
        tokens (TokenVectors): The vectors of all items.
        starts (np.ndarray): Shape (spans,): first token of each, counted over all items.
        ends (np.ndarray): Shape (spans,): the token after the last.

    Returns:
        Tensor: Shape (spans, width).
    """
    device = tokens.vectors.device
    before = np.append(0, np.cumsum(tokens.aligned))  # aligned tokens before each token
    rows = np.flatnonzero(tokens.aligned)
    counts = before[ends] - before[starts]
    total = int(counts.sum())
    offsets = np.cumsum(counts) - counts
    members = np.repeat(before[starts] - offsets, counts) + np.arange(total)  # index into `rows`
    index = torch.from_numpy(rows[members]).to(device)
    return nn.functional.embedding_bag(index, tokens.vectors, torch.from_numpy(offsets).to(device), mode="mean")


@torch.no_grad()
def copy_label_rows(new: Any, old: Any) -> None:
    """Give `new.output` the rows of `old.output` for the labels that both have. New ones start out improbable."""
    labels: Sequence[str] = old.labels
    for i, label in enumerate(new.labels):
        if label in labels:
            new.output.weight[i] = old.output.weight[labels.index(label)]
            new.output.bias[i] = old.output.bias[labels.index(label)]
        else:
            new.output.bias[i] = UNTRAINED_BIAS


def linear_output(width: int, outputs: int) -> nn.Linear:
    """A linear layer with the small random weights that new heads start with."""
    layer = nn.Linear(width, outputs)
    nn.init.normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer
