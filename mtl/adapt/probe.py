"""A frozen probe: how well linear models on the encoder's vectors solve the tasks, with the encoder left as it is."""

import random
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import torch
from spacy.tokens import Doc
from spacy.vocab import Vocab
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mtl.data.docs import docbin_files, gold_questions, read_docs
from mtl.encoder.component import tokens_of
from mtl.encoder.torch_encoder import Encoder, EncoderSettings, TokenVectors
from mtl.errors import UserError
from mtl.files import sha256_of

MOST_DOCUMENTS, MOST_TOKENS = 500, 20_000  # of a task, to learn from; an evaluation is to take seconds
Features = Tuple[np.ndarray, np.ndarray]  # (examples, width), (examples,) or (examples, labels)


class Probe:
    """Logistic regressions on frozen vectors, of documents (categories) and of tokens (entities, answers).

    train, dev: `.spacy` files or folders, annotated for any tasks. RAISES (UserError): scikit-learn is not installed; nothing is
    annotated in both.
    """

    def __init__(self, train: Sequence[str], dev: Sequence[str], tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> None:
        try:
            import sklearn  # noqa: F401
        except ImportError:
            raise UserError('a probe needs scikit-learn: pip install "spacy-mtl[probe]"') from None
        self.tokenizer = tokenizer
        files = [str(file) for path in (*train, *dev) for file in docbin_files(path)]
        self.key = " ".join(sha256_of(Path(file))[:12] for file in files)  # what it depends on
        vocab, chance = Vocab(), random.Random(seed)
        self.docs: Dict[str, Tuple[List[Doc], List[Doc]]] = {}
        parts = [[doc for path in paths for doc in read_docs(path, vocab) if len(doc)] for paths in (train, dev)]
        for task, annotated in _ANNOTATED.items():
            learned, scored = ([doc for doc in docs if annotated(doc)] for docs in parts)
            if learned and scored:
                few = [chance.sample(docs, min(len(docs), MOST_DOCUMENTS)) for docs in (learned, scored)]
                self.docs[task] = few[0], few[1]
        if not self.docs:
            raise UserError(
                f"probe: {', '.join(map(str, [*train, *dev]))}: no task is annotated in both, so there is none to probe"
            )

    def scores(self, model: PreTrainedModel) -> Dict[str, float]:
        """Task -> score on dev, from 0 to 1. model: the encoder, as `AutoModel` has it; its mode stays as it was."""
        training = model.training
        encoder = Encoder(model, self.tokenizer, EncoderSettings(device=str(next(model.parameters()).device)))
        try:
            return {task: _SCORE[task](*(_FEATURES[task](encoder, docs) for docs in both)) for task, both in self.docs.items()}
        finally:
            encoder.serving.forget()
            model.train(training)


def _of_documents(encoder: Encoder, docs: List[Doc]) -> Tuple[np.ndarray, List[Dict[str, float]]]:
    tokens = encoder.encode(tokens_of(docs))
    means = [own.mean(0) for own in tokens.vectors.split(tokens.lengths.tolist())]
    return torch.stack(means).cpu().numpy(), [dict(doc.cats) for doc in docs]


def _of_entities(encoder: Encoder, docs: List[Doc]) -> Features:
    return _some(encoder.encode(tokens_of(docs)), np.array([token.ent_type_ for doc in docs for token in doc]))


def _of_answers(encoder: Encoder, docs: List[Doc]) -> Features:
    pairs = [(doc, key, text) for doc in docs for key, text in gold_questions(doc).items()]
    inside = [np.zeros(len(doc), dtype=bool) for doc, _, _ in pairs]
    for own, (doc, key, _) in zip(inside, pairs):
        for span in doc.spans["qa"]:
            if span.id_ == key:
                own[span.start : span.end] = True
    read = {id(doc): tokens for doc, tokens in zip(docs, tokens_of(docs))}
    tokens = encoder.encode([read[id(doc)] for doc, _, _ in pairs], [text for _, _, text in pairs])
    return _some(tokens, np.concatenate(inside))


def _some(tokens: TokenVectors, labels: np.ndarray) -> Features:
    rows = np.flatnonzero(tokens.aligned)
    if len(rows) > MOST_TOKENS:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_TOKENS, replace=False))
    return tokens.vectors[torch.from_numpy(rows).to(tokens.vectors.device)].cpu().numpy(), labels[rows]


def _fitted(vectors: np.ndarray, labels: np.ndarray, **settings: Any) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200, **settings)).fit(vectors, labels)


def _score_categories(train: Any, dev: Any) -> float:
    """F1, the mean over the labels; of exclusive categories too each is a question of its own."""
    found = []
    for label in sorted({label for cats in train[1] for label in cats}):
        gold = [np.array([cats.get(label, 0.0) > 0.5 for cats in part[1]]) for part in (train, dev)]
        if gold[0].any() and not gold[0].all():
            found.append(_f1(gold[1], _fitted(train[0], gold[0]).predict(dev[0])))
    return float(np.mean(found)) if found else 0.0


def _score_entities(train: Features, dev: Features) -> float:
    if len(set(train[1])) < 2:
        return 0.0
    predicted, gold = _fitted(*train).predict(dev[0]), dev[1]
    right = int(((predicted == gold) & (gold != "")).sum())
    return 2 * right / max(int((predicted != "").sum() + (gold != "").sum()), 1)


def _score_answers(train: Features, dev: Features) -> float:
    """Average precision: how far up the tokens of answers are among all."""
    from sklearn.metrics import average_precision_score

    if len(set(train[1])) < 2 or not dev[1].any():
        return 0.0
    return float(average_precision_score(dev[1], _fitted(*train).predict_proba(dev[0])[:, 1]))


def _f1(gold: np.ndarray, predicted: np.ndarray) -> float:
    return 2 * int((gold & predicted).sum()) / max(int(gold.sum() + predicted.sum()), 1)


_ANNOTATED = {
    "categories": lambda doc: bool(doc.cats),
    "entities": lambda doc: doc.has_annotation("ENT_IOB"),
    "answers": lambda doc: bool(gold_questions(doc)),
}
_FEATURES: Dict[str, Any] = {"categories": _of_documents, "entities": _of_entities, "answers": _of_answers}
_SCORE: Dict[str, Any] = {"categories": _score_categories, "entities": _score_entities, "answers": _score_answers}
