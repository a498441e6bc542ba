"""Baselines without an encoder, such as a bag of words or a dictionary."""

from pathlib import Path
from typing import Dict, Sequence

from spacy.vocab import Vocab

from mtl.data.docs import read_docs
from mtl.registry import registered_tasks


def baselines_without_encoder(train: Sequence[Path], test: Sequence[Path]) -> Dict[str, float]:
    """Score a simple model of every task.

    Args:
        train (Sequence[Path]): Converted files or folders to learn from.
        test (Sequence[Path]): Converted files or folders to score on.

    Returns:
        Dict[str, float]: Score key -> its value, as `mtl evaluate` measures it.

    Raises:
        UserError: scikit-learn is not installed.
    """
    vocab = Vocab()
    train_docs, test_docs = ([doc for path in paths for doc in read_docs(path, vocab)] for paths in (train, test))
    scores: Dict[str, float] = {}
    for task in registered_tasks():
        scores |= task.simple_model(train_docs, test_docs)
    return scores
