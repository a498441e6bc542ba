"""`mtl_regressor`: sets `doc._.score`, a number."""

import math
import statistics
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Config, Model
from torch import nn

from mtl.encoder.batch import EncoderBatch
from mtl.errors import UserError
from mtl.extensions import install_extension
from mtl.tasks.component import Head
from mtl.tasks.loss import Loss
from mtl.tasks.outputs import Names, Outputs, SoftLoss, Targets
from mtl.tasks.regressor.module import Regressor
from mtl.tasks.regressor.task import RegressorTask, gold_number
from mtl.tasks.training import Rows
from mtl.torch_model import predicting, torch_model

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
    """Architecture `mtl.Regressor.v1`: a linear layer on the mean of the token vectors.

    Args:
        encoder (Model): `mtl.EncoderListener.v1`.
    """
    return torch_model("mtl-regressor", Regressor, [encoder])


def make_regressor(nlp: Language, name: str, model: Model, key: str, scorer: Optional[Callable]) -> "DocumentRegressor":
    """Factory `mtl_regressor`: see `DocumentRegressor`."""
    return DocumentRegressor(nlp.vocab, model, name, key=key, scorer=scorer)


def make_regressor_scorer() -> Callable:
    """Scorer `mtl.regressor_scorer.v1`: see `score_numbers`."""
    return score_numbers


def score_numbers(examples: Iterable[Example], *, key: str, **kwargs: Any) -> Dict[str, Any]:
    """Errors and correlations over the annotated examples.

    Args:
        examples (Iterable[Example]): Examples; those without a gold number do not count.
        key (str): Where the numbers are, see `DocumentRegressor`.

    Returns:
        Dict[str, Any]: `KEY_mae`, `KEY_rmse`, `KEY_pearson` and `KEY_spearman`. The last two are None for fewer than two
            examples, and if all gold or all predicted numbers are the same.
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
    """A number for each document.

    Args:
        key (str): Where the number is: gold in `doc.spans[key].attrs["value"]`, predicted in `doc._.<key>`. The scores are called
            `KEY_spearman` and so on; `training.score_weights` has to name them if the key is not "score".
    """

    learned_settings = ("labels", "width", "mean", "deviation")

    def __init__(self, vocab, model: Model, name: str = "regressor", *, key: str, scorer=None) -> None:
        if not key.isidentifier() or key in ("qa", "answers", "questions"):
            raise UserError(
                f"components.{name}.key = {key!r}: it must be a name of letters, digits and '_', as in doc._.score, and none of "
                f"qa, answers and questions"
            )
        super().__init__(vocab, model, name, task=RegressorTask(key), scorer=scorer, key=key, mean=0.0, deviation=1.0)
        self._numbers: List[float] = []  # of the whole corpus, from `scan`
        install_extension(Doc, key, f"components.{name}.key", default=None)

    def add_label(self, label: str) -> int:
        """Raises a `UserError`: the head has no labels."""
        raise UserError(f"the head {self.name!r} predicts a number, and has no labels")

    def places(self) -> Set[str]:
        return {f"doc._.{self.cfg['key']}"}

    def scan(self, references: Iterable[Doc]) -> None:
        numbers = [gold_number(reference, self.cfg["key"]) for reference in references]
        self._numbers = [number for number in numbers if number is not None]
        self._scanned_count = len(self._numbers)

    def initialize(self, get_examples, *, nlp=None, labels=None, teacher: Any = None) -> None:
        super().initialize(get_examples, nlp=nlp, labels=labels, teacher=teacher)
        sample = (gold_number(eg.reference, self.cfg["key"]) for eg in get_examples())
        numbers = self._numbers or [number for number in sample if number is not None]
        non_finite = [number for number in numbers if not math.isfinite(number)]
        if non_finite:
            raise UserError(f"the head {self.name!r}: a document is annotated with {non_finite[0]}, which is not a finite number")
        if not numbers and self.teacher is not None:
            self.cfg |= self.teacher.settings_of_first(("mean", "deviation"))
            return
        self.cfg["mean"] = statistics.fmean(numbers)
        self.cfg["deviation"] = statistics.pstdev(numbers) or 1.0

    def outputs(self, rows: Rows, batch: EncoderBatch, drop: float) -> Outputs:
        """The detail holds the numbers in standard deviations from the mean. There is no distribution."""
        predicted = self.training_module(batch.vectors([(i, None) for i, _ in rows]), drop)
        return Outputs((), np.arange(len(rows)), lambda example: Names([""], []), predicted)

    def gold_loss(self, outputs: Outputs, rows: Rows) -> Optional[Loss]:
        """The mean squared error in standard deviations: 1 for always predicting the mean."""
        numbers = torch.tensor([gold_number(eg.reference, self.cfg["key"]) for _, eg in rows], dtype=torch.float64)
        return Loss(self._squared_error(outputs.detail, numbers), len(rows), outputs)

    def _squared_error(self, predicted: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        gold = ((numbers - self.cfg["mean"]) / self.cfg["deviation"]).float().to(predicted.device)
        return nn.functional.mse_loss(predicted, gold)

    def targets(self, outputs: Outputs, example: int, temperature: float) -> Targets:
        """The number itself, as detail."""
        number = outputs.detail[example].double().cpu() * self.cfg["deviation"] + self.cfg["mean"]
        return Targets(outputs.names(example), [], number)

    def soft_loss(self, outputs: Outputs, targets: Sequence[Sequence[Targets]], temperature: float) -> Optional[SoftLoss]:
        """The mean squared error to the teacher's numbers. The temperature does not matter."""
        taught = [i for i, members in enumerate(targets) if members]
        if not taught:
            return None
        numbers = torch.stack([targets[i][0].detail for i in taught])  # type: ignore[misc]
        return SoftLoss(self._squared_error(outputs.detail[taught], numbers), len(taught))

    def predict(self, docs: Iterable[Doc]) -> List[float]:
        """The number of each Doc."""
        docs = list(docs)
        if not docs:
            return []
        module = self.prediction_module
        with predicting():
            numbers = module(self.vectors(docs)).double().cpu() * self.cfg["deviation"] + self.cfg["mean"]
        return numbers.tolist()

    def set_annotations(self, docs: Iterable[Doc], predictions: List[float]) -> None:
        """Write `doc._.<key>`."""
        docs = list(docs)
        for doc, number in zip(docs, predictions):
            doc._.set(self.cfg["key"], number)
        self.transformer.release(docs, self.name)

    def scorer_settings(self) -> Dict[str, Any]:
        return {"key": self.cfg["key"]}


Language.factory(
    "mtl_regressor",
    assigns=["doc._.score"],
    default_config=Config().from_str(DEFAULT_CONFIG)["regressor"],
    default_score_weights=SCORE_WEIGHTS,
    func=make_regressor,
)
