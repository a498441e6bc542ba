"""The state of a training step that several heads share: which batch is open, and whether an optimizer step is due. No spaCy.

spaCy calls `update` on every component in turn and `finish_update` either after each of them (`nlp.update(sgd=...)`) or after all
(the training loop), and never says which component is the last. So a step is taken lazily:

    IDLE  --open-->  OPEN  --request_step-->  STEP_DUE  --take_step-->  IDLE
                      |                          ^
                      +--close (accumulate)------+

`open` starts a batch; heads collect gradients on it; `request_step` notes the optimizer; `take_step` runs the one backward pass
through the encoder and steps all parameters together. Whoever reads the weights next calls `take_step`: the next batch, a
prediction, saving. `abandon` returns to IDLE from anywhere and leaves no gradient behind.
"""

from typing import Any, Callable, Dict, List, Optional, Sequence

from torch import nn

from mtl import distributed
from mtl.encoder.batch import EncoderBatch
from mtl.encoder.model.encoder import Encoder
from mtl.encoder.model.subwords import TokenizedText
from mtl.torch_model import Parameters, apply_optimizer, clear_gradients
from mtl.weighting.base import Weighting
from mtl.weighting.gradients import TaskGradients


class UpdateState:
    """One per transformer component.

    Args:
        weighting (Weighting): How much each task moves the encoder.
        cosines_at (str): Where the logged cosines between tasks are measured, "outputs" or "parameters".
        report_non_finite (Callable): Called with the task, what is not finite ("gradient"), and whether it came from this rank.
    """

    def __init__(self, weighting: Weighting, cosines_at: str, report_non_finite: Callable[[str, str, bool], None]) -> None:
        self.weighting, self.cosines_at, self.report_non_finite = weighting, cosines_at, report_non_finite
        self.batch: Optional[EncoderBatch] = None
        self.statistics: Dict[str, float] = {}  # of the last step: norms, weights, cosines
        self.encoder_loss = 0.0  # weighted sum of the tasks' losses since `pop_loss`
        self._optimizer: Any = None  # set while a step is requested
        self._learn_rate: Optional[float] = None  # at the request: the schedules may have advanced when the step is taken
        self._task_gradients = TaskGradients()  # at the parameters, since the last step; see `Weighting.on_parameters`
        self._task_losses: Dict[str, float] = {}

    @property
    def step_is_due(self) -> bool:
        """Whether the weights are behind: a step was requested and not taken yet."""
        return self._optimizer is not None

    def open(self, encoder: Encoder, docs: Sequence[TokenizedText], *, train: bool) -> EncoderBatch:
        """Start a batch, after the backward of the one before. A due step must have been taken."""
        self.close(encoder)
        self.batch = EncoderBatch(encoder, docs, train=train)
        return self.batch

    def request_step(self, optimizer: Any) -> None:
        """Note that the optimizer is to step once all heads are done. Several heads may ask; one step is taken."""
        self._optimizer, self._learn_rate = optimizer, getattr(optimizer, "learn_rate", None)

    def close(self, encoder: Encoder) -> None:
        """Run the backward of the open batch; its gradients accumulate on the parameters until the next step."""
        batch, self.batch = self.batch, None
        if batch is None or not batch.train:
            return
        on_this_rank = set(batch.gradients.non_finite())
        for task in batch.drop_non_finite():
            self.report_non_finite(task, "gradient", task in on_this_rank)
        trainable = trainable_parameters(encoder)
        if self.weighting.on_parameters:
            for task, loss in batch.losses.items():
                self._task_losses[task] = self._task_losses.get(task, 0.0) + loss
            batch.backward_by_task(trainable, self._task_gradients)
            return
        measured = trainable if self.cosines_at == "parameters" and distributed.world_size() == 1 else ()
        self.statistics = batch.backward(self.weighting, measured) or self.statistics
        self.encoder_loss += batch.total_loss

    def take_step(self, encoder: Encoder, parameters: Parameters) -> None:
        """Close the batch, and step the encoder and the heads together.

        Args:
            encoder (Encoder): The shared encoder.
            parameters (Parameters): Everything that is stepped.
        """
        optimizer, self._optimizer = self._optimizer, None
        self.close(encoder)
        self._combine_task_gradients(encoder)
        distributed.all_reduce_gradients([parameter for parameter, _ in parameters.values()])
        apply_optimizer(optimizer, parameters, self._learn_rate)
        encoder.inference.invalidate()

    def abandon(self, parameters: Parameters) -> None:
        """Drop the open batch, a due step and all gradients, after an error in the middle of a step."""
        self.batch, self._optimizer = None, None
        self._task_gradients, self._task_losses = TaskGradients(), {}
        clear_gradients(parameter for parameter, _ in parameters.values())

    def pop_loss(self) -> float:
        """The weighted sum of the tasks' losses since the last call."""
        loss, self.encoder_loss = self.encoder_loss, 0.0
        return loss

    def _combine_task_gradients(self, encoder: Encoder) -> None:
        """Weight what the tasks left at the parameters since the last step, for a weighting that looks there."""
        gradients, losses = self._task_gradients, self._task_losses
        self._task_gradients, self._task_losses = TaskGradients(), {}
        if not gradients.tasks and not losses:
            return
        trainable: List[nn.Parameter] = trainable_parameters(encoder)
        for task in losses if distributed.world_size() > 1 else ():
            gradients.parts[task] = distributed.all_reduce_parts(gradients.parts.get(task, {}), trainable)
        gramian = gradients.gramian()
        weights = self.weighting(gramian, losses)
        for i, gradient in gradients.combined(weights):
            trainable[i].grad = gradient if distributed.is_main() else None  # gradients are summed over ranks once more
        self.statistics = gramian.statistics(weights)
        self.encoder_loss += sum(weights[task] * loss for task, loss in losses.items() if task in weights)


def trainable_parameters(encoder: Encoder) -> List[nn.Parameter]:
    """The encoder's parameters that are not frozen."""
    return [parameter for parameter in encoder.model.parameters() if parameter.requires_grad]
