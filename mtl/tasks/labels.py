"""The labels of a head: where they come from, and what happens when one is added."""

import logging
from collections import Counter
from typing import Any, Callable, Dict, Iterable, List, Optional, Set, Tuple

from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Model

from mtl.errors import UserError
from mtl.registry import Task
from mtl.tasks.teacher import Teacher

logger = logging.getLogger(__name__)


class HeadLabels:
    """Mixin of `Head`. Labels are found in the whole training corpus, where its reader shows it (`scan`), and in the sample that
    `initialize` gets.
    """

    name: str
    task: Task
    model: Model
    cfg: Dict[str, Any]
    _build: Callable[..., None]
    is_annotated: Callable[[Doc], bool]
    _scanned_labels: Set[str]
    _scanned_count: int
    _faults: Counter
    teacher: Optional[Teacher]

    @property
    def module(self) -> Any:
        raise NotImplementedError

    def labels_of(self, reference: Doc) -> Iterable[str]:
        """The labels that a document's gold annotation adds to the head."""
        return self.task.labels(reference)

    def check_labels(self) -> None:
        """Check the labels that initialization has found.

        Raises:
            UserError: The head cannot work with them.
        """

    @property
    def labels(self) -> Tuple[str, ...]:
        return tuple(self.cfg["labels"])

    @property
    def label_data(self) -> Optional[List[str]]:
        """What `spacy init labels` writes."""
        return self.cfg["labels"] or None

    def add_label(self, label: str) -> int:
        """Add a label. Trained weights of the other labels are kept.

        Returns:
            int: 1, or 0 if the label was there already.
        """
        if not isinstance(label, str) or not label:
            raise ValueError(f"{self.name}: a label must be a non-empty string, got {label!r}")
        if label in self.labels:
            return 0
        self.cfg["labels"].append(label)
        if self.model.shims:
            self._build(self.module)
        return 1

    def scan(self, references: Iterable[Doc]) -> None:
        """Look through the whole training corpus, before its first example.

        The corpus reader calls this, because spaCy initializes components from the first 100 examples of a streamed corpus.
        """
        self._scanned_labels, self._scanned_count = self._labels_in(references)

    def _labels_in(self, references: Iterable[Doc]) -> Tuple[Set[str], int]:
        """The labels in the annotated documents, and how many documents are annotated. Faults are counted."""
        labels: Set[str] = set()
        annotated = 0
        self._faults = Counter()
        for reference in references:
            self._faults.update(self.task.faults(reference))
            if self.is_annotated(reference):
                annotated += 1
                labels.update(self.labels_of(reference))
        return labels, annotated

    def _warn_of_faults(self) -> None:
        """Say what of the gold annotation is not learned from, before training."""
        for what, count in self._faults.items():
            logger.warning("the head %r: the training data has %s (%d)", self.name, what, count)

    def _find_labels(self, get_examples: Callable[[], Iterable[Example]]) -> None:
        if not callable(get_examples):
            raise ValueError(f"{self.name}: get_examples must be a function, got {type(get_examples).__name__}")
        examples = list(get_examples())
        for example in examples:
            if not isinstance(example, Example):
                raise ValueError(f"{self.name}: get_examples must give Examples, got {type(example).__name__}")
        scanned_faults = self._faults
        labels, annotated = self._labels_in(example.reference for example in examples)
        self._faults |= scanned_faults  # the sample is part of what was scanned
        self._warn_of_faults()
        if self.teacher is not None and not labels | self._scanned_labels:
            labels |= self.teacher.labels
        is_taught = self.teacher is not None and self.teacher.takes_unlabelled
        if not annotated and not self._scanned_count and not self.cfg["labels"] and not is_taught:
            raise UserError(
                f"the head {self.name!r} has no training data: no document of [corpora.train] is annotated for it. "
                f"Add some, or remove the head from [nlp.pipeline]"
            )
        for label in sorted(labels | self._scanned_labels):
            self.add_label(label)
