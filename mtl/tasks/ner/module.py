"""The entity tagger: emissions and a CRF. Pure torch."""

from typing import List, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mtl.encoder.model.vectors import TokenVectors
from mtl.tasks.ner.bio import bio_constraints, bio_tags
from mtl.tasks.ner.crf import crf_loss
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

    def loss(self, vectors: Tensor, lengths: np.ndarray, allowed: np.ndarray, drop: float) -> Tuple[Tensor, Tensor]:
        """The loss, the mean over steps, and the emissions.

        Args:
            vectors (Tensor): Shape (steps, width).
            lengths (np.ndarray): See `crf_loss`.
            allowed (np.ndarray): See `crf_loss`.
            drop (float): Dropout rate.
        """
        transitions, start = self.scores()
        emissions = self(vectors, drop)
        return crf_loss(emissions, transitions, start, allowed, lengths), emissions

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


def aligned_steps(tokens: TokenVectors) -> Tuple[Tensor, np.ndarray, np.ndarray]:
    """The tokens that have subwords, as the tagger's steps.

    Returns:
        Tuple[Tensor, np.ndarray, np.ndarray]: The vectors, shape (steps, width); the number of steps of each item, maybe 0,
            shape (items,); and each step's token, counted over all items, shape (steps,).
    """
    rows = np.flatnonzero(tokens.aligned)
    before = np.append(0, np.cumsum(tokens.aligned))
    lengths = before[tokens.starts + tokens.lengths] - before[tokens.starts]
    if len(rows) == len(tokens.aligned):
        return tokens.vectors, lengths, rows
    return tokens.vectors[torch.from_numpy(rows).to(tokens.vectors.device)], lengths, rows
