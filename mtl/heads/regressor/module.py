"""The regressor. Pure torch."""

from typing import List

from torch import Tensor, nn

from mtl.encoder.torch_encoder import TokenVectors
from mtl.heads.textcat.module import mean_by_item


class Regressor(nn.Module):
    """A number a document, in standard deviations from the mean of the training values.

    width (int): the size of a token vector. labels: none.
    """

    def __init__(self, width: int, labels: List[str]) -> None:
        super().__init__()
        self.output = nn.Linear(width, 1)
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens: TokenVectors, drop: float = 0.0) -> Tensor:
        """RETURNS (docs,); a document without wordpieces has the bias alone."""
        return self.output(nn.functional.dropout(mean_by_item(tokens), drop, self.training)).squeeze(-1)
