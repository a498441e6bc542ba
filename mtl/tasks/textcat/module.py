"""The text categorizer. Pure torch."""

from typing import List, Tuple

from torch import Tensor, nn

from mtl.encoder.model.vectors import TokenVectors
from mtl.tasks.pooling import copy_label_rows, linear_output, mean_pooled


class Textcat(nn.Module):
    """Logits of the categories from the mean of a document's token vectors.

    Args:
        width (int): Size of a token vector.
        labels (List[str]): The categories.
    """

    def __init__(self, width: int, labels: List[str]) -> None:
        super().__init__()
        self.labels = list(labels)
        self.output = linear_output(width, len(labels))

    def forward(self, tokens: TokenVectors, drop: float = 0.0) -> Tensor:
        """Logits, shape (docs, labels). A document without subwords gets the bias alone."""
        return self.output(nn.functional.dropout(mean_pooled(tokens), drop, self.training))

    def copy_from(self, old: "Textcat") -> None:
        """Take over the weights of the labels that `old` has."""
        copy_label_rows(self, old)


def exclusive_loss(logits: Tensor, target: Tensor, weights: Tensor, smoothing: float) -> Tuple[Tensor, float]:
    """Cross-entropy with a target distribution: the weighted mean over documents, and the sum of their weights.

    Args:
        logits (Tensor): Shape (docs, labels).
        target (Tensor): Shape (docs, labels), each row sums to 1.
        weights (Tensor): Shape (labels,). A document's weight is that of its target.
        smoothing (float): Share of the target that is spread over all labels.
    """
    doc_weights = target @ weights
    smoothed = (1 - smoothing) * target + smoothing / target.shape[1]
    losses = -(smoothed * logits.log_softmax(-1)).sum(-1)
    return (doc_weights * losses).sum() / doc_weights.sum().clamp_min(1e-8), float(doc_weights.sum())


def multilabel_loss(logits: Tensor, target: Tensor, known: Tensor, weights: Tensor, smoothing: float) -> Tuple[Tensor, float]:
    """Binary cross-entropy: the weighted mean over annotated labels, and the sum of their weights.

    Args:
        logits (Tensor): Shape (items, labels).
        target (Tensor): Shape (items, labels), from 0 to 1.
        known (Tensor): Shape (items, labels): 1 where the label is annotated.
        weights (Tensor): Shape (labels,).
        smoothing (float): Share of each target that is spread over yes and no.
    """
    smoothed = (1 - smoothing) * target + smoothing / 2
    losses = nn.functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
    counted = known * weights
    return (losses * counted).sum() / counted.sum().clamp_min(1e-8), float(counted.sum())
