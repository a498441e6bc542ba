"""Windows to padded batches, and hidden states back to tokens. Pure torch."""

import math
from dataclasses import dataclass
from typing import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from mtl.encoder.runtime.gpu import upload


def batches_by_length(
    sizes: np.ndarray, max_subwords: int, workers: int = 0, *, round_counts: bool = False
) -> Iterator[np.ndarray]:
    """Windows in order of length, as many as fit a budget of padded subwords.

    Args:
        sizes (np.ndarray): Shape (windows,): padded sizes.
        max_subwords (int): The budget of a batch. A single window may exceed it.
        workers (int): Batches that run side by side. Few windows are then shared out evenly among them. 0 in training.
        round_counts (bool): Round the windows of a batch to few different numbers: see `rounded_count`.

    Yields:
        np.ndarray: Indices of the windows of a batch.
    """
    order = np.argsort(sizes, kind="stable")
    if workers > 1:
        rounds = max(1, math.ceil(sizes.sum() / (max_subwords * workers)))
        max_subwords = min(max_subwords, math.ceil(sizes.sum() / (rounds * workers)))
    take = rounded_count if round_counts else int
    first = 0
    for i, size in enumerate(sizes[order].tolist()):
        while i > first and size * (i + 1 - first) > max_subwords:
            yield order[first : first + take(i - first)]
            first += take(i - first)
    while first < len(order):
        yield order[first : first + take(len(order) - first)]
        first += take(len(order) - first)


def rounded_lengths(sizes: np.ndarray, device: torch.device) -> np.ndarray:
    """Each size, or slightly more, so that few different shapes occur.

    On a CPU up to an eighth more, because kernels are compiled, and kept, for each shape. Otherwise a multiple of 8, for tensor
    cores.
    """
    step = 1 << np.maximum(np.frexp(sizes)[1] - 4, 0) if device.type == "cpu" else 8
    return -(-sizes // step) * step


def rounded_count(count: int) -> int:
    """The count, or down to a third less; for the reason see `rounded_lengths`."""
    step = 1 << max(count.bit_length() - 2, 0)
    return count // step * step


def mean_weights(group: np.ndarray) -> np.ndarray:
    """For each member 1 / the size of its group, so that a weighted sum is the group's mean."""
    return (1 / np.maximum(np.bincount(group), 1))[group].astype(np.float32)


@dataclass
class GroupSums:
    """Sums of rows by group.

    Args:
        sums (Tensor): Shape (groups, width).
        rows (np.ndarray): Shape (groups,): the row of a table that each is to be added to.
    """

    sums: Tensor
    rows: np.ndarray

    def add_to(self, total: Tensor) -> None:
        """Add to the table, in place."""
        if self.sums.is_inference() and total.device.type == "cpu":
            total.numpy()[self.rows] += self.sums.numpy()  # torch would wake threads that compete with the workers
        else:
            total[upload(self.rows, total.device)] += self.sums


def sum_by_group(hidden: Tensor, rows: np.ndarray, group: np.ndarray, weights: np.ndarray) -> GroupSums:
    """The weighted sum of the rows of each group.

    Args:
        hidden (Tensor): Shape (positions, width).
        rows (np.ndarray): Shape (members,): positions.
        group (np.ndarray): Shape (members,): the group of each, ascending.
        weights (np.ndarray): Shape (members,).
    """
    first = np.flatnonzero(np.append(True, group[1:] != group[:-1])) if len(rows) else np.zeros(0, np.int64)
    index, starts, factors = (upload(array, hidden.device) for array in (rows, first, weights))
    sums = nn.functional.embedding_bag(index, hidden, starts, mode="sum", per_sample_weights=factors)
    return GroupSums(sums, group[first])
