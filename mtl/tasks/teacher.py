"""A finished pipeline that teaches a head: for a while its predictions stand beside the gold annotation."""

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

import torch
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import load_model
from torch import Tensor

from mtl.data.docs import bare_doc
from mtl.errors import UserError, check_range
from mtl.registry import heads_of
from mtl.tasks.loss import Loss, distillation_loss

if TYPE_CHECKING:
    from mtl.tasks.component import Head

MAX_CACHED = 100_000  # documents whose predictions are kept
Key = Tuple[str, ...]


class Teacher:
    """Predictions of a pipeline's head, of any size, for a head of the same kind.

    Teacher annealing (Clark et al. 2019, BAM, https://arxiv.org/abs/1907.04829): training starts on the teacher's probabilities
    and shifts gradually to the gold annotation. Each document is shown to the teacher once. Where the labels or the tokens of
    the two differ, the head learns what the teacher decides instead of its probabilities.

    Args:
        pipeline (str): The teacher, a folder or package.
        head (Head): The student.
        steps (int): Updates of the head over which the teacher's share of the loss falls from 1 to 0.

    Raises:
        UserError: There is no such pipeline, or it has no head of that kind.
    """

    def __init__(self, pipeline: str, head: "Head", steps: int) -> None:
        check_range(f"initialize.components.{head.name}.teacher_steps", steps, 1)
        setting = f"initialize.components.{head.name}.teacher = {pipeline!r}"
        try:
            nlp = load_model(pipeline)
        except OSError as error:
            raise UserError(f"{setting}: no such pipeline") from error
        same_kind = [name for name, pipe in nlp.pipeline if type(pipe) is type(head)]
        if not same_kind:
            raise UserError(f"{setting}: it has no head of this kind; its components are {', '.join(nlp.pipe_names)}")
        self.component: Any = nlp.get_pipe(head.name if head.name in same_kind else same_kind[0])
        nlp.disable_pipes(*(name for name, pipe in heads_of(nlp).items() if pipe is not self.component))
        self.nlp: Any = nlp
        self.head, self.steps, self.steps_done = head, steps, 0
        self._references: Dict[Key, Doc] = {}
        self._logits: Dict[Key, List[Tensor]] = {}

    def next_share(self) -> float:
        """The teacher's share of the loss in this update. Frees the teacher once it is 0."""
        share = max(0.0, 1 - self.steps_done / self.steps)
        self.steps_done += 1
        if share == 0:
            self._references.clear()
            self._logits.clear()
            self.nlp = self.component = None
        return share

    def soft_loss(self, loss: Optional[Loss], rows: List[Tuple[int, Example]]) -> Optional[Loss]:
        """The loss against the teacher's probabilities; None where they do not fit the student's."""
        if loss is None or not loss.logits or self.component.labels != self.head.labels:
            return None
        return distillation_loss(loss, self.logits(rows))

    @torch.no_grad()
    def logits(self, rows: List[Tuple[int, Example]]) -> List[List[Tensor]]:
        """For each example its rows of each table of the teacher's logits; see `Loss.by_example`."""
        keys = [(*self._key(example), *self.head.task.signature(example.reference)) for _, example in rows]
        new = {key: example for key, (_, example) in zip(keys, rows) if key not in self._logits}
        if len(self._logits) + len(new) > MAX_CACHED:
            self._logits.clear()
            new = {key: example for key, (_, example) in zip(keys, rows)}
        for key, example in new.items():  # one at a time, so that the bits do not depend on the batch
            loss = self.component.loss([(0, example)], self.component.transformer.batch([example]), 0.0)
            self._logits[key] = [table.cpu() for table in loss.by_example(1)[0]] if loss is not None else []
        tables = max((len(self._logits[key]) for key in keys), default=0)
        return [self._logits[key] or [torch.zeros(0, 1)] * tables for key in keys]

    def rows(self, rows: List[Tuple[int, Example]]) -> List[Tuple[int, Example]]:
        """The same documents, with the teacher's predictions in place of the gold annotation."""
        keys = [self._key(example) for _, example in rows]
        new = {key: example for key, (_, example) in zip(keys, rows) if key not in self._references}
        docs = [self._input(example) for example in new.values()]
        for key, doc in zip(new, self.nlp.pipe(docs, batch_size=1)):  # one at a time, as above
            self._references[key] = self.component.as_reference(doc)
        return [(i, Example(example.predicted, self._references[key])) for key, (i, example) in zip(keys, rows)]

    def _key(self, example: Example) -> Key:
        prompts = sorted(prompt or "" for prompt in self.head.task.encodings(example.reference))
        return (*(token.text_with_ws for token in example.predicted), *prompts)

    def _input(self, example: Example) -> Doc:
        doc = bare_doc(example.predicted, self.nlp.vocab)
        self.head.task.copy_inputs(example.reference, doc)
        return doc


def make_teacher(pipeline: Optional[str], head: "Head", steps: int) -> Optional[Teacher]:
    """The teacher, None if no pipeline is named.

    Raises:
        UserError: As `Teacher`; only one of the two settings is given.
    """
    if (pipeline is None) != (steps == 0):
        raise UserError(
            f"[initialize.components.{head.name}] teacher and teacher_steps belong together: a pipeline, and the number of "
            f"updates over which its share of the loss falls to 0"
        )
    return None if pipeline is None else Teacher(pipeline, head, steps)
