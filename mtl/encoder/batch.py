"""One update's encodings: encoded when a head asks, each task's gradient collected, then one backward. Pure torch."""

from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mtl import ranks
from mtl.encoder.gradients import Gramian, TaskGradients
from mtl.encoder.masking import MaskSettings
from mtl.encoder.torch_encoder import Encoder, TokenVectors
from mtl.encoder.wordpieces import Tokens

Item = Tuple[int, Optional[str]]  # a document's index in the batch, and its prompt
# How the tasks' gradients lie to each other, and each task's loss -> the weight of each task.
Balance = Callable[[Gramian, Dict[str, float]], Dict[str, float]]


class EncoderBatch:
    """The documents of one update.

    Items are encoded once however many heads read them. What heads get is detached: `collect` takes a task's gradient off
    it, and `backward` sends the balanced sum through the encoder in a single pass. So the order of heads, or a head without
    gold, changes nothing.
    """

    def __init__(self, encoder: Encoder, docs: Sequence[Tokens], *, train: bool) -> None:
        self.encoder, self.docs, self.train = encoder, docs, train
        self.outputs: List[TokenVectors] = []  # with the encoder's graph
        self.leaves: List[TokenVectors] = []  # the same numbers, detached
        self.place: Dict[Tuple[int, Item], Tuple[int, int]] = {}  # pass, item -> output, item in it
        self.number = 0  # of the pass
        self.gradients = TaskGradients()  # whose parts are the leaf tensors
        self.losses: Dict[str, float] = {}
        self.total_loss = 0.0  # the weighted sum, once `backward` has run

    def vectors(self, items: Sequence[Item]) -> TokenVectors:
        """The vectors of the items, in their order; those not encoded yet are encoded now, together."""
        fresh = list(dict.fromkeys(item for item in items if (self.number, item) not in self.place))
        for prompted in (False, True):
            self._encode([item for item in fresh if (item[1] is not None) == prompted])
        places = [self.place[self.number, item] for item in items]
        parts: List[TokenVectors] = []
        start = 0
        for i in range(1, len(places) + 1):
            if i == len(places) or places[i][0] != places[start][0]:
                output = places[start][0]
                parts.append(self.leaves[output].select([row for _, row in places[start:i]]))
                start = i
        return TokenVectors.concatenate(parts)

    def _encode(self, items: List[Item]) -> None:
        if not items:
            return
        docs = [self.docs[i] for i, _ in items]
        prompts = None if items[0][1] is None else [prompt or "" for _, prompt in items]
        output = self.encoder.encode(docs, prompts, train=self.train)
        for row, item in enumerate(items):
            self.place[self.number, item] = len(self.outputs), row
        self._add(output)

    @contextmanager
    def again(self) -> Iterator[None]:
        """Items are encoded a second time, once for all heads, under another dropout."""
        self.number = 1
        try:
            yield
        finally:
            self.number = 0

    def masked(self, items: Sequence[int], settings: MaskSettings) -> Tuple[Tensor, Tensor]:
        """Hide some tokens of the documents: see `Encoder.encode_masked`, of which the vectors are detached as `vectors`' are."""
        vectors, targets = self.encoder.encode_masked([self.docs[i] for i in items], settings)
        self._add(TokenVectors(vectors, vectors.new_zeros(0, vectors.shape[1]), np.zeros(0, np.int64), np.zeros(0, bool)))
        return self.leaves[-1].vectors, targets

    def _add(self, output: TokenVectors) -> None:
        self.outputs.append(output)
        # Cloned, since what was made in inference mode may not take part in a graph, not even as a constant.
        leaf = [(t.detach() if self.train else t.clone()).requires_grad_(self.train) for t in (output.vectors, output.summaries)]
        self.leaves.append(TokenVectors(leaf[0], leaf[1], output.lengths, output.aligned))

    def collect(self, task: str, loss: Optional[float]) -> None:
        """Take the gradient that `task` left on what it was given. Call it right after the task's own backward.

        loss: its value; None where a stock component keeps it to itself.
        """
        if not self.train:
            return
        for i, leaf in enumerate(self._tensors(self.leaves)):
            if leaf.grad is not None:
                self.gradients.add(task, i, leaf.grad)
                leaf.grad = None
        if loss is not None:
            self.losses[task] = self.losses.get(task, 0.0) + loss

    @property
    def collected(self) -> bool:
        """Whether a task has left a gradient, here or in another process."""
        return bool(self.gradients.tasks or self.losses)

    def drop_not_finite(self) -> List[str]:
        """Forget the tasks whose gradient is no finite number, here or in another process; RETURNS them."""
        bad = ranks.anywhere(self.gradients.not_finite(), list(self.losses))
        for task in bad:
            self.gradients.parts.pop(task, None)
            self.losses.pop(task, None)
        return bad

    def backward(self, balance: Balance, measured: Sequence[nn.Parameter] = ()) -> Dict[str, float]:
        """Weigh the tasks' gradients, send their sum through the encoder once, and forget the graph.

        measured: parameters on which the tasks' cosines are wanted. Each task's gradient then goes through the encoder by itself,
        and the sum is made there; where every document carries one task, cosines at the output are 0, since the rows differ.
        RETURNS (dict): see `Gramian.statistics`; {} where no task left a gradient.
        """
        if not self.collected or not self.train:
            self._clear()
            return {}
        gramian = self.gradients.gramian(None if ranks.count() == 1 else list(self.losses))
        ranks.sum_tensor(gramian.products)  # each process has other rows of the outputs
        weights = balance(gramian, self.losses)
        self.total_loss = sum(weights[task] * loss for task, loss in self.losses.items() if task in weights)
        found = gramian.statistics(weights)
        if measured:
            on_parameters = TaskGradients()
            self.backward_by_task(measured, on_parameters)
            for i, gradient in on_parameters.combined(weights):
                own = measured[i].grad
                measured[i].grad = gradient if own is None else own + gradient
            there = on_parameters.gramian().statistics(weights)
            return found | {key: one for key, one in there.items() if key.startswith("cosine/")}
        outputs = self._tensors(self.outputs)
        reached = [(outputs[i], grad) for i, grad in self.gradients.combined(weights) if outputs[i].requires_grad]
        if reached:  # not where every layer is frozen
            torch.autograd.backward([output for output, _ in reached], [grad for _, grad in reached])
        self._clear()
        return found

    def backward_by_task(self, parameters: Sequence[nn.Parameter], into: TaskGradients) -> None:
        """Send each task's gradient through the encoder by itself, add what reaches the parameters, and forget the graph.

        A task goes back through the outputs that it has read alone; so where every document carries one task, this costs no more
        than one pass with all of them.
        """
        outputs = self._tensors(self.outputs)
        for task in self.gradients.tasks if self.train else ():
            own = [(outputs[i], grad) for i, grad in self.gradients.parts[task].items() if outputs[i].requires_grad]
            tensors, gradients = [output for output, _ in own], [grad for _, grad in own]
            found = torch.autograd.grad(tensors, parameters, gradients, retain_graph=True, allow_unused=True) if own else ()
            for i, gradient in enumerate(found):
                if gradient is not None:
                    into.add(task, i, gradient)
        self._clear()

    @staticmethod
    def _tensors(parts: List[TokenVectors]) -> List[Tensor]:
        return [tensor for part in parts for tensor in (part.vectors, part.summaries)]

    def _clear(self) -> None:
        self.outputs, self.gradients, self.losses = [], TaskGradients(), {}
        self.leaves, self.place = [], {}
