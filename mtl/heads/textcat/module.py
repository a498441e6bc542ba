"""The text categorizer. Pure torch."""

from typing import Any, List, Tuple

import torch
from torch import Tensor, nn

from mtl.encoder.torch_encoder import TokenVectors


class Textcat(nn.Module):
    """Logits of the categories from the mean of a document's token vectors.

    width (int): the size of a token vector. labels: the categories.
    """

    def __init__(self, width: int, labels: List[str]) -> None:
        super().__init__()
        self.labels = list(labels)
        self.output = nn.Linear(width, len(labels))
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens: TokenVectors, drop: float = 0.0) -> Tensor:
        """RETURNS (docs, labels): logits; a document without wordpieces has the bias alone."""
        pooled = mean_by_item(tokens)
        return self.output(nn.functional.dropout(pooled, drop, self.training))

    def copy_from(self, old: "Textcat") -> None:
        """Take over the weights of the labels that `old` has."""
        copy_labels(self, old)


@torch.no_grad()
def copy_labels(new: Any, old: Any) -> None:
    """Give `new.output` the rows that `old.output` has for the same of `labels`."""
    for i, label in enumerate(new.labels):
        if label in old.labels:
            new.output.weight[i] = old.output.weight[old.labels.index(label)]
            new.output.bias[i] = old.output.bias[old.labels.index(label)]


def mean_by_item(tokens: TokenVectors) -> Tensor:
    """(items, width): the mean of each item's token vectors, over the tokens that have wordpieces; 0 where none has."""
    rows = torch.from_numpy(tokens.aligned.nonzero()[0]).to(tokens.vectors.device)
    kept_before = torch.from_numpy(tokens.aligned.cumsum())
    starts = torch.from_numpy(tokens.starts)
    padded = torch.cat([torch.zeros(1, dtype=kept_before.dtype), kept_before])
    return nn.functional.embedding_bag(rows, tokens.vectors, padded[starts].to(rows.device), mode="mean")


def exclusive_loss(logits: Tensor, target: Tensor, weights: Tensor, smoothing: float) -> Tuple[Tensor, float]:
    """Cross-entropy with a target distribution, the weighted mean over docs, and the sum of their weights.

    logits, target: (docs, labels). weights: (labels,), of a doc the mean of its target's. smoothing: see `TextCategorizer`.
    """
    of_doc = target @ weights
    smoothed = (1 - smoothing) * target + smoothing / target.shape[1]
    losses = -(smoothed * logits.log_softmax(-1)).sum(-1)
    return (of_doc * losses).sum() / of_doc.sum().clamp_min(1e-8), float(of_doc.sum())


def multilabel_loss(logits: Tensor, target: Tensor, known: Tensor, weights: Tensor, smoothing: float) -> Tuple[Tensor, float]:
    """Binary cross-entropy, weighted mean over the known labels, and the sum of their weights.

    logits, target, known: (docs, labels). weights: (labels,).
    """
    smoothed = (1 - smoothing) * target + smoothing / 2
    losses = nn.functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
    counted = known * weights
    return (losses * counted).sum() / counted.sum().clamp_min(1e-8), float(counted.sum())
