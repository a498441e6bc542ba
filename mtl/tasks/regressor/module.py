"""The regressor. Pure torch."""

from typing import List

from torch import Tensor, nn

from mtl.encoder.model.vectors import TokenVectors
from mtl.tasks.pooling import linear_output, mean_pooled


class Regressor(nn.Module):
    """A number for each document, in standard deviations from the mean of the training values.

    Args:
        width (int): Size of a token vector.
        labels (List[str]): None.
    """

    def __init__(self, width: int, labels: List[str]) -> None:
        super().__init__()
        self.output = linear_output(width, 1)

    def forward(self, tokens: TokenVectors, drop: float = 0.0) -> Tensor:
        """Numbers, shape (docs,). A document without subwords gets the bias alone."""
        return self.output(nn.functional.dropout(mean_pooled(tokens), drop, self.training)).squeeze(-1)
