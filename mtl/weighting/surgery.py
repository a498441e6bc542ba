"""Methods that resolve conflicts between the tasks' gradients on the encoder's parameters, from TorchJD."""

from typing import Any, Callable, Dict

from mtl.errors import UserError, check_range
from mtl.weighting.base import NormalizedWeighting
from mtl.weighting.gradients import Gramian


class SurgeryWeighting(NormalizedWeighting):
    """Weights that a TorchJD weighting computes from the inner products of the tasks' gradients.

    At the encoder's output, the gradients of documents that carry one task each touch different rows and never conflict, so these
    methods look at the parameters.

    Args:
        name (str): Registered name, for messages.
        make (Callable[[Any], Any]): From the module `torchjd.aggregation` to the TorchJD weighting.
        normalize (bool): Divide each task by its initial loss.

    Raises:
        UserError: TorchJD is not installed.
    """

    on_parameters = True

    def __init__(self, name: str, make: Callable[[Any], Any], normalize: bool) -> None:
        super().__init__(normalize)
        try:
            from torchjd import aggregation

            self.method = make(aggregation)
        except ImportError as error:
            raise UserError(f'{name} needs TorchJD ({error}): pip install "spacy-mtl[surgery]"') from None

    def __call__(self, gradients: Gramian, losses: Dict[str, float]) -> Dict[str, float]:
        self.observe(losses)
        tasks = [task for task, norm in gradients.norms.items() if norm > 0]
        weights = dict.fromkeys(gradients.tasks, 0.0)
        if tasks:
            scales = gradients.products.new_tensor([self.scale(task) for task in tasks])
            scaled_weights = self.method(gradients.of(tasks).products / scales.outer(scales))
            weights |= dict(zip(tasks, (scaled_weights / scales).tolist()))
        return weights


def pcgrad_weighting(normalize: bool = True) -> SurgeryWeighting:
    """Weighting `mtl.PCGradWeighting.v1`: each gradient is projected off those it conflicts with, in random order, then summed.

    Projecting conflicting gradients (Yu et al. 2020, https://arxiv.org/abs/2001.06782).

    Args:
        normalize (bool): Divide each task by its initial loss, as in `mtl.StaticWeighting.v1`.

    Raises:
        UserError: TorchJD is not installed.
    """
    return SurgeryWeighting("mtl.PCGradWeighting.v1", lambda jd: jd.PCGradWeighting(), normalize)


def cagrad_weighting(c: float = 0.5, normalize: bool = True) -> SurgeryWeighting:
    """Weighting `mtl.CAGradWeighting.v1`: near the mean gradient, the direction in which the worst-off task gains most.

    Conflict-averse gradient descent (Liu et al. 2021, https://arxiv.org/abs/2110.14048).

    Args:
        c (float): Distance from the mean gradient as a fraction of its norm, below 1.
        normalize (bool): Divide each task by its initial loss, as in `mtl.StaticWeighting.v1`.

    Raises:
        UserError: c is out of range, or TorchJD is not installed.
    """
    check_range("weighting.c", c, 0.0, 0.999)
    return SurgeryWeighting("mtl.CAGradWeighting.v1", lambda jd: jd.CAGradWeighting(c=c), normalize)


def upgrad_weighting(normalize: bool = True) -> SurgeryWeighting:
    """Weighting `mtl.UPGradWeighting.v1`: the mean of the gradients, each projected onto the cone in which no task is harmed.

    Unconflicting projection of gradients (Quinton and Rey 2024, https://arxiv.org/abs/2406.16232).

    Args:
        normalize (bool): Divide each task by its initial loss, as in `mtl.StaticWeighting.v1`.

    Raises:
        UserError: TorchJD is not installed.
    """
    return SurgeryWeighting("mtl.UPGradWeighting.v1", lambda jd: jd.UPGradWeighting(), normalize)


def imtlg_weighting() -> SurgeryWeighting:
    """Weighting `mtl.IMTLGWeighting.v1`: the sum whose projections on all tasks' gradients are equal.

    Impartial multi-task learning (Liu et al. 2021, https://openreview.net/forum?id=IMPnRXEWpvr), the part on shared weights. It
    does not depend on scales.

    Raises:
        UserError: TorchJD is not installed.
    """
    return SurgeryWeighting("mtl.IMTLGWeighting.v1", lambda jd: jd.IMTLGWeighting(), normalize=False)
