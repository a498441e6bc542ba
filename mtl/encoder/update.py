"""The state of a training step that several heads share: which batch is open, and whether an optimizer step is due. No spaCy.

spaCy calls `update` on every component in turn and `finish_update` either after each of them (`nlp.update(sgd=...)`) or after all
(the training loop), and never says which component is the last. So a step is taken lazily:

    IDLE  --open-->  OPEN  --request_step-->  STEP_DUE  --take_step-->  IDLE
                      |                          ^
                      +--close (accumulate)------+

A batch that is closed before a step is requested is one of several parts of a step (`accumulate_gradient`). Their sizes differ.
So each task's gradient and loss are means over all parts, weighted by what its loss is the mean over, as if they were one batch.
For that the tasks' gradients at the parameters are kept apart until the step.

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
        self.counts: Dict[str, float] = {}  # since the last step: what each task's losses were the means over
        self._task_gradients = TaskGradients()  # at the parameters, since the last step
        self._task_losses: Dict[str, float] = {}

    @property
    def step_is_due(self) -> bool:
        """Whether the weights are behind: a step was requested and not taken yet."""
        return self._optimizer is not None

    def open(self, encoder: Encoder, docs: Sequence[TokenizedText], *, train: bool) -> EncoderBatch:
        """Start a batch, after the backward of the one before. A due step must have been taken."""
        self.close(encoder, is_part=True)
        self.batch = EncoderBatch(encoder, docs, train=train)
        return self.batch

    def request_step(self, optimizer: Any) -> None:
        """Note that the optimizer is to step once all heads are done. Several heads may ask; one step is taken."""
        self._optimizer, self._learn_rate = optimizer, getattr(optimizer, "learn_rate", None)

    def share(self, task: str, count: float) -> float:
        """The weight of the open batch among all parts of the step so far, for a task."""
        return count / (self.counts.get(task, 0.0) + count)

    def close(self, encoder: Encoder, is_part: bool = False) -> None:
        """Run the backward of the open batch.

        Args:
            encoder (Encoder): The shared encoder.
            is_part (bool): Other parts of the same step follow.
        """
        batch, self.batch = self.batch, None
        if batch is None:
            return
        if not batch.train:  # the heads learn all the same
            self._count(batch)
            return
        on_this_rank = set(batch.gradients.non_finite())
        for task in batch.drop_non_finite():
            self.report_non_finite(task, "gradient", task in on_this_rank)
        trainable = trainable_parameters(encoder)
        if self.weighting.on_parameters or is_part or self.counts:
            self._average(batch, trainable)
            return
        measured = trainable if self.cosines_at == "parameters" and distributed.world_size() == 1 else ()
        self.statistics = batch.backward(self.weighting, measured) or self.statistics
        self.encoder_loss += batch.total_loss

    def _average(self, batch: EncoderBatch, trainable: List[nn.Parameter]) -> None:
        """Add a part of a step to the tasks' mean losses and gradients."""
        losses, gradients = dict(batch.losses), TaskGradients()
        batch.backward_by_task(trainable, gradients)
        for task, count in batch.counts.items():
            share = self.share(task, count)
            self._task_gradients.average(task, gradients.parts.get(task, {}), share)
            if task in losses:
                self._task_losses[task] = (1 - share) * self._task_losses.get(task, 0.0) + share * losses[task]
        self._count(batch)

    def _count(self, batch: EncoderBatch) -> None:
        for task, count in batch.counts.items():
            self.counts[task] = self.counts.get(task, 0.0) + count

    def leave_out(self, task: str) -> None:
        """Forget what a task has left in this step so far, since its head's gradient is dropped as a whole."""
        for kept in (self.counts, self._task_gradients.parts, self._task_losses):
            kept.pop(task, None)

    def take_step(self, encoder: Encoder, parameters: Parameters) -> None:
        """Close the batch, and step the encoder and the heads together.

        Args:
            encoder (Encoder): The shared encoder.
            parameters (Parameters): Everything that is stepped.
        """
        optimizer, self._optimizer = self._optimizer, None
        self.close(encoder)
        self.combine(encoder)
        distributed.all_reduce_gradients([parameter for parameter, _ in parameters.values()])
        apply_optimizer(optimizer, parameters, self._learn_rate)
        encoder.inference.invalidate()

    def abandon(self, parameters: Parameters) -> None:
        """Drop the open batch, a due step and all gradients, after an error in the middle of a step."""
        self.batch, self._optimizer, self.counts = None, None, {}
        self._task_gradients, self._task_losses = TaskGradients(), {}
        clear_gradients(parameter for parameter, _ in parameters.values())

    def pop_loss(self) -> float:
        """The weighted sum of the tasks' losses since the last call."""
        loss, self.encoder_loss = self.encoder_loss, 0.0
        return loss

    def combine(self, encoder: Encoder) -> None:
        """Weight what the tasks left at the parameters since the last step, and put the sum there."""
        gradients, losses = self._task_gradients, self._task_losses
        self._task_gradients, self._task_losses, self.counts = TaskGradients(), {}, {}
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
