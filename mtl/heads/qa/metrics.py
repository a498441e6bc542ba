"""Exact match and token F1 as the SQuAD 2.0 script computes them, without numpy or spaCy.

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
    """Lower case, without punctuation and articles, white space folded."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(prediction: str, golds: Sequence[str]) -> float:
    """1.0 where the prediction equals one of the gold answers; no gold answer means "" is right."""
    return max(float(normalize(prediction) == normalize(gold)) for gold in golds or [""])


def token_f1(prediction: str, golds: Sequence[str]) -> float:
    """The best token F1 over the gold answers; where there is none, 1.0 for "" and else 0.0."""
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
    """The answering threshold with the highest mean F1, and that mean.

    rows: per question (margin, F1 of the best answer, whether it has a gold answer), where margin is the best answer's score
    minus the no-answer score. A question is answered where margin > threshold; unanswered it scores 1.0 where it has no
    gold answer. Between two margins the threshold is halfway; beyond the ends it is 1.0 away. Where every question has an
    answer, the threshold is `ALWAYS`.
    """
    if not rows:
        return 0.0, 0.0
    if all(answerable for _, _, answerable in rows):
        return ALWAYS, sum(f1 for _, f1, _ in rows) / len(rows)
    ordered = sorted((max(margin, ALWAYS), f1, answerable) for margin, f1, answerable in rows)  # a margin may be -inf
    total = sum(f1 for _, f1, _ in ordered)  # every question answered
    best, threshold = total, ordered[0][0] - 1.0
    for i, (margin, f1, answerable) in enumerate(ordered):
        total += (0.0 if answerable else 1.0) - f1
        following = ordered[i + 1][0] if i + 1 < len(ordered) else margin + 2.0
        if total > best and following > margin:
            best, threshold = total, (margin + following) / 2
    return threshold, best / len(ordered)


def score_answers(predictions: Dict[str, str], golds: Dict[str, List[str]]) -> Dict[str, float]:
    """Means over questions, in 0..1: EM and F1 over all, and over those with and without an answer."""
    rows = [
        (exact_match(predictions.get(id, ""), golds[id]), token_f1(predictions.get(id, ""), golds[id]), bool(golds[id]))
        for id in golds
    ]
    scores = {}
    for name, kept in (("", rows), ("_answered", [r for r in rows if r[2]]), ("_unanswerable", [r for r in rows if not r[2]])):
        if kept:
            scores[f"qa_em{name}"] = sum(r[0] for r in kept) / len(kept)
            scores[f"qa_f1{name}"] = sum(r[1] for r in kept) / len(kept)
    return scores
