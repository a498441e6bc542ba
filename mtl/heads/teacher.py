"""A finished pipeline that teaches a head: its predictions stand beside the gold annotation, for a while."""

from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

import torch
from spacy.attrs import POS, TAG
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import load_model
from torch import Tensor

from mtl.data.docs import bare_doc, gold_questions
from mtl.errors import UserError, check_range

if TYPE_CHECKING:
    from mtl.heads.head import Head

MOST_KEPT = 100_000  # documents whose logits are kept


class Teacher:
    """Predictions of one head of a pipeline, of any size, as references for the same kind of head.

    Teacher annealing (Clark et al. 2019, BAM, https://arxiv.org/abs/1907.04829): the teacher's share of the loss falls from 1 to
    0 over `steps` updates of the head, and the gold annotation's rises. Each document is shown to the teacher once. The head
    learns the probabilities that the teacher gives to every category, tag, and start and end of an answer (of an entity tagger
    those of its emissions, without its transitions); where the two have not the same labels, or cut a text otherwise, what the
    teacher decides, without the entities it is not sure of.
    """

    def __init__(self, pipeline: str, head: "Head", steps: int) -> None:
        """RAISES (UserError): no such pipeline, or it has no head of that kind."""
        check_range(f"initialize.components.{head.name}.teacher_steps", steps, 1)
        try:
            self.nlp = load_model(pipeline)
        except OSError as error:
            raise UserError(f"initialize.components.{head.name}.teacher = {pipeline!r}: no such pipeline") from error
        same = [name for name, pipe in self.nlp.pipeline if type(pipe) is type(head)]
        if not same:
            raise UserError(
                f"initialize.components.{head.name}.teacher = {pipeline!r}: it has no head of this kind; its components are "
                f"{', '.join(self.nlp.pipe_names)}"
            )
        self.component: Head = self.nlp.get_pipe(head.name if head.name in same else same[0])  # type: ignore[assignment]
        readers = [name for name, pipe in self.nlp.pipeline if hasattr(pipe, "reads_encoder") and pipe is not self.component]
        self.nlp.disable_pipes(*readers)
        self.steps, self.done, self.head = steps, 0, head
        self._known: Dict[Tuple[str, ...], Doc] = {}
        self._logits: Dict[Tuple[str, ...], List[Tensor]] = {}

    def forget(self) -> None:
        """Nothing of it is needed any more."""
        self._known.clear()
        self._logits.clear()
        if hasattr(self, "nlp"):
            del self.nlp, self.component

    @property
    def share(self) -> float:
        """Of the loss, now."""
        return max(0.0, 1 - self.done / self.steps)

    @property
    def speaks_alike(self) -> bool:
        """Whether its labels are the head's, in the same order, so that logits can be compared."""
        return self.component.labels == self.head.labels

    @torch.no_grad()
    def logits(self, rows: List[Tuple[int, Example]]) -> List[List[Tensor]]:
        """For each example its rows of each table of the teacher's logits; see `Loss.by_example`."""
        keys = [(*self._key(example), *self._rows_of(example.reference)) for _, example in rows]
        fresh = {key: example for key, (_, example) in zip(keys, rows) if key not in self._logits}
        if len(self._logits) + len(fresh) > MOST_KEPT:
            self._logits.clear()
            fresh = {key: example for key, (_, example) in zip(keys, rows)}
        for key, example in fresh.items():  # one by one: the same to the bit, whatever else is in a batch
            found = self.component.loss([(0, example)], self.component.transformer.batch([example]), 0.0)
            self._logits[key] = [table.cpu() for table in found.by_example(1)[0]] if found is not None else []
        tables = max((len(self._logits[key]) for key in keys), default=0)
        return [self._logits[key] or [torch.zeros(0, 1)] * tables for key in keys]

    def rows(self, rows: List[Tuple[int, Example]]) -> List[Tuple[int, Example]]:
        """The same documents, with the teacher's predictions in place of the gold annotation."""
        keys = [self._key(example) for _, example in rows]
        fresh = {key: example for key, (_, example) in zip(keys, rows) if key not in self._known}
        docs = [self._doc(example) for example in fresh.values()]
        for key, doc in zip(fresh, self.nlp.pipe(docs, batch_size=1)):  # the same to the bit, whatever else is in a batch
            self._known[key] = self.component.as_reference(doc)
        return [(i, Example(example.predicted, self._known[key])) for key, (i, example) in zip(keys, rows)]

    def _key(self, example: Example) -> Tuple[str, ...]:
        return (*(token.text_with_ws for token in example.predicted), *gold_questions(example.reference).values())

    @staticmethod
    def _rows_of(reference: Doc) -> Tuple[str, ...]:
        """What decides which documents, tokens and questions a loss is of."""
        answers = [(span.start, span.end) for span in reference.spans["qa"]] if "qa" in reference.spans else []
        return str(sorted(reference.cats.items())), reference.to_array([TAG, POS]).tobytes().hex(), str(answers)

    def _doc(self, example: Example) -> Doc:
        doc = bare_doc(example.predicted, self.nlp.vocab)
        if questions := gold_questions(example.reference):
            doc._.questions = questions
        return doc


def make_teacher(pipeline: Optional[str], head: "Head", steps: int) -> Optional[Teacher]:
    """None where no pipeline is named. RAISES (UserError): as `Teacher`; only one of the two settings is given."""
    if (pipeline is None) != (steps == 0):
        raise UserError(
            f"[initialize.components.{head.name}] teacher and teacher_steps go together: a pipeline, and the updates over which "
            f"its share falls to 0"
        )
    return None if pipeline is None else Teacher(pipeline, head, steps)
