"""A linear-chain CRF over BIO tags. NumPy for the recursions, torch for the gradients; no spaCy.

Forward and backward are scaled (Rabiner 1989), in double precision, on sequences laid out by time: at each step only those
that are that long take part, and long ones are cut into pieces that run side by side. Tags come first there, (tags, places), so
that what is done to all sequences at once lies side by side. The gradient is closed-form (marginals
under the model minus marginals under the gold constraint), so autograd records nothing.
"""

from dataclasses import dataclass
from typing import Callable, List, Sequence, Tuple, TypeVar

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


CHUNK, RUN_UP = 128, 64  # steps
FEW = 2000  # steps times tags squared


@dataclass(frozen=True)
class Pieces:
    """Stretches of sequences that run side by side, so that one long sequence does not take more time steps than many short ones.

    A recursion begins a piece some steps early, and has forgotten what it began with when it reaches the piece's own steps. Where
    two pieces meet this is checked; a sequence whose pieces do not agree is run again as one (`_side_by_side`), so results are
    those of the whole sequence up to rounding.

    first, last: (pieces,), where a piece's own steps begin and end. low, high: (pieces,), the same of its sequence; all counted
    over all sequences. sequence: (pieces,).
    """

    first: Array
    last: Array
    low: Array
    high: Array
    sequence: Array

    @classmethod
    def of(cls, lengths: Array, whole: Array) -> "Pieces":
        """whole: (sequences,) bool, those that are not to be cut."""
        high = np.cumsum(lengths)
        count = np.where(whole | (lengths <= CHUNK + RUN_UP), 1, -(-lengths // CHUNK))
        sequence = np.repeat(np.arange(len(lengths)), count)
        number = np.arange(len(sequence)) - np.repeat(np.cumsum(count) - count, count)
        low, high = (high - lengths)[sequence], high[sequence]
        first = low + number * CHUNK
        return cls(first, np.where(number + 1 < count[sequence], first + CHUNK, high), low, high, sequence)


@dataclass(frozen=True)
class Run:
    """The steps of all pieces laid out by time, the longest piece first, for a recursion from front to back or the other way.

    rows: (places,), each place's step. piece: (places,), and its piece. offsets: (longest + 1,), where each time begins.
    place: (steps,), where each step is its piece's own. edge: (edges,), the places next to a piece's own steps, which its
    neighbour owns. opens: (pieces,) bool, longest first, whether the run begins where the sequence does.
    """

    rows: Array
    piece: Array
    offsets: Array
    place: Array
    edge: Array
    opens: Array

    @classmethod
    def forward(cls, pieces: Pieces) -> "Run":
        begin = np.maximum(pieces.first - RUN_UP, pieces.low)
        order, rank, time, offsets = _by_time(pieces.last - begin)
        rows, first = begin[order][rank] + time, pieces.first[order][rank]
        edge = np.flatnonzero(rows == first - 1)
        return cls(rows, order[rank], offsets, _places(rows, rows >= first), edge, (begin == pieces.low)[order])

    @classmethod
    def backward(cls, pieces: Pieces) -> "Run":
        end = np.minimum(pieces.last + RUN_UP, pieces.high)
        order, rank, time, offsets = _by_time(end - pieces.first)
        rows, last = end[order][rank] - 1 - time, pieces.last[order][rank]
        edge = np.flatnonzero(rows == last)
        return cls(rows, order[rank], offsets, _places(rows, rows < last), edge, (end == pieces.high)[order])

    def flat(self, values: Array) -> Array:
        """(..., places) in this layout to (..., steps) in the order of the steps."""
        return _taken(values, self.place)

    def torn(self, values: Array, pieces: Pieces, tolerance: float, relative: bool = False) -> Array:
        """The sequences of pieces that find, next to their own steps, another value than the owner of that step.

        values: (..., places). relative: the tolerance is a share of the value. A probability needs that: a small one may be all
        that is left later on.
        """
        if not len(self.edge):
            return self.edge
        mine, theirs = values[..., self.edge], values[..., self.place[self.rows[self.edge]]]
        with np.errstate(invalid="ignore"):
            agree = (mine == theirs) | (np.abs(mine - theirs) <= tolerance * (np.abs(theirs) if relative else 1.0))
        return pieces.sequence[self.piece[self.edge[~agree.reshape(-1, len(self.edge)).all(0)]]]


def _taken(values: Array, columns: Array) -> Array:
    return values.take(columns, -1, mode="clip")  # half the time of "raise", which keeps a copy back in case of an error


def _places(rows: Array, own: Array) -> Array:
    """Each step's place. own: (places,) bool, one of a step's places."""
    places = np.flatnonzero(own)
    found = np.empty_like(places)
    found[rows[places]] = places
    return found


def _by_time(lengths: Array) -> Tuple[Array, Array, Array, Array]:
    """Longest first: the order (pieces,); each place's rank in the order, and its time; where each time begins (longest + 1,)."""
    order = np.argsort(-lengths, kind="stable")
    longest = int(lengths.max()) if len(lengths) else 0
    alive = np.searchsorted(-lengths[order], -np.arange(1, longest + 1), side="right")  # pieces of at least t + 1 steps
    offsets = np.append(0, np.cumsum(alive))
    time = np.repeat(np.arange(longest), alive)
    return order, np.arange(offsets[-1]) - np.repeat(offsets[:-1], alive), time, offsets


Result = TypeVar("Result")


def _side_by_side(lengths: Array, run: Callable[[Pieces], Tuple[Result, Array]]) -> Result:
    """run: pieces to a result and the sequences whose pieces do not agree, which are then run whole."""
    whole = np.zeros(len(lengths), dtype=bool)
    while True:
        result, torn = run(Pieces.of(lengths, whole))
        if not len(torn):
            return result
        whole[torn] = True


@dataclass
class Marginals:
    """What forward and backward give, sequence after sequence."""

    log_z: Array  # (sequences,)
    unary: Array  # (steps, tags), P(tag at step)
    pair: Array  # (tags, tags), expected transitions, summed


def forward_backward(emissions: Array, transitions: Array, start: Array, lengths: Array) -> Marginals:
    """emissions: (steps, tags); transitions: (tags, tags) from row to column; start: (tags,). -inf forbids. lengths: above 0."""
    found = _recursions(emissions, transitions, start, lengths)
    firsts = np.cumsum(lengths) - lengths
    follows = np.ones(len(emissions), dtype=bool)
    follows[firsts] = False
    later = np.flatnonzero(follows)
    alpha, beta = _taken(found.alpha, found.alpha_at), _taken(found.beta, found.beta_at)
    pair = np.exp(transitions) * (alpha[:, later - 1] @ (found.potential * beta)[:, later].T)
    log_z = np.add.reduceat(found.logs, firsts) if len(firsts) else np.zeros(0)
    return Marginals(log_z, (alpha * beta).T, pair)


@dataclass
class _Scaled:
    """Forward and backward scores. Step by step alpha = (matrix.T @ alpha before) * potential, and sums to 1."""

    alpha: Array  # (tags, places)
    alpha_at: Array  # (steps,), each step's place
    beta: Array  # (tags, places)
    beta_at: Array  # (steps,)
    potential: Array  # (tags, steps), exp(emission - its maximum) / scale
    logs: Array  # (steps,), of the scale, and the maximum; they sum up to log Z


def _recursions(emissions: Array, transitions: Array, start: Array, lengths: Array) -> _Scaled:
    by_tag = np.ascontiguousarray(emissions.T)
    top = by_tag.max(0)
    raw, matrix, begin = np.exp(by_tag - top), np.exp(transitions), np.exp(start)

    def both(pieces: Pieces) -> Tuple[_Scaled, Array]:
        forward, backward = Run.forward(pieces), Run.backward(pieces)
        alpha, scale = _alphas(raw, matrix, begin, forward)
        potential = raw / scale
        beta = _betas(potential, matrix, backward)
        torn = [run.torn(values, pieces, 1e-8, relative=True) for run, values in ((forward, alpha), (backward, beta))]
        return _Scaled(alpha, forward.place, beta, backward.place, potential, np.log(scale) + top), np.concatenate(torn)

    return _side_by_side(lengths, both)


def _alphas(raw: Array, matrix: Array, begin: Array, run: Run) -> Tuple[Array, Array]:
    """Scaled forward scores (tags, places), and their scales (steps,)."""
    packed, onward = _taken(raw, run.rows), np.ascontiguousarray(matrix.T)
    alpha, scale = np.empty_like(packed), np.empty(packed.shape[1])
    before = np.where(run.opens, begin[:, None], 1.0)
    for t in range(len(run.offsets) - 1):
        own = slice(run.offsets[t], run.offsets[t + 1])
        reach = (before if t == 0 else onward @ before[:, : own.stop - own.start]) * packed[:, own]
        scale[own] = reach.sum(0)
        before = alpha[:, own] = reach / scale[own]
    return alpha, run.flat(scale)


def _betas(potential: Array, matrix: Array, run: Run) -> Array:
    """Scaled backward scores (tags, places).

    A piece may begin with ones anywhere: alpha @ beta is 1 there, since alpha sums to 1, and stays so.
    """
    packed = _taken(potential, run.rows)
    beta = np.ones_like(packed)
    for t in range(1, len(run.offsets) - 1):
        own, earlier = slice(run.offsets[t], run.offsets[t + 1]), run.offsets[t - 1]
        after = slice(earlier, earlier + own.stop - own.start)
        beta[:, own] = matrix @ (packed[:, after] * beta[:, after])
    return beta


class _NegativeLogLikelihood(torch.autograd.Function):
    """-log P(tags allowed by the gold annotation), summed over sequences."""

    @staticmethod
    def forward(ctx, emissions: Tensor, transitions: Tensor, start: Tensor, allowed: Array, lengths: Array) -> Tensor:
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


def crf_loss(emissions: Tensor, transitions: Tensor, start: Tensor, allowed: Array, lengths: Array) -> Tensor:
    """Mean over steps of the negative log-likelihood of all tag sequences that the gold annotation allows.

    emissions: (steps, tags), sequence after sequence. allowed: (steps, tags) bool, all True where a step is not annotated
    (its tag is then summed out: Tsuboi et al. 2008, "Training CRFs using incomplete annotations"). lengths: (sequences,),
    all above 0. Forbidden transitions and starts are -inf.
    """
    return _NegativeLogLikelihood.apply(emissions, transitions, start, allowed, lengths) / len(emissions)


def viterbi(emissions: Array, transitions: Array, start: Array, lengths: Array) -> Array:
    """The best tag sequence of each sequence: (steps,), sequence after sequence. lengths: (sequences,), above 0.

    Backpointers are found on the way back, for the best path alone. Scores are kept relative to those of tag 0, so that
    single precision does for a sequence of any length.
    """
    if len(emissions) * transitions.size <= FEW:
        return _viterbi_of_few(emissions, transitions, start, lengths)

    def run(pieces: Pieces) -> Tuple[Array, Array]:
        forward, backward = Run.forward(pieces), Run.backward(pieces)
        best = _best_scores(emissions, transitions, start, forward)
        torn = forward.torn(best, pieces, float(np.finfo(best.dtype).eps) ** 0.5 / 4)
        if len(torn):
            return torn, torn
        tags = _trace(_taken(best, forward.place[backward.rows]), transitions, backward)
        return backward.flat(tags), backward.torn(tags, pieces, 0)

    return _side_by_side(lengths, run)


def _viterbi_of_few(emissions: Array, transitions: Array, start: Array, lengths: Array) -> Array:
    """`viterbi` without arrays: for a short text a call of NumPy costs more than what it computes."""
    rows, onto, begin = emissions.tolist(), transitions.T.tolist(), start.tolist()
    found: List[int] = []
    for first, last in zip((np.cumsum(lengths) - lengths).tolist(), np.cumsum(lengths).tolist()):
        best = [score + own for score, own in zip(begin, rows[first])]
        pointers = []  # of each later step and tag, the tag before it
        for row in rows[first + 1 : last]:
            reach = [[score + step for score, step in zip(best, steps)] for steps in onto]
            best = [max(scores) for scores in reach]
            pointers.append([scores.index(top) for scores, top in zip(reach, best)])
            best = [score + own for score, own in zip(best, row)]
        path = [best.index(max(best))]
        for backward in reversed(pointers):
            path.append(backward[path[-1]])
        found += reversed(path)
    return np.array(found, dtype=np.int64)


def _best_scores(emissions: Array, transitions: Array, start: Array, run: Run) -> Array:
    """(tags, places): the score of the best path that ends there, less that of tag 0."""
    best = _taken(np.ascontiguousarray(emissions.T), run.rows)
    for t in range(len(run.offsets) - 1):
        low, high = run.offsets[t], run.offsets[t + 1]
        if t == 0:
            best[:, low:high] += np.where(run.opens, start[:, None], np.zeros_like(start[:, None]))
        else:
            earlier = best[:, None, run.offsets[t - 1] : run.offsets[t - 1] + high - low]
            best[:, low:high] += (earlier + transitions[:, :, None]).max(0)
        best[:, low:high] -= best[0, low:high]
    return best


def _trace(best: Array, transitions: Array, run: Run) -> Array:
    """The best tags from back to front: (places,). best: as `_best_scores` has them, (tags, places) of this run."""
    tags = np.empty(len(run.rows), dtype=np.int64)
    for t in range(len(run.offsets) - 1):
        low, high = run.offsets[t], run.offsets[t + 1]
        reach = best[:, low:high]
        if t:
            earlier = run.offsets[t - 1]
            reach = reach + transitions[:, tags[earlier : earlier + high - low]]
        tags[low:high] = reach.argmax(0)
    return tags


def spans_of(tags: Array, lengths: Array) -> Tuple[Array, Array, Array]:
    """Entities of valid BIO tags: first step, step after the last, label index; steps counted over all sequences."""
    starts = np.flatnonzero(tags % 2 == 1)
    inside = np.append((tags > 0) & (tags % 2 == 0), False)
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
    found, matrix = _recursions(emissions, transitions, start, lengths), np.exp(transitions)
    begin, inside = 1 + 2 * labels, 2 + 2 * labels
    probability = found.alpha[begin, found.alpha_at[starts]]
    previous = begin
    longest = int((ends - starts).max())
    for k in range(1, longest):  # one more step of all entities that are that long
        on = starts + k < ends
        at = np.where(on, starts + k, starts)
        step = matrix[previous, inside] * found.potential[inside, at]
        probability = np.where(on, probability * step, probability)
        previous = np.where(on, inside, previous)
    is_last = np.isin(ends, np.cumsum(lengths))
    after = np.where(is_last, starts, ends)
    onward = matrix[previous].T * found.potential[:, after] * found.beta[:, found.beta_at[after]]
    onward[inside, np.arange(len(labels))] = 0.0
    return np.clip(np.where(is_last, probability, probability * onward.sum(0)), 0.0, 1.0)
