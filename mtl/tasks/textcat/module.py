"""The text categorizer. Pure torch."""

import math
from typing import List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mtl.encoder.model.vectors import TokenVectors
from mtl.tasks.pooling import copy_label_rows, linear_output, mean_pooled
from mtl.tasks.token_rows import aligned_steps

POOLINGS = ("mean", "attention")


class Textcat(nn.Module):
    """Logits of the categories from a document's token vectors.

    Args:
        width (int): Size of a token vector.
        labels (List[str]): The categories.
        pooling (str): "mean", or "attention": each category weighs the tokens itself, at first all alike (Mullenbach et al. 2018,
            https://arxiv.org/abs/1802.05695).
    """

    def __init__(self, width: int, labels: List[str], pooling: str = "mean") -> None:
        super().__init__()
        self.labels = list(labels)
        self.output = linear_output(width, len(labels))
        self.attention: Optional[nn.Linear] = None
        if pooling == "attention":
            self.attention = nn.Linear(width, len(labels), bias=False)
            nn.init.zeros_(self.attention.weight)

    def forward(self, tokens: TokenVectors, drop: float = 0.0) -> Tensor:
        """Logits, shape (docs, labels). A document without subwords gets the bias alone."""
        if self.attention is None:
            return self.output(nn.functional.dropout(mean_pooled(tokens), drop, self.training))
        vectors, lengths, _ = aligned_steps(tokens)
        vectors = nn.functional.dropout(vectors, drop, self.training)
        owners = torch.from_numpy(np.repeat(np.arange(len(lengths)), lengths)).to(vectors.device)
        votes = nn.functional.linear(vectors, self.output.weight)
        return self.output.bias + attended(votes, self.attention(vectors), owners, len(lengths))

    def copy_from(self, old: "Textcat") -> None:
        """Take over the weights of the labels that `old` has."""
        copy_label_rows(self, old)
        if self.attention is not None and old.attention is not None:
            known = [label for label in self.labels if label in old.labels]
            with torch.no_grad():
                for label in known:
                    self.attention.weight[self.labels.index(label)] = old.attention.weight[old.labels.index(label)]


def attended(values: Tensor, scores: Tensor, owners: Tensor, count: int) -> Tensor:
    """The mean of each owner's values, weighted by the softmax of its scores; 0 for an owner without values.

    Args:
        values (Tensor): Shape (rows, columns).
        scores (Tensor): Shape (rows, columns).
        owners (Tensor): Shape (rows,): to whom a row belongs.
        count (int): Number of owners.

    Returns:
        Tensor: Shape (owners, columns).
    """
    scores, values = scores.float(), values.float()
    index = owners[:, None].expand_as(scores)
    highest = scores.new_full((count, scores.shape[1]), -math.inf).scatter_reduce(0, index, scores.detach(), "amax")
    weights = (scores - highest[owners]).exp()
    sums = scores.new_zeros(count, scores.shape[1]).index_add(0, owners, weights * values)
    totals = scores.new_zeros(count, scores.shape[1]).index_add(0, owners, weights)
    return sums / totals.clamp_min(1e-12)


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
