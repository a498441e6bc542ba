"""Exact match and token F1 as the SQuAD 2.0 script computes them. Pure Python.

Source: https://rajpurkar.github.io/SQuAD-explorer, evaluate-v2.0.py.
"""

import re
import string
from collections import Counter
from typing import Dict, List, Sequence, Tuple

ARTICLES = re.compile(r"\b(a|an|the)\b")
ALWAYS = -1e9  # a threshold below any margin
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(text: str) -> str:
    """The text in lower case, without punctuation and articles, and with single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1.0 if the prediction equals one of the gold answers, otherwise 0.0. Without gold answers, "" is right."""
    return max(float(normalize(prediction) == normalize(gold)) for gold in golds or [""])


def token_f1(prediction: str, golds: Sequence[str]) -> float:
    """The best token F1 over the gold answers. Without gold answers, 1.0 for "" and otherwise 0.0."""
    return max(_f1(normalize(prediction).split(), normalize(gold).split()) for gold in golds or [""])


def _f1(prediction: List[str], gold: List[str]) -> float:
    if not prediction or not gold:
        return float(prediction == gold)
    common = sum((Counter(prediction) & Counter(gold)).values())
    if not common:
        return 0.0
    precision, recall = common / len(prediction), common / len(gold)
    return 2 * precision * recall / (precision + recall)


def best_threshold(rows: Sequence[Tuple[float, float, bool]]) -> Tuple[float, float]:
    """The threshold with the highest mean F1 if a question is answered where its margin exceeds it.

    An unanswered question scores 1.0 if it has no gold answer, otherwise 0.0. Between two margins the threshold is halfway;
    beyond the lowest and the highest it is 1.0 away. If every question has an answer, it is `ALWAYS`.

    Args:
        rows (Sequence[Tuple[float, float, bool]]): For each question its margin (the best answer's logit minus that of no
            answer), the F1 of the best answer, and whether it has a gold answer.

    Returns:
        Tuple[float, float]: The threshold, and the mean F1 at it.
    """
    if not rows:
        return 0.0, 0.0
    if all(answerable for _, _, answerable in rows):
        return ALWAYS, sum(f1 for _, f1, _ in rows) / len(rows)
    ordered = sorted((max(margin, ALWAYS), f1, answerable) for margin, f1, answerable in rows)  # a margin may be -inf
    total = sum(f1 for _, f1, _ in ordered)  # if every question is answered
    best, threshold = total, ordered[0][0] - 1.0
    for i, (margin, f1, answerable) in enumerate(ordered):
        total += (0.0 if answerable else 1.0) - f1
        following = ordered[i + 1][0] if i + 1 < len(ordered) else margin + 2.0
        if total > best and following > margin:
            best, threshold = total, (margin + following) / 2
    return threshold, best / len(ordered)


def score_answers(predictions: Dict[str, str], golds: Dict[str, List[str]]) -> Dict[str, float]:
    """Exact match and F1, as means over questions, from 0 to 1.

    Args:
        predictions (Dict[str, str]): Answers by question; "" or no entry for no answer.
        golds (Dict[str, List[str]]): Gold answers by question, none if the text does not answer.

    Returns:
        Dict[str, float]: `qa_em` and `qa_f1` over all questions; with the suffixes `_answered` and `_unanswerable` over those
            with and without a gold answer.
    """
    rows = [
        (exact_match(predictions.get(id, ""), golds[id]), token_f1(predictions.get(id, ""), golds[id]), bool(golds[id]))
        for id in golds
    ]
    answered, unanswerable = [row for row in rows if row[2]], [row for row in rows if not row[2]]
    scores = {}
    for suffix, subset in (("", rows), ("_answered", answered), ("_unanswerable", unanswerable)):
        if subset:
            scores[f"qa_em{suffix}"] = sum(row[0] for row in subset) / len(subset)
            scores[f"qa_f1{suffix}"] = sum(row[1] for row in subset) / len(subset)
    return scores
