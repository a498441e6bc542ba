"""Scores of span labels. Pure Python."""

from typing import Dict, Sequence, Set, Tuple


def score_labels(rows: Sequence[Tuple[Set, Set]]) -> Dict[str, float]:
    """Micro precision, recall and F1 over labels, and how often all labels of a span are right.

    Args:
        rows (Sequence[Tuple[Set, Set]]): For each span, or document, the gold and the predicted labels.

    Returns:
        Dict[str, float]: "f", "p", "r", "acc".
    """
    correct = sum(len(gold & predicted) for gold, predicted in rows)
    gold_count, predicted_count = sum(len(gold) for gold, _ in rows), sum(len(predicted) for _, predicted in rows)
    total = gold_count + predicted_count
    return {
        "f": 2 * correct / total if total else 1.0,
        "p": correct / predicted_count if predicted_count else float(not gold_count),
        "r": correct / gold_count if gold_count else 1.0,
        "acc": sum(gold == predicted for gold, predicted in rows) / len(rows) if rows else 1.0,
    }
