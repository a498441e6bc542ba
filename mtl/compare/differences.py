"""Scores of two ways to train, over the same seeds: the mean difference with its interval, and what may be said of it."""

import math
import statistics
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence

from scipy.stats import t as student_t

MEAN = "mean"  # over heads, in a run's scores


@dataclass(frozen=True)
class Difference:
    """Of one score, in points: `mean` of the second way minus the first, and the bounds of its 95% interval."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """No more than the interval allows."""
        return "helped" if self.low > 0 else "hurt" if self.high < 0 else "no difference seen"


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """first, second: scores (0 to 1) of runs that share a seed, and with it the training data and its order.

    The interval is Student's, over the seeds; it tells of other seeds, not of other test documents. With one seed it is endless.
    """
    differences = [100 * (after - before) for before, after in zip(first, second)]
    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return Difference(mean, -math.inf, math.inf)
    half = float(student_t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences) / math.sqrt(len(differences))
    return Difference(mean, mean - half, mean + half)


def with_mean(scores: Dict[str, float], weights: Dict[str, float]) -> Dict[str, float]:
    """The scores that have a weight, and their weighted mean, as `training.score_weights` chooses the best model."""
    kept = {key: scores[key] for key, weight in weights.items() if weight and scores.get(key) is not None}
    total = sum(weights[key] for key in kept)
    return {**kept, MEAN: sum(weights[key] * value for key, value in kept.items()) / total} if kept else {}


def difference_rows(first: List[Dict[str, float]], second: List[Dict[str, float]], names: Sequence[str]) -> List[Dict[str, Any]]:
    """A row for each score: the means of both under their `names`, in points, the difference, its interval and its verdict."""
    rows = []
    for key, found in differences(first, second).items():
        means = {name: 100 * statistics.fmean(run[key] for run in runs) for name, runs in zip(names, (first, second))}
        bounds = {"low": found.low, "high": found.high} if math.isfinite(found.low) else {"low": None, "high": None}
        rows.append({"score": key, **means, "difference": found.mean, **bounds, "verdict": found.verdict})
    return rows


def differences(first: List[Dict[str, float]], second: List[Dict[str, float]]) -> Dict[str, Difference]:
    """first, second: the runs' scores, in the order of their seeds. RETURNS: for each score that all of them have."""
    keys = [key for key in first[0] if all(key in scores for scores in (*first, *second))]
    return {key: paired_difference([run[key] for run in first], [run[key] for run in second]) for key in keys}
