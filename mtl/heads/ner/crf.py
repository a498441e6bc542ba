"""A linear-chain CRF over BIO tags. NumPy for the recursions, torch for the gradients; no spaCy.

Forward and backward are scaled (Rabiner 1989), in double precision, on sequences packed by time: at each step only those
that are that long take part. The gradient is closed-form (marginals under the model minus marginals under the gold
constraint), so autograd records nothing.
"""

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray


def bio_tags(labels: Sequence[str]) -> List[str]:
    """O, then B-X and I-X of each label."""
    return ["O", *(f"{prefix}-{label}" for label in labels for prefix in "BI")]


def bio_constraints(labels: int) -> Tuple[Array, Array]:
    """Which tag may follow which, (tags, tags) bool from row to column, and which may start, (tags,) bool."""
    tags = 1 + 2 * labels
    follow = np.ones((tags, tags), dtype=bool)
    start = np.ones(tags, dtype=bool)
    for inside in range(2, tags, 2):
        follow[:, inside] = False
        follow[[inside - 1, inside], inside] = True
        start[inside] = False
    return follow, start


@dataclass(frozen=True)
class Packing:
    """Where the steps of several sequences stand when laid out by time, longest sequence first.

    rows: (steps,), for each packed place, its place in the flat layout (sequence after sequence).
    offsets: (longest + 1,), where each time step starts in the packed layout. order: (sequences,), longest first.
    """

    rows: Array
    offsets: Array
    order: Array

    @classmethod
    def of(cls, lengths: Array) -> "Packing":
        order = np.argsort(-lengths, kind="stable")
        sorted_lengths = lengths[order]
        longest = int(lengths.max()) if len(lengths) else 0
        alive = np.searchsorted(-sorted_lengths, -np.arange(1, longest + 1), side="right")  # sequences of at least t + 1 steps
        offsets = np.r_[0, np.cumsum(alive)]
        starts = (np.cumsum(lengths) - lengths)[order]
        time = np.repeat(np.arange(longest), alive)
        rank = np.arange(offsets[-1]) - np.repeat(offsets[:-1], alive)
        return cls(starts[rank] + time, offsets, order)

    @property
    def previous(self) -> Array:
        """For each packed place after the first time step, the packed place of the step before it."""
        alive = np.diff(self.offsets)
        return np.arange(self.offsets[1], self.offsets[-1]) - np.repeat(alive[:-1], alive[1:]) if len(alive) else alive


@dataclass
class Marginals:
    """What forward and backward give, in the packed layout."""

    log_z: Array  # (sequences,), in the order of the packing
    unary: Array  # (steps, tags), P(tag at step)
    pair: Array  # (tags, tags), expected transitions, summed
    alpha: Array  # (steps, tags), scaled
    beta: Array  # (steps, tags), scaled
    potential: Array  # (steps, tags), exp(emission - its maximum) / scale: alpha[t] = alpha[t-1] @ A * potential[t]


def forward_backward(emissions: Array, transitions: Array, start: Array, packing: Packing) -> Marginals:
    """emissions: (steps, tags), packed; transitions: (tags, tags) from row to column; start: (tags,). -inf forbids."""
    offsets = packing.offsets
    steps, tags = emissions.shape
    top = emissions.max(1, keepdims=True)
    potential = np.exp(emissions - top)
    matrix = np.exp(transitions)
    alpha, scale = np.empty((steps, tags)), np.empty((steps, 1))
    before = np.exp(start)
    for t in range(len(offsets) - 1):
        low, high = offsets[t], offsets[t + 1]
        reach = (before if t == 0 else before[: high - low] @ matrix) * potential[low:high]
        scale[low:high] = reach.sum(1, keepdims=True)
        before = alpha[low:high] = reach / scale[low:high]
    potential /= scale
    beta = np.ones((steps, tags))
    back = matrix.T.copy()
    for t in range(len(offsets) - 2, 0, -1):
        low, high = offsets[t], offsets[t + 1]
        earlier = offsets[t - 1]
        beta[earlier : earlier + high - low] = (potential[low:high] * beta[low:high]) @ back
    first = offsets[1] if len(offsets) > 1 else 0
    pair = matrix * (alpha[packing.previous].T @ (potential * beta)[first:])
    logs = (np.log(scale) + top)[:, 0]
    time_rank = np.arange(steps) - np.repeat(offsets[:-1], np.diff(offsets))
    log_z = np.bincount(time_rank, weights=logs, minlength=first)
    return Marginals(log_z, alpha * beta, pair, alpha, beta, potential)


