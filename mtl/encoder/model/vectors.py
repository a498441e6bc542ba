"""The encoder's output: one vector for each token. Pure torch."""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from mtl.encoder.model.subwords import ranges


@dataclass
class TokenVectors:
    """The encoder's output for several items (a document, alone or behind a prompt), one after another.

    Args:
        vectors (Tensor): Shape (tokens of all items, width): the mean over each token's subwords, 0 if it has none.
        summaries (Tensor): Shape (items, width): the mean over the item's windows of the vector at [CLS].
        lengths (np.ndarray): Shape (items,): number of tokens.
        aligned (np.ndarray): Shape (tokens of all items,), bool: whether the token has subwords.
        subwords (int): How many were encoded for them, those of overlaps and prompts included; 0 for a selection.
    """

    vectors: Tensor
    summaries: Tensor
    lengths: np.ndarray
    aligned: np.ndarray
    subwords: int = 0

    @property
    def starts(self) -> np.ndarray:
        """Shape (items,): the row of `vectors` at which each item starts."""
        return np.cumsum(self.lengths) - self.lengths

    def select(self, items: Sequence[int]) -> "TokenVectors":
        """These items, in this order. Not a copy if that is all of them as they are."""
        if len(items) == len(self.lengths) and all(i == j for i, j in enumerate(items)):
            return self
        starts, lengths = self.starts[list(items)], self.lengths[list(items)]
        rows = ranges(starts, lengths)
        index = torch.from_numpy(rows).to(self.vectors.device)
        selected = torch.tensor(list(items), dtype=torch.long, device=self.vectors.device)
        return TokenVectors(self.vectors[index], self.summaries[selected], lengths, self.aligned[rows])

    @classmethod
    def concatenate(cls, parts: Sequence["TokenVectors"]) -> "TokenVectors":
        """All items of all parts.

        Raises:
            RuntimeError: There are no parts.
        """
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([part.vectors for part in parts]),
            torch.cat([part.summaries for part in parts]),
            np.concatenate([part.lengths for part in parts]),
            np.concatenate([part.aligned for part in parts]),
        )

    @classmethod
    def gather(cls, places: Sequence[Tuple["TokenVectors", int]]) -> "TokenVectors":
        """Items from several outputs.

        Args:
            places (Sequence[Tuple[TokenVectors, int]]): For each item the output it is in, and its index there.
        """
        parts: List[TokenVectors] = []
        start = 0
        for i in range(1, len(places) + 1):
            if i == len(places) or places[i][0] is not places[start][0]:
                parts.append(places[start][0].select([row for _, row in places[start:i]]))
                start = i
        return cls.concatenate(parts)
