"""BIO tags: which there are, which may follow which, and the entities they stand for. Pure NumPy."""

from typing import List, Sequence, Tuple

import numpy as np


def bio_tags(labels: Sequence[str]) -> List[str]:
    """O, then B-X and I-X of each label X."""
    return ["O", *(f"{prefix}-{label}" for label in labels for prefix in "BI")]


def bio_constraints(labels: int) -> Tuple[np.ndarray, np.ndarray]:
    """Which tag may follow which, and which may come first.

    Args:
        labels (int): Number of labels.

    Returns:
        Tuple[np.ndarray, np.ndarray]: Shape (tags, tags), bool, from row to column; and shape (tags,), bool.
    """
    tags = 1 + 2 * labels
    may_follow = np.ones((tags, tags), dtype=bool)
    may_start = np.ones(tags, dtype=bool)
    for inside in range(2, tags, 2):
        may_follow[:, inside] = False
        may_follow[[inside - 1, inside], inside] = True
        may_start[inside] = False
    return may_follow, may_start


def bio_spans(tags: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The entities of valid BIO tags.

    Args:
        tags (np.ndarray): Shape (steps,), sequence after sequence. No sequence starts with an I tag.

    Returns:
        Tuple[np.ndarray, np.ndarray, np.ndarray]: First step, step after the last, and label index of each entity, steps counted
            over all sequences.
    """
    starts = np.flatnonzero(tags % 2 == 1)
    inside = np.append((tags > 0) & (tags % 2 == 0), False)
    outside = np.flatnonzero(~inside)
    ends = outside[np.searchsorted(outside, starts + 1)]
    return starts, ends, (tags[starts] - 1) // 2
