"""`mtl_regressor`: sets `doc._.score`, a number."""

import math
import statistics
from typing import Any, Callable, Dict, Iterable, List, Optional

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Config, Model
from torch import nn

from mtl.data.docs import gold_number, set_gold_number
from mtl.encoder.batch import EncoderBatch
from mtl.errors import UserError
from mtl.heads.head import Head, Rows, vectors_of
from mtl.heads.loss import Loss
from mtl.heads.regressor.module import Regressor
from mtl.torch_model import torch_model

DEFAULT_CONFIG = """
[regressor]
key = "score"

[regressor.model]
@architectures = "mtl.Regressor.v1"

[regressor.model.encoder]
@architectures = "mtl.EncoderListener.v1"

[regressor.scorer]
@scorers = "mtl.regressor_scorer.v1"
"""
SCORE_WEIGHTS = {"score_spearman": 1.0, "score_pearson": None, "score_mae": None, "score_rmse": None}


def regressor_architecture(encoder: Model) -> Model:
    """Architecture `mtl.Regressor.v1`: a linear layer on the mean of the token vectors. encoder: `mtl.EncoderListener.v1`."""
    return torch_model("mtl-regressor", Regressor, [encoder])


def make_regressor(nlp: Language, name: str, model: Model, key: str, scorer: Optional[Callable]) -> "DocumentRegressor":
    """Factory `mtl_regressor`."""
    return DocumentRegressor(nlp.vocab, model, name, key=key, scorer=scorer)


def make_regressor_scorer() -> Callable:
    """`mtl.regressor_scorer.v1`: see `score_numbers`."""
    return score_numbers


def score_numbers(examples: Iterable[Example], *, key: str, **kwargs: Any) -> Dict[str, Any]:
    """Over the annotated examples: `KEY_mae`, `KEY_rmse`, `KEY_pearson`, `KEY_spearman`.

    The last two are None for fewer than two examples, and where all gold or all predicted numbers are the same.
    """
    from scipy.stats import spearmanr  # here, since spaCy imports every head when it loads any pipeline

    pairs = [(eg.predicted._.get(key), gold) for eg in examples if (gold := gold_number(eg.reference, key)) is not None]
    if not pairs:
        return {}
    predicted, gold = np.array(pairs, dtype=np.float64).T
    varied = len(pairs) > 1 and np.ptp(predicted) > 0 and np.ptp(gold) > 0
    return {
        f"{key}_mae": float(np.abs(predicted - gold).mean()),
        f"{key}_rmse": float(np.sqrt(((predicted - gold) ** 2).mean())),
        f"{key}_pearson": float(np.corrcoef(predicted, gold)[0, 1]) if varied else None,
        f"{key}_spearman": float(spearmanr(predicted, gold).statistic) if varied else None,
    }


class DocumentRegressor(Head):
    """A number a document.

    key (str): where it is: gold in `doc.spans[key].attrs["value"]`, predicted in `doc._.<key>`. Its scores are `KEY_spearman` and
    so on, which `training.score_weights` must name where the key is another than "score".
    """

    learned = ("labels", "width", "mean", "deviation")

    def __init__(self, vocab, model: Model, name: str = "regressor", *, key: str, scorer=None) -> None:
        if not key.isidentifier() or key in ("qa", "answers", "questions"):
            raise UserError(f"components.{name}.key = {key!r}: a free name of letters, digits and _ is needed, as in doc._.score")
        super().__init__(vocab, model, name, scorer=scorer, key=key, mean=0.0, deviation=1.0)
        self._numbers: List[float] = []  # of the whole corpus, announced before `initialize`
        if not Doc.has_extension(key):
            Doc.set_extension(key, default=None)

    def is_annotated(self, reference: Doc) -> bool:
        return gold_number(reference, self.cfg["key"]) is not None

    def add_label(self, label: str) -> int:
        """RAISES (UserError): it has no labels."""
        raise UserError(f"the head {self.name!r} gives a number, and has no labels")

    def announce(self, references: Iterable[Doc]) -> None:
        numbers = [gold_number(reference, self.cfg["key"]) for reference in references]
        self._numbers = [number for number in numbers if number is not None]
        self._annotated = len(self._numbers)

    def as_reference(self, doc: Doc) -> Doc:
        set_gold_number(doc, doc._.get(self.cfg["key"]), self.cfg["key"])
        return doc

    def initialize(self, get_examples, *, nlp=None, labels=None, teacher: Optional[str] = None, teacher_steps: int = 0) -> None:
        super().initialize(get_examples, nlp=nlp, labels=labels, teacher=teacher, teacher_steps=teacher_steps)
        sample = (gold_number(eg.reference, self.cfg["key"]) for eg in get_examples())
        numbers = self._numbers or [number for number in sample if number is not None]
        bad = [number for number in numbers if not math.isfinite(number)]
        if bad:
            raise UserError(f"the head {self.name!r}: {bad[0]} is annotated, which is no finite number")
        self.cfg["mean"] = statistics.fmean(numbers)
        self.cfg["deviation"] = statistics.pstdev(numbers) or 1.0

    def loss(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Loss]:
        """The mean squared error in standard deviations, which a constant guess has at 1."""
        predicted = self._placed()(batch.vectors([(i, None) for i, _ in rows]), drop)
        numbers = torch.tensor([gold_number(eg.reference, self.cfg["key"]) for _, eg in rows], dtype=torch.float64)
        gold = ((numbers - self.cfg["mean"]) / self.cfg["deviation"]).float().to(predicted.device)
        return Loss(nn.functional.mse_loss(predicted, gold), len(rows))

    def predict(self, docs: Iterable[Doc]) -> List[float]:
        docs = list(docs)
        if not docs:
            return []
        with torch.inference_mode():
            found = self._placed()(vectors_of(self, docs)).double().cpu() * self.cfg["deviation"] + self.cfg["mean"]
        return found.tolist()

    def set_annotations(self, docs: Iterable[Doc], predictions: List[float]) -> None:
        docs = list(docs)
        for doc, number in zip(docs, predictions):
            doc._.set(self.cfg["key"], number)
        self.transformer.release(docs, self.name)

    def score_settings(self) -> Dict[str, Any]:
        return {"key": self.cfg["key"]}


Language.factory(
    "mtl_regressor",
    assigns=["doc._.score"],
    default_config=Config().from_str(DEFAULT_CONFIG)["regressor"],
    default_score_weights=SCORE_WEIGHTS,
    func=make_regressor,
)
