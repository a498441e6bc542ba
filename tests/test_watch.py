"""A run of `mtl adapt` watches itself: its head's plateau, and a learning rate that is plainly wrong."""

import pytest
import torch
from torch import nn

from mtl.adaptation.checkpoint import Progress
from mtl.adaptation.phases import Phase, remaining_phases
from mtl.adaptation.progress_bar import expected_steps
from mtl.adaptation.run import Adaptation, adapt
from mtl.adaptation.settings import AdaptSettings
from mtl.adaptation.watch import LEAST_MOVE, PLATEAU, WINDOW, default_rate, is_plateau, judge_rate, weight_size

SMALL = {"block_size": 32, "batch_size": 4, "device": "cpu", "precision": "fp32", "validation_split": 0.1}


@pytest.fixture
def text_file(tmp_path):
    words = ["the", "pump", "failed", "on", "climb", "out", "of", "oslo"]
    path = tmp_path / "domain.txt"
    path.write_text("\n\n".join(" ".join([words[i % 8]] * 24) for i in range(40)))
    return str(path)


def test_a_plateau_is_a_window_of_losses_hardly_lower_than_the_one_before():
    falling = [5 - 2 * PLATEAU / WINDOW * step for step in range(4 * WINDOW)]
    assert not is_plateau(falling) and not is_plateau([5.0] * (2 * WINDOW - 1))
    assert is_plateau(falling + [falling[-1]] * 2 * WINDOW) and is_plateau([1.0] * WINDOW + [2.0] * WINDOW)


def test_only_the_head_ends_at_a_plateau_and_leaves_its_minutes_to_the_encoder(tiny):
    progress = Progress(losses=[5.0] * 2 * WINDOW, step=100, phase_step=100, seconds=30.0, phase_seconds=30.0)
    head, encoder = (Phase(name, [], 1e-3, 1000, 10.0) for name in ("head", "encoder"))
    assert head.is_over(progress) and not encoder.is_over(progress)
    settings = AdaptSettings(max_minutes=10.0, head_only_ratio=0.5, **SMALL)
    objective = Adaptation(tiny(), settings).objective
    phases = remaining_phases(objective, settings, progress, 1000)
    assert next(phases).minutes == pytest.approx(5.0)
    progress.head_steps = 100
    progress.enter("encoder")
    assert not progress.losses
    phase = next(phases)
    assert phase.minutes == pytest.approx(9.5) and phase.steps == 900
    progress.count(30.0, 4.0, 1e-3)
    (resumed,) = remaining_phases(objective, settings, progress, 1000)
    assert resumed.minutes == pytest.approx(9.5)


def test_a_head_that_learns_no_more_gives_its_steps_to_the_encoder(tiny, text_file, tmp_path, monkeypatch):
    monkeypatch.setattr("mtl.adaptation.watch.PLATEAU", 100.0)  # nothing falls that fast
    settings = AdaptSettings(max_steps=2 * WINDOW + 40, epochs=1000, head_only_ratio=0.9, **SMALL)
    report = adapt(tiny(), [text_file], tmp_path / "out", settings=settings)
    assert report["head_steps"] == 2 * WINDOW and report["steps"] == 2 * WINDOW + 40


def test_the_default_rate_is_inverse_to_the_width(tiny, text_file, tmp_path):
    assert default_rate(384) == pytest.approx(6e-4) and default_rate(768) == pytest.approx(3e-4)
    report = adapt(tiny(), [text_file], tmp_path / "out", settings=AdaptSettings(max_steps=3, **SMALL))
    assert report["settings"]["learning_rate"] == pytest.approx(default_rate(32))
    given = adapt(tiny(), [text_file], tmp_path / "given", settings=AdaptSettings(max_steps=3, learning_rate=0.01, **SMALL))
    assert given["settings"]["learning_rate"] == 0.01


def evaluations(*losses):
    return [{"losses": {"in-domain": loss}} for loss in losses]


def test_a_rate_that_is_plainly_wrong_is_said():
    size, text = 0.05, "in-domain"
    assert judge_rate(6e-4, 0.08, size, evaluations(7.0, 5.0, 4.0), text) == ""
    assert "learning-rate = 0.01 is too high: the loss on held-out text was 5.00 and rose to 7.50 nats. Try 0.003" in judge_rate(
        0.01, 1.0, size, evaluations(7.0, 5.0, 7.5), text
    )
    low = judge_rate(4e-5, 0.5 * LEAST_MOVE * size, size, evaluations(6.6, 6.5), text)
    assert "learning-rate = 4e-05 is too low for so short a run: no weight can have moved by more than 0.5%" in low
    assert "fell by 0.10 nats. Train longer, or try 0.0002" in low
    assert weight_size([nn.Parameter(torch.full((2, 2), 3.0)), nn.Parameter(torch.full((9,), 100.0))]) == pytest.approx(3.0)


@pytest.mark.parametrize("rate, words", [(1e-7, "is too low"), (0.5, "is too high"), (3e-3, "")])
def test_the_run_says_so_and_reports_it(tiny, text_file, tmp_path, rate, words):
    lines = []
    settings = AdaptSettings(epochs=30, learning_rate=rate, num_evaluations=6, **SMALL)
    report = adapt(tiny(), [text_file], tmp_path / "out", settings=settings, echo=lines.append)
    notes = [line for line in lines if line.startswith("note: learning-rate")]
    assert bool(notes) == bool(words) and words in report["advice"] and all(words in note for note in notes)


def test_minutes_that_end_a_run_end_its_warmup_too():
    """With time for a hundredth of the steps, the rate still reaches its peak."""
    settings = AdaptSettings(max_minutes=10.0, warmup_ratio=0.1, decay_ratio=0.5, **SMALL)
    phase = Phase("encoder", [], 1.0, 100_000, 10.0)
    rates = [phase.learning_rate(Progress(phase_step=step, phase_seconds=0.6 * step), settings) for step in range(1, 1000)]
    assert rates[49] == pytest.approx(0.5, abs=0.01) and rates[200] == 1.0 and rates[-1] == pytest.approx(0.0, abs=0.01)


def test_the_bar_of_a_run_limited_by_time_expects_what_fits_in_it():
    """In every phase: the first steps of a head are no reason to show thousands of hours."""
    progress = Progress(phase="head", step=10, seconds=5.0)
    assert expected_steps(progress, 14_000_000, 2.0) == 240
    assert expected_steps(progress, 100, 2.0) == 100  # the epochs end it sooner
    assert expected_steps(Progress(step=10, seconds=500.0), 100, 2.0) == 10
