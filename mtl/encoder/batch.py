"""The encodings of one training step: made when a head asks, each task's gradient collected, then one backward. No spaCy."""

from contextlib import contextmanager
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mtl import distributed
from mtl.encoder.model.encoder import Encoder, TokenVectors
from mtl.encoder.model.masking import MaskSettings
from mtl.encoder.model.subwords import TokenizedText
from mtl.weighting.base import Weighting
from mtl.weighting.gradients import TaskGradients

Item = Tuple[int, Optional[str]]  # index of a document in the batch, and its prompt


class EncoderBatch:
    """The documents of one training step.

    Each item is encoded once, however many heads read it. Heads get detached vectors: `collect` takes a task's gradient off
    them, and `backward` sends the weighted sum through the encoder in one pass. So neither the order of the heads nor a head
    without gold changes the result.

    Args:
        encoder (Encoder): The shared encoder.
        docs (Sequence[TokenizedText]): The documents.
        train (bool): Encode with dropout and gradients. False for an encoder that is frozen in this step.
    """

    def __init__(self, encoder: Encoder, docs: Sequence[TokenizedText], *, train: bool) -> None:
        self.encoder, self.docs, self.train = encoder, docs, train
        self.outputs: List[TokenVectors] = []  # attached to the encoder's graph
        self.leaves: List[TokenVectors] = []  # the same values, detached
        self.gradients = TaskGradients()  # at the leaves
        self.losses: Dict[str, float] = {}
        self.counts: Dict[str, float] = {}  # what each task's loss is the mean over
        self.total_loss = 0.0  # the weighted sum, after `backward`
        self._places: Dict[Tuple[int, Item], Tuple[int, int]] = {}  # (pass, item) -> (output, row)
        self._pass = 0

    def vectors(self, items: Sequence[Item]) -> TokenVectors:
        """The vectors of the items, in order. Items that are not encoded yet are encoded together."""
        new_items = list(dict.fromkeys(item for item in items if (self._pass, item) not in self._places))
        for prompted in (False, True):
            self._encode([item for item in new_items if (item[1] is not None) == prompted])
        return TokenVectors.gather([(self.leaves[output], row) for output, row in (self._places[self._pass, i] for i in items)])

    def _encode(self, items: List[Item]) -> None:
        if not items:
            return
        docs = [self.docs[i] for i, _ in items]
        prompts = None if items[0][1] is None else [prompt or "" for _, prompt in items]
        before = sum(output.subwords for output in self.outputs)
        output = self.encoder.encode(docs, prompts, train=self.train, before=before)
        for row, item in enumerate(items):
            self._places[self._pass, item] = len(self.outputs), row
        self._add(output)

    @contextmanager
    def second_pass(self) -> Iterator[None]:
        """Inside the block, items are encoded once more, under different dropout, again once for all heads."""
        self._pass = 1
        try:
            yield
        finally:
            self._pass = 0

    def masked(self, items: Sequence[int], settings: MaskSettings) -> Tuple[Tensor, Tensor]:
        """Mask some words of the documents and encode the rest: see `Encoder.encode_masked`. The vectors are detached."""
        vectors, targets = self.encoder.encode_masked([self.docs[i] for i in items], settings)
        self._add(TokenVectors(vectors, vectors.new_zeros(0, vectors.shape[1]), np.zeros(0, np.int64), np.zeros(0, bool)))
        return self.leaves[-1].vectors, targets

    def _add(self, output: TokenVectors) -> None:
        self.outputs.append(output)
        # Clone if not training: a tensor made in inference mode may not enter a graph, not even as a constant.
        vectors, summaries = (
            (tensor.detach() if self.train else tensor.clone()).requires_grad_(self.train)
            for tensor in (output.vectors, output.summaries)
        )
        self.leaves.append(TokenVectors(vectors, summaries, output.lengths, output.aligned))

    def collect(self, task: str, loss: Optional[float], count: float = 0.0, scale: float = 1.0) -> None:
        """Take the gradient that `task` left on its vectors. Call it right after the task's own backward.

        Args:
            task (str): The component's name.
            loss (Optional[float]): Its loss. None for a stock component, which does not tell.
            count (float): What the loss is the mean over, on all ranks; 0 for the number of documents.
            scale (float): What to multiply the gradient by.
        """
        self.counts[task] = count or float(len(self.docs))
        if not self.train:
            return
        for i, leaf in enumerate(self._tensors(self.leaves)):
            if leaf.grad is not None:
                self.gradients.add(task, i, leaf.grad if scale == 1.0 else leaf.grad * scale)
                leaf.grad = None
        if loss is not None:
            self.losses[task] = self.losses.get(task, 0.0) + loss

    @property
    def has_gradients(self) -> bool:
        """Whether a task has left a gradient, on this rank or another."""
        return bool(self.gradients.tasks or self.losses)

    def drop_non_finite(self) -> List[str]:
        """Drop the tasks whose gradient is NaN or infinite on any rank, and return their names."""
        dropped = distributed.union_of_names(self.gradients.non_finite(), list(self.losses))
        for task in dropped:
            for kept in (self.gradients.parts, self.losses, self.counts):
                kept.pop(task, None)
        return dropped

    def backward(self, weighting: Weighting, measured: Sequence[nn.Parameter] = ()) -> Dict[str, float]:
        """Weight the tasks' gradients, send the sum through the encoder once, and free the graph.

        Args:
            weighting (Weighting): From the gradients and losses to the weight of each task.
            measured (Sequence[nn.Parameter]): Parameters to measure the cosines between tasks on. Each task's gradient then
                goes through the encoder on its own and the sum is formed at the parameters. At the encoder output the cosine
                of two tasks is 0 wherever every document carries one task, because they touch different rows.

        Returns:
            Dict[str, float]: See `Gramian.statistics`. Empty if no task left a gradient.
        """
        if not self.has_gradients or not self.train:
            self._clear()
            return {}
        gramian = self.gradients.gramian(None if distributed.world_size() == 1 else list(self.losses))
        distributed.all_reduce(gramian.products)  # each rank has other rows of the output
        weights = weighting(gramian, self.losses)
        self.total_loss = sum(weights[task] * loss for task, loss in self.losses.items() if task in weights)
        statistics = gramian.statistics(weights)
        if measured:
            return statistics | self._backward_measured(measured, weights)
        outputs = self._tensors(self.outputs)
        reached = [(outputs[i], grad) for i, grad in self.gradients.combined(weights) if outputs[i].requires_grad]
        if reached:  # nothing is, if every layer is frozen
            torch.autograd.backward([output for output, _ in reached], [grad for _, grad in reached])
        self._clear()
        return statistics

    def _backward_measured(self, parameters: Sequence[nn.Parameter], weights: Dict[str, float]) -> Dict[str, float]:
        """Backward task by task; returns the cosines between tasks at the parameters."""
        at_parameters = TaskGradients()
        self.backward_by_task(parameters, at_parameters)
        for i, gradient in at_parameters.combined(weights):
            accumulated = parameters[i].grad
            parameters[i].grad = gradient if accumulated is None else accumulated + gradient
        statistics = at_parameters.gramian().statistics(weights)
        return {key: value for key, value in statistics.items() if key.startswith("cosine/")}

    def backward_by_task(self, parameters: Sequence[nn.Parameter], into: TaskGradients) -> None:
        """Send each task's gradient through the encoder on its own, add what reaches the parameters, and free the graph.

        A task only goes back through the outputs it has read, so where every document carries one task this costs no more than
        one pass with all of them.
        """
        outputs = self._tensors(self.outputs)
        for task in self.gradients.tasks if self.train else ():
            reached = [(outputs[i], grad) for i, grad in self.gradients.parts[task].items() if outputs[i].requires_grad]
            if not reached:
                continue
            tensors, gradients = [output for output, _ in reached], [grad for _, grad in reached]
            by_parameter = torch.autograd.grad(tensors, parameters, gradients, retain_graph=True, allow_unused=True)
            for i, gradient in enumerate(by_parameter):
                if gradient is not None:
                    into.add(task, i, gradient)
        self._clear()

    @staticmethod
    def _tensors(parts: List[TokenVectors]) -> List[Tensor]:
        return [tensor for part in parts for tensor in (part.vectors, part.summaries)]

    def _clear(self) -> None:
        self.outputs, self.gradients, self.losses = [], TaskGradients(), {}
        self.leaves, self._places = [], {}
