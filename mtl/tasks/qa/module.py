"""The span head. Pure torch, and NumPy for decoding."""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mtl.encoder.model.vectors import TokenVectors
from mtl.tasks.pooling import linear_output


@dataclass
class SpanLogits:
    """Logits of several (document, question) pairs. Column 0 is "no answer", column 1 + t is token t; -inf is impossible.

    Args:
        start (Tensor): Shape (pairs, 1 + tokens of the longest document).
        end (Tensor): The same shape.
    """

    start: Tensor
    end: Tensor


class SpanHead(nn.Module):
    """Start and end logits for every token, and for no answer at [CLS].

    All windows of a document share one softmax, since each token has one vector, so scores are comparable across windows (Clark
    and Gardner 2018, "shared normalization"). The logits of "no answer" come from the mean of the windows' [CLS] vectors.

    Args:
        width (int): Size of a token vector.
        labels (Sequence[str]): None.
    """

    def __init__(self, width: int, labels: Sequence[str] = ()) -> None:
        super().__init__()
        self.output = linear_output(width, 2)

    def forward(self, tokens: TokenVectors, drop: float = 0.0) -> SpanLogits:
        """The logits of (document, question) pairs, one item for each."""
        logits = self.output(nn.functional.dropout(tokens.vectors, drop, self.training))
        no_answer = self.output(nn.functional.dropout(tokens.summaries, drop, self.training))
        impossible = torch.from_numpy(~tokens.aligned).to(logits.device)
        logits = logits.masked_fill(impossible[:, None], float("-inf"))
        longest = int(tokens.lengths.max()) if len(tokens.lengths) else 0
        columns = np.arange(tokens.lengths.sum()) - np.repeat(tokens.starts, tokens.lengths)
        rows = np.repeat(np.arange(len(tokens.lengths)), tokens.lengths)
        index = torch.from_numpy(rows).to(logits.device), torch.from_numpy(columns).to(logits.device)
        table = logits.new_full((len(tokens.lengths), longest, 2), float("-inf")).index_put(index, logits)
        table = torch.cat([no_answer[:, None], table], 1)
        return SpanLogits(table[..., 0], table[..., 1])


def span_loss(logits: SpanLogits, golds: List[List[Tuple[int, int]]]) -> Tensor:
    """Half the negative log of the gold spans' summed probability, the mean over pairs.

    Args:
        logits (SpanLogits): The logits.
        golds (List[List[Tuple[int, int]]]): For each pair the gold spans as columns (start, end), [(0, 0)] for no answer. Any of
            several spans is right, but not the start of one with the end of another.
    """
    width = max(map(len, golds))
    rows = torch.tensor([row for row, spans in enumerate(golds) for _ in spans], device=logits.start.device)
    columns = torch.tensor([i for spans in golds for i in range(len(spans))], device=rows.device)
    start, end = torch.tensor([span for spans in golds for span in spans], device=rows.device).T
    log_probabilities = logits.start.log_softmax(1)[rows, start] + logits.end.log_softmax(1)[rows, end]
    table = log_probabilities.new_full((len(golds), width), float("-inf")).index_put((rows, columns), log_probabilities)
    return -table.logsumexp(1).mean() / 2


def best_spans(start: np.ndarray, end: np.ndarray, longest: int, count: int) -> List[Tuple[float, int, int]]:
    """The best spans of a document.

    The result is exact: each start's best end is found first, and the `count` best spans can only start at the `count` best of
    those.

    Args:
        start (np.ndarray): Shape (tokens,): start logits, without the column of "no answer".
        end (np.ndarray): Shape (tokens,): end logits.
        longest (int): Length of the longest span, in tokens.
        count (int): Number of spans.

    Returns:
        List[Tuple[float, int, int]]: Start logit + end logit, first token, and token after the last, best first.
    """
    tokens = len(start)
    if not tokens:
        return []
    longest = min(longest, tokens)
    padded = np.concatenate([end, np.full(longest - 1, -np.inf, dtype=end.dtype)])
    band = np.lib.stride_tricks.sliding_window_view(padded, longest)  # (tokens, longest): ends reachable from each start
    reach = start + _sliding_max(padded, longest)
    starts = np.argsort(-reach, kind="stable")[:count]
    scores = start[starts, None] + band[starts]
    flat = np.argsort(-scores, axis=None, kind="stable")[:count]
    rows, widths = np.unravel_index(flat, scores.shape)
    spans = [(float(scores[r, w]), int(starts[r]), int(starts[r] + w + 1)) for r, w in zip(rows, widths)]
    return [span for span in spans if span[0] > -np.inf]


def _sliding_max(values: np.ndarray, width: int) -> np.ndarray:
    """The maximum of each `width` consecutive values, in log(width) steps."""
    maxima, covered = values, 1
    while covered * 2 <= width:
        maxima = np.maximum(maxima[:-covered], maxima[covered:])
        covered *= 2
    rest = width - covered
    return np.maximum(maxima[: len(maxima) - rest], maxima[rest:]) if rest else maxima
