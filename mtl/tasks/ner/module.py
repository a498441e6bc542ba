"""The entity tagger: emissions and a CRF. Pure torch."""

from typing import List, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mtl.tasks.ner.bio import bio_constraints, bio_tags
from mtl.tasks.pooling import UNTRAINED_BIAS, linear_output


class CRFTagger(nn.Module):
    """Scores of BIO tags for tokens, and of transitions between the tags.

    Args:
        width (int): Size of a token vector.
        labels (List[str]): The entity types.
    """

    forbidden: Tensor
    forbidden_start: Tensor

    def __init__(self, width: int, labels: List[str]) -> None:
        super().__init__()
        self.labels = list(labels)
        self.tags = bio_tags(labels)
        self.output = linear_output(width, len(self.tags))
        self.transitions = nn.Parameter(torch.zeros(len(self.tags), len(self.tags)))
        self.start = nn.Parameter(torch.zeros(len(self.tags)))
        may_follow, may_start = bio_constraints(len(labels))
        self.register_buffer("forbidden", torch.from_numpy(~may_follow), persistent=False)
        self.register_buffer("forbidden_start", torch.from_numpy(~may_start), persistent=False)

    def forward(self, vectors: Tensor, drop: float = 0.0) -> Tensor:
        """Emissions, shape (steps, tags), from vectors of shape (steps, width)."""
        return self.output(nn.functional.dropout(vectors, drop, self.training))

    def scores(self) -> Tuple[Tensor, Tensor]:
        """Scores of transitions, shape (tags, tags), and of first tags, shape (tags,); -inf where BIO forbids them."""
        infinity = float("-inf")
        return self.transitions.masked_fill(self.forbidden, infinity), self.start.masked_fill(self.forbidden_start, infinity)

    def copy_from(self, old: "CRFTagger") -> None:
        """Take over the weights of the tags that `old` has."""
        new = [i for i, tag in enumerate(self.tags) if tag in old.tags]
        known = [old.tags.index(self.tags[i]) for i in new]
        with torch.no_grad():
            self.output.bias.fill_(UNTRAINED_BIAS)
            self.output.weight[new] = old.output.weight[known]
            self.output.bias[new] = old.output.bias[known]
            self.start[new] = old.start[known]
            self.transitions[np.ix_(new, new)] = old.transitions[np.ix_(known, known)]
