"""A frozen probe: how well linear models on the encoder's vectors solve the tasks, without training the encoder."""

import random
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from spacy.tokens import Doc
from spacy.vocab import Vocab
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mtl.data.docs import docbin_files, read_docs
from mtl.encoder.model.encoder import Encoder, EncoderSettings
from mtl.encoder.texts import tokenized_texts
from mtl.errors import UserError
from mtl.files import sha256_of
from mtl.registry import ProbeItem, Task, registered_tasks

MAX_DOCUMENTS, MAX_TOKENS = 500, 20_000  # of a task; an evaluation is to take seconds


class Features(NamedTuple):
    """What a linear model learns from.

    Args:
        vectors (np.ndarray): Shape (rows, width).
        targets (List[Any]): For each row a dict of labels, a number, a label, or a bool: see `ProbeItem`.
    """

    vectors: np.ndarray
    targets: List[Any]


class Probe:
    """Linear models on frozen vectors of documents or tokens, one for each annotated task.

    Args:
        train (Sequence[str]): `.spacy` files or folders to learn from.
        dev (Sequence[str]): What is scored on.
        tokenizer (PreTrainedTokenizerFast): The encoder's tokenizer.
        seed (int): Of the sample of documents.

    Raises:
        UserError: scikit-learn is not installed; no task is annotated in both.
    """

    def __init__(self, train: Sequence[str], dev: Sequence[str], tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> None:
        try:
            import sklearn  # noqa: F401
        except ImportError:
            raise UserError('a probe needs scikit-learn: pip install "spacy-mtl[probe]"') from None
        self.tokenizer = tokenizer
        files = [str(file) for path in (*train, *dev) for file in docbin_files(path)]
        self.key = " ".join(sha256_of(Path(file))[:12] for file in files)  # identifies the data in a checkpoint
        vocab, rng = Vocab(), random.Random(seed)
        splits = [[doc for path in paths for doc in read_docs(path, vocab) if len(doc)] for paths in (train, dev)]
        self.docs: Dict[Task, Tuple[List[Doc], List[Doc]]] = {}
        for task in registered_tasks():
            if task.is_auxiliary:
                continue
            annotated = [[doc for doc in docs if task.is_annotated(doc) and task.probe_items(doc)] for docs in splits]
            if all(annotated):
                samples = [rng.sample(docs, min(len(docs), MAX_DOCUMENTS)) for docs in annotated]
                self.docs[task] = samples[0], samples[1]
        if not self.docs:
            raise UserError(
                f"probe: {', '.join(map(str, [*train, *dev]))}: no task is annotated in both, so there is nothing to probe"
            )

    def scores(self, model: PreTrainedModel) -> Dict[str, float]:
        """Score each task.

        Args:
            model (PreTrainedModel): The encoder, as `AutoModel` loads it. Its mode stays as it was.

        Returns:
            Dict[str, float]: What a task's annotation is called -> score on dev, from 0 to 1.
        """
        was_training = model.training
        encoder = Encoder(model, self.tokenizer, EncoderSettings(device=str(next(model.parameters()).device)))
        try:
            return {
                task.title: probe_score(*(_features(encoder, task, docs) for docs in splits))
                for task, splits in self.docs.items()
            }
        finally:
            encoder.inference.invalidate()
            model.train(was_training)


def _features(encoder: Encoder, task: Task, docs: List[Doc]) -> Features:
    """The vectors and targets of a task's items."""
    texts = dict(zip(map(id, docs), tokenized_texts(docs)))
    pairs = [(texts[id(doc)], item) for doc in docs for item in task.probe_items(doc)]
    items: List[ProbeItem] = [item for _, item in pairs]
    prompts = None if items[0].prompt is None else [item.prompt or "" for item in items]
    tokens = encoder.encode([text for text, _ in pairs], prompts)
    if not isinstance(items[0].targets, list):
        means = [vectors.mean(0) for vectors in tokens.vectors.split(tokens.lengths.tolist())]
        return Features(torch.stack(means).cpu().numpy(), [item.targets for item in items])
    rows = np.flatnonzero(tokens.aligned)
    if len(rows) > MAX_TOKENS:
        rows = np.sort(np.random.default_rng(0).choice(rows, MAX_TOKENS, replace=False))
    targets = [target for item in items for target in item.targets]
    vectors = tokens.vectors[torch.from_numpy(rows).to(tokens.vectors.device)]
    return Features(vectors.cpu().numpy(), [targets[row] for row in rows.tolist()])


def probe_score(train: Features, dev: Features) -> float:
    """Fit a linear model and score it, by the type of the targets: dicts, bools, labels or numbers."""
    target = train.targets[0]
    if isinstance(target, dict):
        return _macro_f1(train, dev)
    if isinstance(target, bool):
        return _average_precision(train, dev)
    return _label_f1(train, dev) if isinstance(target, str) else _rank_correlation(train, dev)


def _fitted(vectors: np.ndarray, targets: Any) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200)).fit(vectors, targets)


def _macro_f1(train: Features, dev: Features) -> float:
    """F1, the mean over the labels; exclusive labels, too, are predicted one by one."""
    scores = []
    for label in sorted({label for held in train.targets for label in held}):
        gold = [np.array([bool(held.get(label)) for held in part.targets]) for part in (train, dev)]
        if gold[0].any() and not gold[0].all():
            scores.append(_f1(gold[1], _fitted(train.vectors, gold[0]).predict(dev.vectors)))
    return float(np.mean(scores)) if scores else 0.0


def _label_f1(train: Features, dev: Features) -> float:
    """Micro F1 over tokens, "" being no label."""
    if len(set(train.targets)) < 2:
        return 0.0
    predicted, gold = _fitted(train.vectors, np.array(train.targets)).predict(dev.vectors), np.array(dev.targets)
    correct = int(((predicted == gold) & (gold != "")).sum())
    return 2 * correct / max(int((predicted != "").sum() + (gold != "").sum()), 1)


def _average_precision(train: Features, dev: Features) -> float:
    """How far up the positive tokens rank among all."""
    from sklearn.metrics import average_precision_score

    if len(set(train.targets)) < 2 or not any(dev.targets):
        return 0.0
    model = _fitted(train.vectors, np.array(train.targets))
    return float(average_precision_score(np.array(dev.targets), model.predict_proba(dev.vectors)[:, 1]))


def _rank_correlation(train: Features, dev: Features) -> float:
    """Spearman's correlation of a ridge regression, 0 if it is negative or undefined."""
    from scipy.stats import spearmanr
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(set(dev.targets)) < 2 or len(set(train.targets)) < 2:
        return 0.0
    model = make_pipeline(StandardScaler(), Ridge(alpha=10.0)).fit(train.vectors, np.array(train.targets))
    return max(0.0, float(np.nan_to_num(spearmanr(model.predict(dev.vectors), dev.targets).statistic)))


def _f1(gold: np.ndarray, predicted: np.ndarray) -> float:
    return 2 * int((gold & predicted).sum()) / max(int(gold.sum() + predicted.sum()), 1)
