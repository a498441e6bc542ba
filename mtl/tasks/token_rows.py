"""The rows of heads that label tokens: those with subwords, and what they are called. Torch, and Docs that are only read."""

from typing import TYPE_CHECKING, Any, Callable, List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from mtl.encoder.model.vectors import TokenVectors
from mtl.tasks.outputs import Names

if TYPE_CHECKING:
    from mtl.tasks.training import Rows


def aligned_steps(tokens: TokenVectors) -> Tuple[Tensor, np.ndarray, np.ndarray]:
    """The tokens that have subwords, as the tagger's steps.

    Returns:
        Tuple[Tensor, np.ndarray, np.ndarray]: The vectors, shape (steps, width); the number of steps of each item, maybe 0,
            shape (items,); and each step's token, counted over all items, shape (steps,).
    """
    rows = np.flatnonzero(tokens.aligned)
    before = np.append(0, np.cumsum(tokens.aligned))
    lengths = before[tokens.starts + tokens.lengths] - before[tokens.starts]
    if len(rows) == len(tokens.aligned):
        return tokens.vectors, lengths, rows
    return tokens.vectors[torch.from_numpy(rows).to(tokens.vectors.device)], lengths, rows


def tokens_by_item(lengths: np.ndarray, steps: np.ndarray, tokens: TokenVectors) -> List[np.ndarray]:
    """For each item the indices of its tokens that have subwords; `lengths` and `steps` as `aligned_steps` gives them."""
    parts = np.split(steps, np.cumsum(lengths)[:-1])
    return [part - start for part, start in zip(parts, tokens.starts)]


def token_names(rows: "Rows", tokens: Sequence[np.ndarray], labels: Sequence[str]) -> Callable[[int], Names]:
    """The names of a table of tokens by labels: tokens are named by their characters, so that any two tokenizers compare.

    Args:
        rows (Rows): The examples.
        tokens (Sequence[np.ndarray]): What `tokens_by_item` returned.
        labels (Sequence[str]): The names of the columns.
    """

    def names(example: int) -> Names:
        doc: Any = rows[example][1].predicted
        own = [doc[int(i)] for i in tokens[example]]
        return Names([(token.idx, token.idx + len(token)) for token in own], [list(labels)])

    return names
