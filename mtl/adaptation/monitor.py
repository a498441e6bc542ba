"""The evaluations of a run: when they are due, which weights are best, and whether too much was forgotten. Pure torch."""

import math
from typing import Any, Callable, Dict, List

from torch import nn

from mtl import distributed
from mtl.adaptation.checkpoint import AdaptCheckpoints, Progress, load_weights

DOMAIN, GENERAL = "in-domain", "general"


class Monitor:
    """Evaluates a run and keeps the best weights.

    Args:
        measure (Callable[[], Dict[str, Any]]): Evaluates the model as it is now: "losses", in nats per masked subword, by name of
            the text, and with a probe "probe", scores by task. The mean of the latter, if there is one, decides which weights are
            best, instead of the in-domain loss.
        checkpoints (AdaptCheckpoints): Where the best weights are kept.
        num_evaluations (int): Evaluations while the encoder is trained.
        max_forgetting (float): Nats that the loss on general text may rise; 0 for no limit.
    """

    def __init__(
        self, measure: Callable[[], Dict[str, Any]], checkpoints: AdaptCheckpoints, num_evaluations: int, max_forgetting: float
    ) -> None:
        self.measure, self.checkpoints, self.num_evaluations = measure, checkpoints, num_evaluations
        self.max_forgetting = max_forgetting or math.inf

    def due(self, spent: float, progress: Progress) -> bool:
        """Whether an evaluation is due. The first is from before the encoder's training, the last from its end.

        Args:
            spent (float): Fraction of the encoder's budget that is spent.
            progress (Progress): Holds the evaluations so far.
        """
        return spent >= len(progress.evaluations) / self.num_evaluations

    def evaluate(self, model: nn.Module, progress: Progress, keep_best: bool = True) -> Dict[str, Any]:
        """Evaluate, and keep the weights if they are the best so far.

        Args:
            model (nn.Module): The model.
            progress (Progress): Gets the evaluation too.
            keep_best (bool): Whether to keep them. Not if the run ends early: the checkpoint it resumes from does not have this
                evaluation.

        Returns:
            Dict[str, Any]: "step", "seconds" of training so far, "losses", and with a probe "probe".
        """
        evaluation: Dict[str, Any] = {"step": progress.step, "seconds": round(progress.seconds, 1), **self.measure()}
        progress.evaluations.append(evaluation)
        if distributed.is_main() and keep_best and self.best(progress) is evaluation:
            self.checkpoints.save_best(model)
        return evaluation

    def diverged(self, progress: Progress) -> bool:
        """Whether a loss of the last evaluation is NaN or infinite."""
        return not all(map(math.isfinite, progress.evaluations[-1]["losses"].values()))

    def forgot(self, progress: Progress) -> bool:
        """Whether the loss on general text has risen too far at the last evaluation."""
        return _forgetting(progress.evaluations[-1], progress) > self.max_forgetting

    def best(self, progress: Progress) -> Dict[str, Any]:
        """Of the evaluations within the limit of forgetting, the one with the best probe, else with the lowest in-domain loss.

        The first evaluation is always within the limit.
        """
        candidates: List[Dict[str, Any]] = [
            evaluation
            for evaluation in progress.evaluations
            if not _forgetting(evaluation, progress) > self.max_forgetting  # so that a NaN, which `diverged` reports, is let in
        ]
        if "probe" in candidates[0]:
            return max(candidates, key=lambda evaluation: sum(evaluation["probe"].values()))
        return min(candidates, key=lambda evaluation: _nan_last(evaluation["losses"][DOMAIN]))

    def restore(self, model: nn.Module, progress: Progress) -> None:
        """Give the model the weights of the best evaluation."""
        if self.best(progress) is not progress.evaluations[-1]:
            load_weights(self.checkpoints.best, model)


def _forgetting(evaluation: Dict[str, Any], progress: Progress) -> float:
    """Nats that the loss on general text has risen since the first evaluation."""
    return evaluation["losses"].get(GENERAL, 0.0) - progress.evaluations[0]["losses"].get(GENERAL, 0.0)


def _nan_last(loss: float) -> tuple:
    return math.isnan(loss), loss


def perplexities(losses: Dict[str, float]) -> Dict[str, float]:
    """The perplexity of each loss; infinite if a float cannot hold it."""
    return {text: math.exp(loss) if loss < 700 else math.inf for text, loss in losses.items()}
