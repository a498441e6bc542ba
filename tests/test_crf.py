"""The CRF against enumeration of all tag sequences."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mtl.tasks.ner import segments
from mtl.tasks.ner import viterbi as decoding
from mtl.tasks.ner.bio import bio_constraints, bio_spans, bio_tags
from mtl.tasks.ner.crf import crf_loss, forward_backward, span_probabilities
from mtl.tasks.ner.segments import Schedule, Segments
from mtl.tasks.ner.viterbi import viterbi

LABELS = 2
TAGS = 1 + 2 * LABELS
MAY_FOLLOW, MAY_START = bio_constraints(LABELS)


def random_case(seed, lengths):
    rng = np.random.default_rng(seed)
    emissions = rng.normal(size=(sum(lengths), TAGS)) * 2
    transitions = np.where(MAY_FOLLOW, rng.normal(size=(TAGS, TAGS)), -np.inf)
    start = np.where(MAY_START, rng.normal(size=TAGS), -np.inf)
    return emissions, transitions, start, np.array(lengths)


def enumerate_paths(emissions, transitions, start):
    """All tag sequences of one short sequence with their scores."""
    paths = list(product(range(TAGS), repeat=len(emissions)))
    scores = []
    for path in paths:
        score = start[path[0]] + sum(emissions[t, tag] for t, tag in enumerate(path))
        scores.append(score + sum(transitions[a, b] for a, b in zip(path, path[1:])))
    return np.array(paths), np.array(scores)


def split(array, lengths):
    return np.split(array, np.cumsum(lengths)[:-1])


LENGTHS = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), LENGTHS)
def test_viterbi_is_the_best_of_all_sequences_and_valid(seed, lengths):
    emissions, transitions, start, sizes = random_case(seed, lengths)
    for small in (0, 10**9):  # with arrays, and without
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decoding, "SMALL", small)
            tags = viterbi(emissions, transitions, start, sizes)
        assert tags.dtype == np.int64
        for sequence, best in zip(split(emissions, sizes), split(tags, sizes)):
            paths, scores = enumerate_paths(sequence, transitions, start)
            assert tuple(paths[scores.argmax()]) == tuple(best)
            assert MAY_START[best[0]] and all(MAY_FOLLOW[a, b] for a, b in zip(best, best[1:]))


def test_without_arrays_the_tags_are_the_same_as_with_them(monkeypatch):
    emissions, transitions, start, sizes = random_case(3, [40, 1, 7, 90])
    arguments = [array.astype(np.float32) for array in (emissions, transitions, start)]
    monkeypatch.setattr(decoding, "SMALL", 0)
    expected = viterbi(*arguments, sizes)
    monkeypatch.setattr(decoding, "SMALL", 10**9)
    assert (viterbi(*arguments, sizes) == expected).all()
    assert len(viterbi(emissions[:0], transitions, start, sizes[:0])) == 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), LENGTHS)
def test_loss_and_gradient_equal_enumeration(seed, lengths):
    emissions, transitions, start, sizes = random_case(seed, lengths)
    rng = np.random.default_rng(seed)
    allowed = np.ones((len(emissions), TAGS), dtype=bool)
    gold = viterbi(
        rng.normal(size=emissions.shape), np.where(MAY_FOLLOW, 0.0, -np.inf), np.where(MAY_START, 0.0, -np.inf), sizes
    )  # a valid sequence
    known = rng.random(len(emissions)) < 0.6
    allowed[known] = np.eye(TAGS, dtype=bool)[gold[known]]
    tensors = [torch.tensor(array, requires_grad=True) for array in (emissions, transitions, start)]
    crf_loss(*tensors, allowed, sizes).backward()
    enumerated = [torch.tensor(array, requires_grad=True) for array in (emissions, transitions, start)]
    total = 0.0
    for sequence, permitted in zip(enumerated[0].split(sizes.tolist()), split(allowed, sizes)):
        paths, _ = enumerate_paths(sequence.detach().numpy(), transitions, start)
        rows = torch.tensor(paths)
        scores = enumerated[2][rows[:, 0]] + sequence[torch.arange(len(sequence)), rows].sum(1)
        scores = scores + enumerated[1][rows[:, :-1], rows[:, 1:]].sum(1)
        fits = torch.tensor([all(permitted[t, tag] for t, tag in enumerate(path)) for path in paths])
        total = total + torch.logsumexp(scores, 0) - torch.logsumexp(scores[fits & scores.isfinite()], 0)
    expected = total / len(emissions)
    assert crf_loss(*[t.detach() for t in tensors], allowed, sizes).item() == pytest.approx(expected.item(), abs=1e-9)
    expected.backward()
    for actual, reference in zip(tensors, enumerated):
        torch.testing.assert_close(actual.grad, torch.nan_to_num(reference.grad), atol=1e-8, rtol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), LENGTHS)
def test_span_probabilities_equal_enumeration(seed, lengths):
    emissions, transitions, start, sizes = random_case(seed, lengths)
    tags = viterbi(emissions, transitions, start, sizes)
    spans = bio_spans(tags)
    probabilities = span_probabilities(emissions, transitions, start, sizes, spans)
    offsets = np.cumsum(sizes) - sizes
    for first, after, label, probability in zip(*spans, probabilities):
        sequence = int(np.searchsorted(offsets, first, side="right") - 1)
        low, size = offsets[sequence], sizes[sequence]
        paths, scores = enumerate_paths(emissions[low : low + size], transitions, start)
        weights = np.exp(scores - scores.max())
        s, e, begin = first - low, after - low, 1 + 2 * label
        same = (paths[:, s] == begin) & (paths[:, s + 1 : e] == begin + 1).all(1)
        if e < size:
            same &= paths[:, e] != begin + 1
        assert probability == pytest.approx(weights[same].sum() / weights.sum(), abs=1e-9)


def test_nothing_annotated_teaches_nothing():
    emissions, transitions, start, sizes = random_case(0, [3, 2])
    tensors = [torch.tensor(array, requires_grad=True) for array in (emissions, transitions, start)]
    loss = crf_loss(*tensors, np.ones((5, TAGS), dtype=bool), sizes)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert all(tensor.grad.abs().max() < 1e-12 for tensor in tensors)


def test_extreme_scores_stay_finite():
    emissions, transitions, start, sizes = random_case(1, [50, 3])
    tensors = [torch.tensor(array, requires_grad=True) for array in (emissions * 100, transitions, start)]
    allowed = np.zeros((53, TAGS), dtype=bool)
    allowed[:, 0] = True
    loss = crf_loss(*tensors, allowed, sizes)
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(t.grad).all() for t in tensors)


def test_every_step_is_run_once_in_time_order():
    cut = Segments.cut(np.array([2, 5, 1, 5]), np.zeros(4, dtype=bool))
    for schedule, sign in ((Schedule.forward(cut), 1), (Schedule.backward(cut), -1)):
        assert sorted(schedule.step) == sorted(schedule.step[schedule.slot]) == list(range(13))
        assert schedule.at_boundary.all() and not len(schedule.edges)
        assert np.diff(schedule.offsets).tolist() == [4, 3, 2, 2, 2]
        second, first = schedule.step[schedule.offsets[1] : schedule.offsets[2]], schedule.step[: schedule.offsets[1]]
        assert (second == first[:3] + sign).all()
        assert (schedule.by_step(schedule.step) == np.arange(13)).all()


def test_a_long_sequence_is_cut_into_segments_with_a_warm_up(monkeypatch):
    monkeypatch.setattr(segments, "SEGMENT", 4)
    monkeypatch.setattr(segments, "WARM_UP", 2)
    cut = Segments.cut(np.array([3, 10, 6]), np.zeros(3, dtype=bool))
    assert list(zip(cut.first, cut.last)) == [(0, 3), (3, 7), (7, 11), (11, 13), (13, 19)]
    assert len(Segments.cut(np.array([3, 10, 6]), np.ones(3, dtype=bool)).first) == 3
    forward, backward = Schedule.forward(cut), Schedule.backward(cut)
    assert sorted(forward.step[forward.edges]) == [6, 10] and sorted(backward.step[backward.edges]) == [7, 11]
    for schedule, warm_up in ((forward, [5, 6, 9, 10]), (backward, [7, 8, 11, 12])):
        assert sorted(np.delete(schedule.step, schedule.slot)) == warm_up
        assert (schedule.step[schedule.slot] == np.arange(19)).all()


@settings(deadline=None, max_examples=60)
@example(110, [1, 3, 9], 8.0)  # a tag of tiny probability where two segments meet, and the only one that can continue
@given(st.integers(0, 10_000), st.lists(st.integers(1, 40), min_size=1, max_size=4), st.sampled_from([0.01, 1.0, 8.0]))
def test_segments_give_the_results_of_whole_sequences(seed, lengths, sharpness):
    """With weak emissions the past is not forgotten in the warm-up, and the sequence must be run whole."""
    emissions, transitions, start, sizes = random_case(seed, lengths)
    emissions = emissions * sharpness
    tags = viterbi(emissions, transitions, start, sizes)
    whole = forward_backward(emissions, transitions, start, sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "SMALL", 0)
        patch.setattr(segments, "SEGMENT", 5)
        patch.setattr(segments, "WARM_UP", 3)
        assert (viterbi(emissions, transitions, start, sizes) == tags).all()
        cut = forward_backward(emissions, transitions, start, sizes)
    for name in ("log_z", "unary", "pair"):
        np.testing.assert_allclose(getattr(cut, name), getattr(whole, name), atol=1e-7)


def test_sequences_whose_segments_disagree_are_run_whole(monkeypatch):
    """A chain that never forgets: only the first step tells which of two tags it is."""
    monkeypatch.setattr(decoding, "SMALL", 0)
    monkeypatch.setattr(segments, "SEGMENT", 8)
    monkeypatch.setattr(segments, "WARM_UP", 4)
    cuts = []
    real = Segments.cut.__func__
    monkeypatch.setattr(Segments, "cut", classmethod(lambda cls, *args: cuts.append(real(cls, *args)) or cuts[-1]))
    emissions = np.zeros((40, TAGS))
    emissions[0, 3] = 0.1
    transitions = np.where(np.eye(TAGS, dtype=bool) & MAY_FOLLOW, 0.0, -1e4)
    transitions = np.where(MAY_FOLLOW, transitions, -np.inf)
    start = np.where(MAY_START, 0.0, -np.inf)
    transitions[[3, 1], [4, 2]] = 0.0
    sizes = np.array([40])
    tags = viterbi(emissions, transitions, start, sizes)
    assert tags[0] == 3 and len(cuts) == 2 and len(cuts[0].first) == 5 and len(cuts[1].first) == 1
    probability = forward_backward(emissions, transitions, start, sizes).unary
    assert probability[39, 3:].sum() > probability[39, 1:3].sum()


def test_tags_and_the_spans_they_stand_for():
    assert bio_tags(["X", "Y"]) == ["O", "B-X", "I-X", "B-Y", "I-Y"]
    starts, ends, labels = bio_spans(np.array([1, 2, 1, 0, 3, 4, 3]))
    assert list(zip(starts, ends, labels)) == [(0, 2, 0), (2, 3, 0), (4, 6, 1), (6, 7, 1)]


def test_viterbi_on_a_very_long_sequence_in_single_precision():
    """Scores are kept relative: a running sum over 50,000 steps would leave single precision no digits for the choice."""
    rng = np.random.default_rng(0)
    emissions = rng.normal(size=(50_000, TAGS)) * 0.05 + 100
    _, transitions, start, _ = random_case(0, [3])
    sizes = np.array([len(emissions)])
    transitions, start = transitions * 0.05, start * 0.05
    best = viterbi(emissions, transitions, start, sizes)
    single = viterbi(*(array.astype(np.float32) for array in (emissions, transitions, start)), sizes)
    assert (best != single).mean() < 1e-3
