"""The evaluations of a run: when they are due, which weights were best, and whether too much was forgotten. Pure torch."""

import math
from typing import Any, Callable, Dict, List, Optional

from torch import nn

from mtl.adapt.checkpoint import Checkpoints, Progress, load_weights

DOMAIN, GENERAL = "in-domain", "general"


class Watch:
    """measure: the losses now, in nats a masked wordpiece, by name of the text. often: evaluations in the encoder's training.

    most_forgotten: nats that the loss on general text may rise; 0: no limit. writes: whether this process keeps weights.
    probe: the scores of the tasks now; their mean then says which weights are best, not the loss.
    """

    def __init__(
        self, measure: Callable[[], Dict[str, float]], checkpoints: Checkpoints, often: int, most_forgotten: float, writes: bool,
        probe: Optional[Callable[[], Dict[str, float]]] = None,
    ) -> None:  # fmt: skip
        self.measure, self.checkpoints, self.often, self.writes, self.probe = measure, checkpoints, often, writes, probe
        self.most_forgotten = most_forgotten or math.inf

    def due(self, spent: float, progress: Progress) -> bool:
        """The first evaluation is from before the encoder's training, the last is at its end. spent: share of the budget."""
        return spent >= len(progress.evaluations) / self.often

    def evaluate(self, model: nn.Module, progress: Progress, keep: bool = True) -> Dict[str, Any]:
        """Measure, and keep the weights where they are the best so far.

        RETURNS: {"step", "losses"}, and with a probe "probe"; it is also in `progress`.

        keep: not where the run ends early, with an evaluation that the checkpoint it will go on from knows nothing of.
        """
        found: Dict[str, Any] = {"step": progress.step, "losses": self.measure()}
        if self.probe is not None:
            found["probe"] = self.probe()
        progress.evaluations.append(found)
        if self.writes and keep and self.best(progress) is found:
            self.checkpoints.save_best(model, progress)
        return found

    def diverged(self, progress: Progress) -> bool:
        return not all(map(math.isfinite, progress.evaluations[-1]["losses"].values()))

    def forgot(self, progress: Progress) -> bool:
        """Whether the last evaluation is over the budget."""
        return self._forgotten(progress.evaluations[-1], progress) > self.most_forgotten

    def best(self, progress: Progress) -> Dict[str, Any]:
        """Within the budget of forgetting, the evaluation of the best probe, else of the least in-domain loss.

        The first one is always within it.
        """
        within: List[Dict[str, Any]] = [
            found for found in progress.evaluations if self._forgotten(found, progress) <= self.most_forgotten
        ]
        if self.probe is not None:
            return max(within, key=lambda found: sum(found["probe"].values()))
        return min(within, key=lambda found: (math.isnan(found["losses"][DOMAIN]), found["losses"][DOMAIN]))

    def restore(self, model: nn.Module, progress: Progress) -> None:
        """Give the model the weights of the best evaluation."""
        if self.best(progress) is not progress.evaluations[-1]:
            load_weights(self.checkpoints.best, model)

    @staticmethod
    def _forgotten(found: Dict[str, Any], progress: Progress) -> float:
        return found["losses"].get(GENERAL, 0.0) - progress.evaluations[0]["losses"].get(GENERAL, 0.0)


def perplexities(losses: Dict[str, float]) -> Dict[str, float]:
    return {where: math.exp(loss) if loss < 700 else math.inf for where, loss in losses.items()}
