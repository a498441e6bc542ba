"""Scores of two ways to train, over the same seeds: the mean difference, its confidence interval, and a verdict."""

import math
import statistics
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence

from scipy.stats import t as student_t

EARLY_LEVEL = 0.999  # of the interval that ends a comparison before its last seed
UNDECIDED = "no difference seen"
MEAN = "mean"  # over the heads, among a run's scores
Scores = Dict[str, float]  # of a run


@dataclass(frozen=True)
class Difference:
    """The difference in one score, in points.

    Args:
        mean (float): Mean of the second way minus the first.
        low (float): Lower bound of its confidence interval.
        high (float): Upper bound.
    """

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        return "helped" if self.low > 0 else "hurt" if self.high < 0 else UNDECIDED


def paired_difference(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> Difference:
    """The mean difference of paired scores, with Student's confidence interval.

    The interval is over seeds: it says what other seeds would give, not what other test documents would. With one seed it is
    unbounded.

    Args:
        first (Sequence[float]): Scores from 0 to 1.
        second (Sequence[float]): Scores of runs with the same seeds, and so with the same training data in the same order.
        level (float): Confidence of the interval.
    """
    points = [100 * (after - before) for before, after in zip(first, second)]
    mean = statistics.fmean(points)
    if len(points) < 2:
        return Difference(mean, -math.inf, math.inf)
    half = float(student_t.ppf((1 + level) / 2, len(points) - 1)) * statistics.stdev(points) / math.sqrt(len(points))
    return Difference(mean, mean - half, mean + half)


def with_mean(scores: Scores, weights: Dict[str, float]) -> Scores:
    """The scores that have a weight, and their weighted mean, by which `training.score_weights` selects the best model."""
    weighted = {key: scores[key] for key, weight in weights.items() if weight and scores.get(key) is not None}
    if not weighted:
        return {}
    total = sum(weights[key] for key in weighted)
    return {**weighted, MEAN: sum(weights[key] * value for key, value in weighted.items()) / total}


def difference_rows(first: List[Scores], second: List[Scores], names: Sequence[str]) -> List[Dict[str, Any]]:
    """The differences between two ways to train, as rows of a report.

    Args:
        first (List[Scores]): Scores of the first way's runs, in the order of their seeds.
        second (List[Scores]): Scores of the second way's runs.
        names (Sequence[str]): What the two ways are called.

    Returns:
        List[Dict[str, Any]]: A row for each score: "score"; the mean of each way in points, under its name; "difference"; "low"
        and "high", None if unbounded; "verdict"; "seeds".
    """
    rows = []
    for key, difference in differences(first, second).items():
        means = {name: 100 * statistics.fmean(run[key] for run in runs) for name, runs in zip(names, (first, second))}
        is_bounded = math.isfinite(difference.low)
        bounds = {"low": difference.low if is_bounded else None, "high": difference.high if is_bounded else None}
        row = {"score": key, **means, "difference": difference.mean, **bounds, "verdict": difference.verdict}
        rows.append({**row, "seeds": len(first)})
    return rows


def differences(first: List[Scores], second: List[Scores]) -> Dict[str, Difference]:
    """The difference in each score that all runs have. Both lists are in the order of the seeds."""
    keys = [key for key in first[0] if all(key in scores for scores in (*first, *second))]
    return {key: paired_difference([run[key] for run in first], [run[key] for run in second]) for key in keys}
