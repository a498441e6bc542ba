"""Sequences cut into segments that a recursion over time runs through side by side. Pure NumPy.

A recursion in NumPy costs a call for each time step, so one long sequence would take far longer than many short ones of the same
total length.
"""

from dataclasses import dataclass
from typing import Callable, Tuple, TypeVar

import numpy as np

SEGMENT, WARM_UP = 128, 64  # steps

Result = TypeVar("Result")


@dataclass(frozen=True)
class Segments:
    """Stretches of sequences. All steps are counted over all sequences.

    A recursion enters a segment some steps early, and has forgotten its initial values when it reaches the segment's own steps.
    Where two segments meet this is checked. If segments of a sequence disagree, the sequence is run again as one
    (`run_in_segments`), so the results are those of whole sequences, up to rounding.

    Args:
        first (np.ndarray): Shape (segments,): first of a segment's own steps.
        last (np.ndarray): Shape (segments,): the step after the last.
        low (np.ndarray): Shape (segments,): first step of its sequence.
        high (np.ndarray): Shape (segments,): the step after the last of its sequence.
        sequence (np.ndarray): Shape (segments,): index of its sequence.
    """

    first: np.ndarray
    last: np.ndarray
    low: np.ndarray
    high: np.ndarray
    sequence: np.ndarray

    @classmethod
    def cut(cls, lengths: np.ndarray, whole: np.ndarray) -> "Segments":
        """Cut sequences.

        Args:
            lengths (np.ndarray): Shape (sequences,): steps of each.
            whole (np.ndarray): Shape (sequences,), bool: those not to cut.
        """
        high = np.cumsum(lengths)
        count = np.where(whole | (lengths <= SEGMENT + WARM_UP), 1, -(-lengths // SEGMENT))
        sequence = np.repeat(np.arange(len(lengths)), count)
        number = np.arange(len(sequence)) - np.repeat(np.cumsum(count) - count, count)
        low, high = (high - lengths)[sequence], high[sequence]
        first = low + number * SEGMENT
        return cls(first, np.where(number + 1 < count[sequence], first + SEGMENT, high), low, high, sequence)


@dataclass(frozen=True)
class Schedule:
    """The steps of all segments by time, longest segment first, for a recursion from front to back or the other way.

    A slot is one step of one segment. A step near the end of a segment has a second slot, in its neighbour's warm-up.

    Args:
        step (np.ndarray): Shape (slots,): the step of each.
        segment (np.ndarray): Shape (slots,): its segment.
        offsets (np.ndarray): Shape (longest + 1,): the slot at which each time starts.
        slot (np.ndarray): Shape (steps,): the slot in which each step is its segment's own.
        edges (np.ndarray): The slots next to a segment's own steps, whose steps are its neighbour's own.
        at_boundary (np.ndarray): Shape (segments,), bool, longest first: whether the recursion enters the segment where it
            enters the whole sequence, without a warm-up.
    """

    step: np.ndarray
    segment: np.ndarray
    offsets: np.ndarray
    slot: np.ndarray
    edges: np.ndarray
    at_boundary: np.ndarray

    @classmethod
    def forward(cls, segments: Segments) -> "Schedule":
        """From front to back."""
        begin = np.maximum(segments.first - WARM_UP, segments.low)
        order, rank, time, offsets = _by_time(segments.last - begin)
        step, first = begin[order][rank] + time, segments.first[order][rank]
        edges = np.flatnonzero(step == first - 1)
        return cls(step, order[rank], offsets, _slots(step, step >= first), edges, (begin == segments.low)[order])

    @classmethod
    def backward(cls, segments: Segments) -> "Schedule":
        """From back to front."""
        end = np.minimum(segments.last + WARM_UP, segments.high)
        order, rank, time, offsets = _by_time(end - segments.first)
        step, last = end[order][rank] - 1 - time, segments.last[order][rank]
        edges = np.flatnonzero(step == last)
        return cls(step, order[rank], offsets, _slots(step, step < last), edges, (end == segments.high)[order])

    def by_step(self, values: np.ndarray) -> np.ndarray:
        """Values of shape (..., slots) as (..., steps), in the order of the steps."""
        return columns(values, self.slot)

    def disagreeing(self, values: np.ndarray, segments: Segments, tolerance: float, relative: bool = False) -> np.ndarray:
        """The sequences in which two segments that meet have different values for the same step.

        Args:
            values (np.ndarray): Shape (..., slots).
            segments (Segments): The segments of this schedule.
            tolerance (float): Largest difference that counts as equal.
            relative (bool): The tolerance is a fraction of the value. Probabilities need that: a small one may be all that is
                left later on.
        """
        if not len(self.edges):
            return self.edges
        warmed_up, owned = values[..., self.edges], values[..., self.slot[self.step[self.edges]]]
        with np.errstate(invalid="ignore"):
            scale = np.abs(owned) if relative else 1.0
            agree = (warmed_up == owned) | (np.abs(warmed_up - owned) <= tolerance * scale)
        return segments.sequence[self.segment[self.edges[~agree.reshape(-1, len(self.edges)).all(0)]]]


def columns(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """`values[..., index]`. In half the time of `mode="raise"`, which keeps a copy in case of an error."""
    return values.take(index, -1, mode="clip")


def _slots(step: np.ndarray, is_own: np.ndarray) -> np.ndarray:
    """For each step the slot that is its segment's own."""
    own_slots = np.flatnonzero(is_own)
    slots = np.empty_like(own_slots)
    slots[step[own_slots]] = own_slots
    return slots


def _by_time(lengths: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The order of segments, longest first; each slot's rank in that order, and its time; the slot at which each time starts."""
    order = np.argsort(-lengths, kind="stable")
    longest = int(lengths.max()) if len(lengths) else 0
    alive = np.searchsorted(-lengths[order], -np.arange(1, longest + 1), side="right")  # segments of at least t + 1 steps
    offsets = np.append(0, np.cumsum(alive))
    time = np.repeat(np.arange(longest), alive)
    return order, np.arange(offsets[-1]) - np.repeat(offsets[:-1], alive), time, offsets


def run_in_segments(lengths: np.ndarray, run: Callable[[Segments], Tuple[Result, np.ndarray]]) -> Result:
    """Run a recursion over sequences.

    Args:
        lengths (np.ndarray): Shape (sequences,): steps of each.
        run (Callable): Returns its result for segments, and the sequences whose segments disagree. Those are then run whole.
    """
    whole = np.zeros(len(lengths), dtype=bool)
    while True:
        result, disagreeing = run(Segments.cut(lengths, whole))
        if not len(disagreeing):
            return result
        whole[disagreeing] = True
