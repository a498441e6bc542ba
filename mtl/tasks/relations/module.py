"""Relations between token vectors. Pure torch."""

from typing import List

import numpy as np
import torch
from torch import Tensor, nn

from mtl.tasks.outputs import MIN_LOGIT


class Relations(nn.Module):
    """Scaled products of token vectors, in parts of the width, as of queries and keys. It has no weights.

    Source: Wang et al. 2021, MiniLMv2 (https://arxiv.org/abs/2012.15828), on the encoder's output in place of a layer's queries,
    keys and values, which not every architecture has.

    Args:
        width (int): Size of a token vector.
        relation_heads (int): Number of parts; it divides the width.
    """

    def __init__(self, width: int, relation_heads: int) -> None:
        super().__init__()
        self.width, self.relation_heads = width, relation_heads

    def forward(self, vectors: Tensor, lengths: np.ndarray) -> List[Tensor]:
        """The relations within each item.

        Args:
            vectors (Tensor): The token vectors of all items, one after another. Shape (tokens, width).
            lengths (np.ndarray): The number of tokens of each item.

        Returns:
            List[Tensor]: For each part, shape (tokens, most tokens of an item). What an item lacks is impossible.
        """
        longest = int(lengths.max())
        size = self.width // self.relation_heads
        parts = []
        for item in vectors.split(lengths.tolist()):
            split = item.view(len(item), self.relation_heads, size).transpose(0, 1)
            products = split @ split.transpose(1, 2) / size**0.5
            parts.append(nn.functional.pad(products, (0, longest - len(item)), value=MIN_LOGIT))
        return list(torch.cat(parts, 1))
