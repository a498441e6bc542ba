"""Any augmenter, with all annotation kept: spaCy's own rebuild a document without what other packages annotate."""

import logging
from typing import Any, Callable, Iterable, Iterator, Optional, Sequence, Set

from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example

from mtl.registry import Moved, heads_of

logger = logging.getLogger(__name__)
_reported: Set[str] = set()


class InPlace(Moved):
    """Every token is where it was."""

    def __init__(self, doc: Doc) -> None:
        self._doc = doc

    def span(self, span: Any, doc: Doc) -> Optional[Span]:
        return Span(doc, span.start, span.end, label=span.label, span_id=span.id)

    @property
    def origins(self) -> Sequence[int]:
        return range(len(self._doc))


def augmented(nlp: Language, example: Example, augmenter: Callable[[Language, Example], Iterable[Example]]) -> Iterator[Example]:
    """The examples that an augmenter makes of one, with the annotation of every head.

    Where it has kept the tokens, what it dropped is copied. Where it has not, that is said once for each head.
    """
    for changed in augmenter(nlp, example):
        if changed is not example:
            _carry_over(nlp, example.reference, changed.reference)
        yield changed


def _carry_over(nlp: Language, old: Doc, new: Doc) -> None:
    for name, head in heads_of(nlp).items():
        if not head.is_annotated(old) or head.is_annotated(new):
            continue
        if len(old) == len(new):
            head.task.transfer(old, new, InPlace(old))
        elif name not in _reported:
            _reported.add(name)
            logger.warning(
                "[corpora.train.augmenter] drops the annotation for %r from documents whose tokens it changes, such as %r",
                name, new.text[:60],
            )  # fmt: skip
