"""Methods that resolve conflicts between the tasks' gradients on the encoder's parameters, by way of TorchJD."""

from typing import Any, Callable, Dict

from mtl.balance.balance import Normalized
from mtl.encoder.gradients import Gramian
from mtl.errors import UserError, check_range


class SurgeryBalance(Normalized):
    """Weights that a TorchJD weighting finds from the inner products of the tasks' gradients.

    At the encoder's output the gradients of documents that carry one task each touch different rows, and never conflict; so these
    look at the parameters. name: for messages. make: makes the weighting.
    """

    on_parameters = True

    def __init__(self, name: str, make: Callable[[Any], Any], normalize: bool) -> None:
        super().__init__(normalize)
        try:
            from torchjd import aggregation

            self.weighting = make(aggregation)
        except ImportError as error:
            raise UserError(f'{name} needs TorchJD ({error}): pip install "spacy-mtl[surgery]"') from None

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        self.watch(losses)
        tasks = [task for task, norm in gradients.norms.items() if norm > 0]
        weights = dict.fromkeys(gradients.tasks, 0.0)
        if tasks:
            scales = gradients.products.new_tensor([self.scale(task) for task in tasks])
            found = self.weighting(gradients.of(tasks).products / scales.outer(scales))
            weights |= dict(zip(tasks, (found / scales).tolist()))
        return weights


def pcgrad_balance(normalize: bool = True) -> SurgeryBalance:
    """`mtl.PCGradBalance.v1`: each gradient is projected off those that it conflicts with, in random order, and all are added.

    Yu et al. 2020 (https://arxiv.org/abs/2001.06782). normalize: as `mtl.StaticBalance.v1`.
    """
    return SurgeryBalance("mtl.PCGradBalance.v1", lambda jd: jd.PCGradWeighting(), normalize)


def cagrad_balance(c: float = 0.5, normalize: bool = True) -> SurgeryBalance:
    """`mtl.CAGradBalance.v1`: near the mean gradient, the direction in which the task that gains least gains most.

    Liu et al. 2021 (https://arxiv.org/abs/2110.14048). c: how far from the mean, as a share of its norm, below 1. normalize: as
    `mtl.StaticBalance.v1`.
    """
    check_range("balance.c", c, 0.0, 0.999)
    return SurgeryBalance("mtl.CAGradBalance.v1", lambda jd: jd.CAGradWeighting(c=c), normalize)


def upgrad_balance(normalize: bool = True) -> SurgeryBalance:
    """`mtl.UPGradBalance.v1`: each gradient is projected onto the cone in which no task is harmed, and the mean is taken.

    Quinton and Rey 2024 (https://arxiv.org/abs/2406.16232). normalize: as `mtl.StaticBalance.v1`.
    """
    return SurgeryBalance("mtl.UPGradBalance.v1", lambda jd: jd.UPGradWeighting(), normalize)


def imtlg_balance() -> SurgeryBalance:
    """`mtl.IMTLGBalance.v1`: the sum whose projections on all tasks' gradients are equal.

    Liu et al. 2021 (https://openreview.net/forum?id=IMPnRXEWpvr), the part on shared weights. It does not depend on scales.
    """
    return SurgeryBalance("mtl.IMTLGBalance.v1", lambda jd: jd.IMTLGWeighting(), normalize=False)
