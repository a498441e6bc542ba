"""From which probability a label holds, where several may hold at once: one setting, or what is best for each label on dev."""

from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

DEFAULT = 0.5


class LabelThresholds:
    """Mixin of heads with the settings `threshold`, `tune_thresholds` and `tuned_thresholds`, the last of which is learned."""

    cfg: Dict[str, Any]
    labels: Tuple[str, ...]
    _in_training: bool

    @property
    def thresholds(self) -> Dict[str, float]:
        """For each label the threshold of the config, otherwise the tuned one, otherwise 0.5."""
        configured, tuned = self.cfg["threshold"], self.cfg["tuned_thresholds"] or {}
        return {label: tuned.get(label, DEFAULT) if configured is None else configured for label in self.labels}

    def tune_thresholds(self, scores: Sequence[Sequence[float]], gold: Sequence[Sequence[Optional[bool]]]) -> None:
        """In training, set the thresholds to the best ones.

        Args:
            scores (Sequence[Sequence[float]]): Probabilities, a row of all labels for each item.
            gold (Sequence[Sequence[Optional[bool]]]): Whether each label holds; None if that is not annotated.
        """
        if not self._in_training or not self.cfg["tune_thresholds"] or self.cfg["exclusive"]:
            return
        columns = zip(self.labels, zip(*scores), zip(*gold))
        self.cfg["tuned_thresholds"] = {
            label: best_threshold([(score, holds) for score, holds in zip(column, truth) if holds is not None])
            for label, column, truth in columns
        }

    def holding(self, rows: Iterable[Sequence[float]]) -> List[List[str]]:
        """For each item the labels that hold, by their probabilities: the likeliest one if they are exclusive."""
        labels, thresholds = self.labels, list(self.thresholds.values())
        if self.cfg["exclusive"]:
            return [[labels[int(np.argmax(row))]] for row in rows]
        return [[label for label, cut, score in zip(labels, thresholds, row) if score >= cut] for row in rows]


def best_threshold(rows: Sequence[Tuple[float, bool]]) -> float:
    """The threshold with the highest F1; of several the one nearest to 0.5, which it is too if there is nothing to find.

    Args:
        rows (Sequence[Tuple[float, bool]]): The probability of each item, and whether the label holds. It is predicted to hold
            from the threshold on, which lies halfway between two probabilities.
    """
    positives = sum(holds for _, holds in rows)
    ordered = sorted(rows, reverse=True)
    best = (0.0, 0.0, DEFAULT)  # F1, minus the distance from 0.5, threshold
    found = 0
    for i, (score, holds) in enumerate(ordered):
        found += holds
        is_last = i + 1 == len(ordered)
        following = 0.0 if is_last else ordered[i + 1][0]
        if following == score and not is_last:
            continue
        threshold = DEFAULT if following < DEFAULT <= score else (score + following) / 2
        f1 = 2 * found / (i + 1 + positives)
        best = max(best, (f1, -abs(threshold - DEFAULT), threshold))
    return best[2] if best[0] else DEFAULT
