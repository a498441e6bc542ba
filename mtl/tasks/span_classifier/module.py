"""The span classifier. Pure torch."""

from typing import List

import numpy as np
from torch import Tensor, nn

from mtl.encoder.model.vectors import TokenVectors
from mtl.tasks.pooling import copy_label_rows, linear_output, pooled_spans


class SpanClassifier(nn.Module):
    """Logits of the labels from the mean of a span's token vectors, which the encoder has put in context.

    Args:
        width (int): Size of a token vector.
        labels (List[str]): The labels.
    """

    def __init__(self, width: int, labels: List[str]) -> None:
        super().__init__()
        self.labels = list(labels)
        self.output = linear_output(width, len(labels))

    def forward(self, tokens: TokenVectors, starts: np.ndarray, ends: np.ndarray, drop: float = 0.0) -> Tensor:
        """Classify spans.

        Args:
            tokens (TokenVectors): The vectors of all items.
            starts (np.ndarray): Shape (spans,): first token of each span, counted over all items.
            ends (np.ndarray): Shape (spans,): the token after the last.
            drop (float): Dropout rate.

        Returns:
            Tensor: Shape (spans, labels).
        """
        return self.output(nn.functional.dropout(pooled_spans(tokens, starts, ends), drop, self.training))

    def copy_from(self, old: "SpanClassifier") -> None:
        """Take over the weights of the labels that `old` has."""
        copy_label_rows(self, old)
