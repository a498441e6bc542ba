"""The tagger. Pure torch."""

from typing import List

import torch
from torch import Tensor, nn


class Tagger(nn.Module):
    """Logits of the tags, for each token by itself.

    width (int): the size of a token vector. labels: the tags.
    """

    def __init__(self, width: int, labels: List[str]) -> None:
        super().__init__()
        self.labels = list(labels)
        self.output = nn.Linear(width, len(labels))
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    def forward(self, vectors: Tensor, drop: float = 0.0) -> Tensor:
        """vectors: (tokens, width). RETURNS (tokens, labels)."""
        return self.output(nn.functional.dropout(vectors, drop, self.training))

    def copy_from(self, old: "Tagger") -> None:
        """Take over the weights of the labels that `old` has."""
        with torch.no_grad():
            for i, label in enumerate(self.labels):
                if label in old.labels:
                    self.output.weight[i] = old.output.weight[old.labels.index(label)]
                    self.output.bias[i] = old.output.bias[old.labels.index(label)]
