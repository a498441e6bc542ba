"""A linear-chain CRF over BIO tags: its loss and its probabilities. NumPy for the recursions, torch for the gradients; no spaCy.

The forward and backward recursions are scaled (Rabiner 1989), in double precision, and run through all sequences by time: at each
time step only those that are long enough take part, and long ones are cut (see `mtl.tasks.ner.segments`). Arrays have tags first,
(tags, slots), so that what is computed for all sequences at once is contiguous. The gradient is closed-form (marginals under the
model minus marginals under the gold constraint), so autograd records nothing.
"""

from dataclasses import dataclass
from typing import Tuple

import numpy as np
import torch
from torch import Tensor

from mtl.tasks.ner.segments import Schedule, Segments, columns, run_in_segments


@dataclass
class Marginals:
    """The result of the forward and backward recursions.

    Args:
        log_z (np.ndarray): Shape (sequences,): log of the sum over all tag sequences.
        unary (np.ndarray): Shape (steps, tags): P(tag at step).
        pair (np.ndarray): Shape (tags, tags): expected number of transitions, summed over all steps.
    """

    log_z: np.ndarray
    unary: np.ndarray
    pair: np.ndarray


def forward_backward(emissions: np.ndarray, transitions: np.ndarray, start: np.ndarray, lengths: np.ndarray) -> Marginals:
    """Run forward and backward.

    Args:
        emissions (np.ndarray): Shape (steps, tags), sequence after sequence; -inf forbids.
        transitions (np.ndarray): Shape (tags, tags), from row to column; -inf forbids.
        start (np.ndarray): Shape (tags,); -inf forbids.
        lengths (np.ndarray): Shape (sequences,): steps of each, above 0.
    """
    scaled = _recursions(emissions, transitions, start, lengths)
    firsts = np.cumsum(lengths) - lengths
    has_predecessor = np.ones(len(emissions), dtype=bool)
    has_predecessor[firsts] = False
    later = np.flatnonzero(has_predecessor)
    alpha, beta = columns(scaled.alpha, scaled.alpha_slot), columns(scaled.beta, scaled.beta_slot)
    pair = np.exp(transitions) * (alpha[:, later - 1] @ (scaled.potential * beta)[:, later].T)
    log_z = np.add.reduceat(scaled.logs, firsts) if len(firsts) else np.zeros(0)
    return Marginals(log_z, (alpha * beta).T, pair)


@dataclass
class _Scaled:
    """Forward and backward scores. At each step alpha = (matrix.T @ previous alpha) * potential, and sums to 1."""

    alpha: np.ndarray  # (tags, slots)
    alpha_slot: np.ndarray  # (steps,): the slot of each step
    beta: np.ndarray  # (tags, slots)
    beta_slot: np.ndarray  # (steps,)
    potential: np.ndarray  # (tags, steps): exp(emission - its maximum) / scale
    logs: np.ndarray  # (steps,): log of the scale, plus the maximum; they sum to log Z


def _recursions(emissions: np.ndarray, transitions: np.ndarray, start: np.ndarray, lengths: np.ndarray) -> _Scaled:
    by_tag = np.ascontiguousarray(emissions.T)
    top = by_tag.max(0)
    raw, matrix, begin = np.exp(by_tag - top), np.exp(transitions), np.exp(start)

    def run(segments: Segments) -> Tuple[_Scaled, np.ndarray]:
        forward, backward = Schedule.forward(segments), Schedule.backward(segments)
        alpha, scale = _alphas(raw, matrix, begin, forward)
        potential = raw / scale
        beta = _betas(potential, matrix, backward)
        disagreeing = [
            schedule.disagreeing(values, segments, 1e-8, relative=True)
            for schedule, values in ((forward, alpha), (backward, beta))
        ]
        scaled = _Scaled(alpha, forward.slot, beta, backward.slot, potential, np.log(scale) + top)
        return scaled, np.concatenate(disagreeing)

    return run_in_segments(lengths, run)


