"""The entity tagger: emissions and a CRF. Pure torch."""

from typing import List, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mtl.encoder.torch_encoder import TokenVectors
from mtl.heads.ner.crf import bio_constraints, bio_tags, crf_loss


class Tagger(nn.Module):
    """Scores of BIO tags for tokens, and of transitions between them.

    width (int): the size of a token vector. labels: the entity types.
    """

    forbidden: Tensor
    forbidden_start: Tensor

    def __init__(self, width: int, labels: List[str]) -> None:
        super().__init__()
        self.labels = list(labels)
        self.tags = bio_tags(labels)
        self.output = nn.Linear(width, len(self.tags))
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)
        self.transitions = nn.Parameter(torch.zeros(len(self.tags), len(self.tags)))
        self.start = nn.Parameter(torch.zeros(len(self.tags)))
        follow, begin = bio_constraints(len(labels))
        self.register_buffer("forbidden", torch.from_numpy(~follow), persistent=False)
        self.register_buffer("forbidden_start", torch.from_numpy(~begin), persistent=False)

    def forward(self, vectors: Tensor, drop: float = 0.0) -> Tensor:
        """vectors: (steps, width). RETURNS (steps, tags): emissions."""
        return self.output(nn.functional.dropout(vectors, drop, self.training))

    def scores(self) -> Tuple[Tensor, Tensor]:
        """Transitions (tags, tags) and starts (tags,), -inf where BIO forbids."""
        infinity = float("-inf")
        return self.transitions.masked_fill(self.forbidden, infinity), self.start.masked_fill(self.forbidden_start, infinity)

    def loss(self, vectors: Tensor, lengths: np.ndarray, allowed: np.ndarray, drop: float) -> Tuple[Tensor, Tensor]:
        """The mean over tokens, see `crf_loss`; and the emissions, (steps, tags)."""
        transitions, start = self.scores()
        emissions = self(vectors, drop)
        return crf_loss(emissions, transitions, start, allowed, lengths), emissions

    def copy_from(self, old: "Tagger") -> None:
        """Take over the weights of the tags that `old` has."""
        new = [i for i, tag in enumerate(self.tags) if tag in old.tags]
        known = [old.tags.index(self.tags[i]) for i in new]
        with torch.no_grad():
            self.output.weight[new] = old.output.weight[known]
            self.output.bias[new] = old.output.bias[known]
            self.start[new] = old.start[known]
            self.transitions[np.ix_(new, new)] = old.transitions[np.ix_(known, known)]


def aligned_steps(tokens: TokenVectors) -> tuple:
    """The tokens that have wordpieces, as the tagger's steps.

    RETURNS: vectors (steps, width); lengths (items,), may be 0; rows (steps,), each step's token over all items.
    """
    rows = np.flatnonzero(tokens.aligned)
    before = np.append(0, np.cumsum(tokens.aligned))
    lengths = before[tokens.starts + tokens.lengths] - before[tokens.starts]
    if len(rows) == len(tokens.aligned):
        return tokens.vectors, lengths, rows
    return tokens.vectors[torch.from_numpy(rows).to(tokens.vectors.device)], lengths, rows
