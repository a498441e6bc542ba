"""The span head. Pure torch, and NumPy for decoding."""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mtl.encoder.torch_encoder import TokenVectors


@dataclass
class SpanLogits:
    """Logits of several (document, question) pairs. Column 0 is "no answer", column 1 + t is token t; -inf where none may be.

    start, end: (pairs, 1 + most tokens).
    """

    start: Tensor
    end: Tensor


class SpanHead(nn.Module):
    """Start and end logits for every token, and for no answer at [CLS].

    All windows of a document share one softmax, since each token has one vector: so scores compare across windows (Clark and
    Gardner 2018, "shared normalization"). The no-answer logits come from the mean of the windows' [CLS] vectors.
    width (int): the size of a token vector.
    """

    def __init__(self, width: int, labels: Sequence[str] = ()) -> None:
        super().__init__()
        self.output = nn.Linear(width, 2)
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    def forward(self, tokens: TokenVectors, drop: float = 0.0) -> SpanLogits:
        """tokens: one item a (document, question) pair."""
        logits = self.output(nn.functional.dropout(tokens.vectors, drop, self.training))
        none = self.output(nn.functional.dropout(tokens.summaries, drop, self.training))
        blank = torch.from_numpy(~tokens.aligned).to(logits.device)
        logits = logits.masked_fill(blank[:, None], float("-inf"))
        longest = int(tokens.lengths.max()) if len(tokens.lengths) else 0
        columns = np.arange(tokens.lengths.sum()) - np.repeat(tokens.starts, tokens.lengths)
        rows = np.repeat(np.arange(len(tokens.lengths)), tokens.lengths)
        place = torch.from_numpy(rows).to(logits.device), torch.from_numpy(columns).to(logits.device)
        table = logits.new_full((len(tokens.lengths), longest, 2), float("-inf")).index_put(place, logits)
        table = torch.cat([none[:, None], table], 1)
        return SpanLogits(table[..., 0], table[..., 1])


def span_loss(logits: SpanLogits, golds: List[List[Tuple[int, int]]]) -> Tensor:
    """Half the negative log of the gold spans' summed probability, mean over pairs.

    golds: per pair the gold spans as columns (start, end), [(0, 0)] for no answer; with several, any of them will do, but not
    the start of one with the end of another.
    """
    most = max(map(len, golds))
    rows = torch.tensor([row for row, spans in enumerate(golds) for _ in spans], device=logits.start.device)
    place = torch.tensor([i for spans in golds for i in range(len(spans))], device=rows.device)
    start, end = torch.tensor([span for spans in golds for span in spans], device=rows.device).T
    spans = logits.start.log_softmax(1)[rows, start] + logits.end.log_softmax(1)[rows, end]
    table = spans.new_full((len(golds), most), float("-inf")).index_put((rows, place), spans)
    return -table.logsumexp(1).mean() / 2


def best_spans(start: np.ndarray, end: np.ndarray, longest: int, count: int) -> List[Tuple[float, int, int]]:
    """The `count` best spans of at most `longest` tokens: (start logit + end logit, first token, token after the last).

    start, end: (tokens,), without the no-answer column. Exact: each start's best end is found first, and the `count` best
    spans can only start at the `count` best of those.
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
    found = [(float(scores[r, w]), int(starts[r]), int(starts[r] + w + 1)) for r, w in zip(rows, widths)]
    return [span for span in found if span[0] > -np.inf]


def _sliding_max(values: np.ndarray, width: int) -> np.ndarray:
    """The maximum of each `width` consecutive values, in log(width) passes."""
    size, done = values, 1
    while done * 2 <= width:
        size = np.maximum(size[:-done], size[done:])
        done *= 2
    rest = width - done
    return np.maximum(size[: len(size) - rest], size[rest:]) if rest else size