def _alphas(raw: np.ndarray, matrix: np.ndarray, begin: np.ndarray, schedule: Schedule) -> Tuple[np.ndarray, np.ndarray]:
    """Scaled forward scores, shape (tags, slots), and their scales, shape (steps,)."""
    packed, onward = columns(raw, schedule.step), np.ascontiguousarray(matrix.T)
    alpha, scale = np.empty_like(packed), np.empty(packed.shape[1])
    previous = np.where(schedule.at_boundary, begin[:, None], 1.0)
    for t in range(len(schedule.offsets) - 1):
        now = slice(schedule.offsets[t], schedule.offsets[t + 1])
        reach = (previous if t == 0 else onward @ previous[:, : now.stop - now.start]) * packed[:, now]
        scale[now] = reach.sum(0)
        previous = alpha[:, now] = reach / scale[now]
    return alpha, schedule.by_step(scale)


def _betas(potential: np.ndarray, matrix: np.ndarray, schedule: Schedule) -> np.ndarray:
    """Scaled backward scores, shape (tags, slots).

    A segment may start with ones anywhere: alpha @ beta is 1 there, since alpha sums to 1, and stays 1.
    """
    packed = columns(potential, schedule.step)
    beta = np.ones_like(packed)
    for t in range(1, len(schedule.offsets) - 1):
        now, earlier = slice(schedule.offsets[t], schedule.offsets[t + 1]), schedule.offsets[t - 1]
        after = slice(earlier, earlier + now.stop - now.start)
        beta[:, now] = matrix @ (packed[:, after] * beta[:, after])
    return beta


class _NegativeLogLikelihood(torch.autograd.Function):
    """-log P(tags allowed by the gold annotation), summed over sequences."""

    @staticmethod
    def forward(ctx, emissions: Tensor, transitions: Tensor, start: Tensor, allowed: np.ndarray, lengths: np.ndarray) -> Tensor:
        scores = emissions.detach().cpu().double().numpy()
        matrix, begin = transitions.detach().cpu().double().numpy(), start.detach().cpu().double().numpy()
        free = forward_backward(scores, matrix, begin, lengths)
        bound = forward_backward(np.where(allowed, scores, -np.inf), matrix, begin, lengths)
        firsts = np.cumsum(lengths) - lengths
        grads = (free.unary - bound.unary, free.pair - bound.pair, (free.unary - bound.unary)[firsts].sum(0))
        ctx.grads = [torch.from_numpy(g).to(t.device, t.dtype) for g, t in zip(grads, (emissions, transitions, start))]
        return emissions.new_tensor((free.log_z - bound.log_z).sum())

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor):
        return (*(grad * grad_outputs[0] for grad in ctx.grads), None, None)


def crf_loss(emissions: Tensor, transitions: Tensor, start: Tensor, allowed: np.ndarray, lengths: np.ndarray) -> Tensor:
    """The negative log-likelihood of all tag sequences that the gold annotation allows, the mean over steps.

    Args:
        emissions (Tensor): Shape (steps, tags), sequence after sequence.
        transitions (Tensor): Shape (tags, tags), from row to column; -inf forbids.
        start (Tensor): Shape (tags,); -inf forbids.
        allowed (np.ndarray): Shape (steps, tags), bool. All True where a step is not annotated: its tag is then summed out
            (Tsuboi et al. 2008, "Training CRFs using incomplete annotations").
        lengths (np.ndarray): Shape (sequences,): steps of each, above 0.
    """
    return _NegativeLogLikelihood.apply(emissions, transitions, start, allowed, lengths) / len(emissions)


