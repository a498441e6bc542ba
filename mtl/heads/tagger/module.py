"""The tagger. Pure torch."""

from typing import List

from torch import Tensor, nn

from mtl.heads.textcat.module import copy_labels


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
        copy_labels(self, old)
