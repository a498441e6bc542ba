"""The tagger. Pure torch."""

from typing import List

from torch import Tensor, nn

from mtl.tasks.pooling import copy_label_rows, linear_output


class TokenClassifier(nn.Module):
    """Logits of the tags, for each token by itself.

    Args:
        width (int): Size of a token vector.
        labels (List[str]): The tags.
    """

    def __init__(self, width: int, labels: List[str]) -> None:
        super().__init__()
        self.labels = list(labels)
        self.output = linear_output(width, len(labels))

    def forward(self, vectors: Tensor, drop: float = 0.0) -> Tensor:
        """Logits, shape (tokens, labels), from vectors of shape (tokens, width)."""
        return self.output(nn.functional.dropout(vectors, drop, self.training))

    def copy_from(self, old: "TokenClassifier") -> None:
        """Take over the weights of the labels that `old` has."""
        copy_label_rows(self, old)