class _SoftNegativeLogLikelihood(torch.autograd.Function):
    """-E[log P(tags)] over tag sequences drawn from another distribution, of which only the marginals matter; the sum."""

    @staticmethod
    def forward(
        ctx, emissions: Tensor, transitions: Tensor, start: Tensor, unary: np.ndarray, pair: np.ndarray, lengths: np.ndarray
    ) -> Tensor:
        scores = emissions.detach().cpu().double().numpy()
        matrix, begin = transitions.detach().cpu().double().numpy(), start.detach().cpu().double().numpy()
        free = forward_backward(scores, matrix, begin, lengths)
        firsts = np.cumsum(lengths) - lengths
        first = unary[firsts].sum(0)
        expected = (unary * scores).sum() + _product_sum(pair, matrix) + _product_sum(first, begin)
        grads = (free.unary - unary, free.pair - pair, free.unary[firsts].sum(0) - first)
        ctx.grads = [torch.from_numpy(g).to(t.device, t.dtype) for g, t in zip(grads, (emissions, transitions, start))]
        return emissions.new_tensor(free.log_z.sum() - expected)

    @staticmethod
    def backward(ctx, *grad_outputs: Tensor):
        return (*(grad * grad_outputs[0] for grad in ctx.grads), None, None, None)


def _product_sum(weights: np.ndarray, scores: np.ndarray) -> float:
    """The sum of products, where -inf times 0 is 0."""
    return float((weights[weights > 0] * scores[weights > 0]).sum())


def soft_crf_loss(
    emissions: Tensor, transitions: Tensor, start: Tensor, unary: np.ndarray, pair: np.ndarray, lengths: np.ndarray
) -> Tensor:
    """The cross-entropy with another distribution over tag sequences, such as another CRF's, the mean over steps.

    It depends on the other's marginals alone, because the CRF's log probability is a sum over tags and pairs of tags (Wang et al.
    2020, "Structure-level knowledge distillation for multilingual sequence labeling", https://arxiv.org/abs/2004.03846).

    Args:
        emissions (Tensor): See `crf_loss`.
        transitions (Tensor): See `crf_loss`.
        start (Tensor): See `crf_loss`.
        unary (np.ndarray): Shape (steps, tags): the other's P(tag at step).
        pair (np.ndarray): Shape (tags, tags): its expected number of transitions, summed over all steps.
        lengths (np.ndarray): See `crf_loss`.
    """
    return _SoftNegativeLogLikelihood.apply(emissions, transitions, start, unary, pair, lengths) / len(emissions)


def span_probabilities(
    emissions: np.ndarray,
    transitions: np.ndarray,
    start: np.ndarray,
    lengths: np.ndarray,
    spans: Tuple[np.ndarray, np.ndarray, np.ndarray],
) -> np.ndarray:
    """The probability of entities: of B at the first step, I up to the last, and no I after it.

    Args:
        emissions (np.ndarray): See `forward_backward`.
        transitions (np.ndarray): See `forward_backward`.
        start (np.ndarray): See `forward_backward`.
        lengths (np.ndarray): See `forward_backward`.
        spans (Tuple[np.ndarray, np.ndarray, np.ndarray]): The entities, see `bio_spans`.

    Returns:
        np.ndarray: Shape (spans,).
    """
    starts, ends, labels = spans
    if not len(starts):
        return np.zeros(0)
    scaled, matrix = _recursions(emissions, transitions, start, lengths), np.exp(transitions)
    begin, inside = 1 + 2 * labels, 2 + 2 * labels
    probability = scaled.alpha[begin, scaled.alpha_slot[starts]]
    previous = begin
    longest = int((ends - starts).max())
    for k in range(1, longest):  # one more step of all entities that are long enough
        reaches = starts + k < ends
        at = np.where(reaches, starts + k, starts)
        step = matrix[previous, inside] * scaled.potential[inside, at]
        probability = np.where(reaches, probability * step, probability)
        previous = np.where(reaches, inside, previous)
    is_last = np.isin(ends, np.cumsum(lengths))
    after = np.where(is_last, starts, ends)
    onward = matrix[previous].T * scaled.potential[:, after] * scaled.beta[:, scaled.beta_slot[after]]
    onward[inside, np.arange(len(labels))] = 0.0
    return np.clip(np.where(is_last, probability, probability * onward.sum(0)), 0.0, 1.0)
