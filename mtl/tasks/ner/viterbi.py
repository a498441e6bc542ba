"""The best tag sequence under a linear-chain CRF. Pure NumPy."""

from typing import List, Tuple

import numpy as np

from mtl.tasks.ner.segments import Schedule, Segments, columns, run_in_segments

SMALL = 2000  # steps times squared tags, up to which plain Python is faster


def viterbi(emissions: np.ndarray, transitions: np.ndarray, start: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The best tag sequence of each sequence.

    Backpointers are computed on the way back, for the best path only. Scores are kept relative to those of tag 0, so that single
    precision is enough for a sequence of any length.

    Args:
        emissions (np.ndarray): Shape (steps, tags), sequence after sequence.
        transitions (np.ndarray): Shape (tags, tags), from row to column; -inf forbids.
        start (np.ndarray): Shape (tags,); -inf forbids.
        lengths (np.ndarray): Shape (sequences,): steps of each, above 0.

    Returns:
        np.ndarray: Shape (steps,).
    """
    if len(emissions) * transitions.size <= SMALL:
        return _viterbi_in_python(emissions, transitions, start, lengths)

    def run(segments: Segments) -> Tuple[np.ndarray, np.ndarray]:
        forward, backward = Schedule.forward(segments), Schedule.backward(segments)
        best = _best_scores(emissions, transitions, start, forward)
        disagreeing = forward.disagreeing(best, segments, float(np.finfo(best.dtype).eps) ** 0.5 / 4)
        if len(disagreeing):
            return disagreeing, disagreeing
        tags = _trace(columns(best, forward.slot[backward.step]), transitions, backward)
        return backward.by_step(tags), backward.disagreeing(tags, segments, 0)

    return run_in_segments(lengths, run)


def _viterbi_in_python(emissions: np.ndarray, transitions: np.ndarray, start: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """`viterbi` without arrays: for a short text, calling NumPy takes longer than what it computes."""
    rows, onto, begin = emissions.tolist(), transitions.T.tolist(), start.tolist()
    tags: List[int] = []
    for first, last in zip((np.cumsum(lengths) - lengths).tolist(), np.cumsum(lengths).tolist()):
        best = [score + emission for score, emission in zip(begin, rows[first])]
        pointers = []  # for each later step and tag, the tag before it
        for row in rows[first + 1 : last]:
            reach = [[score + step for score, step in zip(best, steps)] for steps in onto]
            best = [max(scores) for scores in reach]
            pointers.append([scores.index(top) for scores, top in zip(reach, best)])
            best = [score + emission for score, emission in zip(best, row)]
        path = [best.index(max(best))]
        for backward in reversed(pointers):
            path.append(backward[path[-1]])
        tags += reversed(path)
    return np.array(tags, dtype=np.int64)


def _best_scores(emissions: np.ndarray, transitions: np.ndarray, start: np.ndarray, schedule: Schedule) -> np.ndarray:
    """The score of the best path that ends at each tag and slot, minus that of tag 0. Shape (tags, slots)."""
    best = columns(np.ascontiguousarray(emissions.T), schedule.step)
    for t in range(len(schedule.offsets) - 1):
        low, high = schedule.offsets[t], schedule.offsets[t + 1]
        if t == 0:
            best[:, low:high] += np.where(schedule.at_boundary, start[:, None], np.zeros_like(start[:, None]))
        else:
            earlier = best[:, None, schedule.offsets[t - 1] : schedule.offsets[t - 1] + high - low]
            best[:, low:high] += (earlier + transitions[:, :, None]).max(0)
        best[:, low:high] -= best[0, low:high]
    return best


def _trace(best: np.ndarray, transitions: np.ndarray, schedule: Schedule) -> np.ndarray:
    """The best tags from back to front, shape (slots,), by the `_best_scores` in the slots of this schedule."""
    tags = np.empty(len(schedule.step), dtype=np.int64)
    for t in range(len(schedule.offsets) - 1):
        low, high = schedule.offsets[t], schedule.offsets[t + 1]
        reach = best[:, low:high]
        if t:
            earlier = schedule.offsets[t - 1]
            reach = reach + transitions[:, tags[earlier : earlier + high - low]]
        tags[low:high] = reach.argmax(0)
    return tags