class _NegativeLogLikelihood(torch.autograd.Function):
    """-log P(tags allowed by the gold annotation), summed over sequences."""

    @staticmethod
    def forward(ctx, emissions: Tensor, transitions: Tensor, start: Tensor, allowed: Array, lengths: Array) -> Tensor:
        packing = Packing.of(lengths)
        scores = emissions.detach().cpu().double().numpy()[packing.rows]
        matrix, begin = transitions.detach().cpu().double().numpy(), start.detach().cpu().double().numpy()
        free = forward_backward(scores, matrix, begin, packing)
        bound = forward_backward(np.where(allowed[packing.rows], scores, -np.inf), matrix, begin, packing)
        d_emissions = np.empty_like(scores)
        d_emissions[packing.rows] = free.unary - bound.unary
        first = len(free.log_z)
        grads = (d_emissions, free.pair - bound.pair, (free.unary - bound.unary)[:first].sum(0))
        ctx.grads = [torch.from_numpy(g).to(t.device, t.dtype) for g, t in zip(grads, (emissions, transitions, start))]
        return emissions.new_tensor((free.log_z - bound.log_z).sum())

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor):
        return (*(grad * grad_outputs[0] for grad in ctx.grads), None, None)


def crf_loss(emissions: Tensor, transitions: Tensor, start: Tensor, allowed: Array, lengths: Array) -> Tensor:
    """Mean over steps of the negative log-likelihood of all tag sequences that the gold annotation allows.

    emissions: (steps, tags), sequence after sequence. allowed: (steps, tags) bool, all True where a step is not annotated
    (its tag is then summed out: Tsuboi et al. 2008, "Training CRFs using incomplete annotations"). lengths: (sequences,),
    all above 0. Forbidden transitions and starts are -inf.
    """
    return _NegativeLogLikelihood.apply(emissions, transitions, start, allowed, lengths) / len(emissions)


def viterbi(emissions: Array, transitions: Array, start: Array, lengths: Array) -> Array:
    """The best tag sequence of each sequence: (steps,), in the layout of `emissions` (sequence after sequence).

    Backpointers are found on the way back, for the best path alone. Scores are kept relative to those of tag 0, so that
    single precision does for a sequence of any length.
    """
    packing = Packing.of(lengths)
    offsets = packing.offsets
    longest = len(offsets) - 1
    scores = np.ascontiguousarray(emissions[packing.rows].T)
    best = scores.copy()  # (tags, steps): of all paths that end there
    for t in range(longest):
        low, high = offsets[t], offsets[t + 1]
        if t == 0:
            best[:, low:high] += start[:, None]
        else:
            earlier = best[:, None, offsets[t - 1] : offsets[t - 1] + high - low]
            best[:, low:high] += (earlier + transitions[:, :, None]).max(0)
        best[:, low:high] -= best[0, low:high]
    tags = np.empty(len(packing.rows), dtype=np.int16)
    after = np.zeros(0, dtype=np.int64)  # the tags of the step after, in those sequences that have one
    for t in range(longest - 1, -1, -1):
        low, high = offsets[t], offsets[t + 1]
        reach = best[:, low:high].copy()
        reach[:, : len(after)] += transitions[:, after]
        after = reach.argmax(0)
        tags[low:high] = after
    flat = np.empty_like(tags)
    flat[packing.rows] = tags
    return flat


def spans_of(tags: Array, lengths: Array) -> Tuple[Array, Array, Array]:
    """Entities of valid BIO tags: first step, step after the last, label index; steps counted over all sequences."""
    starts = np.flatnonzero(tags % 2 == 1)
    inside = np.r_[(tags > 0) & (tags % 2 == 0), False]
    outside = np.flatnonzero(~inside)
    ends = outside[np.searchsorted(outside, starts + 1)]
    return starts, ends, (tags[starts] - 1) // 2


def span_probabilities(
    emissions: Array, transitions: Array, start: Array, lengths: Array, spans: Tuple[Array, Array, Array]
) -> Array:
    """P(exactly this entity: B at its first step, I to its last, and no I after), for the spans of `spans_of`."""
    starts, ends, labels = spans
    if not len(starts):
        return np.zeros(0)
    packing = Packing.of(lengths)
    found = forward_backward(emissions[packing.rows], transitions, start, packing)
    place = np.empty(len(emissions), dtype=np.int64)
    place[packing.rows] = np.arange(len(emissions))
    matrix = np.exp(transitions)
    begin, inside = 1 + 2 * labels, 2 + 2 * labels
    probability = found.alpha[place[starts], begin]
    previous = begin
    longest = int((ends - starts).max())
    for k in range(1, longest):  # one more step of all entities that are that long
        on = starts + k < ends
        at = place[np.where(on, starts + k, starts)]
        step = matrix[previous, inside] * found.potential[at, inside]
        probability = np.where(on, probability * step, probability)
        previous = np.where(on, inside, previous)
    is_last = np.isin(ends, np.cumsum(lengths))
    after = place[np.where(is_last, starts, ends)]
    onward = matrix[previous] * found.potential[after] * found.beta[after]
    onward[np.arange(len(labels)), inside] = 0.0
    return np.clip(np.where(is_last, probability, probability * onward.sum(1)), 0.0, 1.0)
