"""What all augmenters share: which documents they change, and what becomes of the annotation."""

import random
from typing import ClassVar, Collection, Iterable, Iterator, List, Optional

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from mtl.augment.rewrite import annotation_names, annotations_of
from mtl.errors import UserError, check_range
from mtl.sampling.corpus import AugmentExample

SECTION = "[corpora.train.augmenter]"


class Augmenter:
    """Base class. A subclass returns a changed Doc on which all annotation that it carries is valid.

    The changed document takes the place of the original, as in spaCy. If it has lost a kind of annotation, it comes after the
    original instead.

    Args:
        level (float): Fraction of the documents that are changed.
        seed (int): The same documents in the same order are changed in the same way.

    Attributes:
        stream (str): Names the stream of random numbers, which then survives a renaming of the class. By default its name.
    """

    stream: ClassVar[str] = ""

    def __init__(self, level: float, seed: int) -> None:
        check_range(f"{SECTION} level", level, 0.0, 1.0)
        self.level, self.seed = level, seed
        self.rng = random.Random(f"{self.stream or type(self).__name__}/{seed}")

    def changed(self, nlp: Language, reference: Doc) -> Optional[Doc]:
        """The changed document; None if nothing in it can be changed."""
        raise NotImplementedError

    def __call__(self, nlp: Language, example: Example) -> Iterator[Example]:
        if self.rng.random() >= self.level:
            yield example
            return
        reference = self.changed(nlp, example.reference)
        if reference is None or not len(reference) or reference.text == example.reference.text:
            yield example
            return
        before, after = annotations_of(example.reference), annotations_of(reference)
        if after < before:
            yield example
        if after or not before:  # otherwise there is nothing left to learn from it
            yield Example(nlp.make_doc(reference.text), reference)

    def sample(self, positions: List[int], fraction: float) -> List[int]:
        """About this fraction of the positions, at least one."""
        drawn = [position for position in positions if self.rng.random() < fraction]
        return drawn or ([self.rng.choice(positions)] if positions else [])


def check_keep(keep: Collection[str]) -> None:
    """Check a setting that names kinds of annotation.

    Raises:
        UserError: One of them does not exist.
    """
    unknown = sorted(set(keep) - annotation_names())
    if unknown:
        raise UserError(f"{SECTION} keep names {', '.join(unknown)}; allowed: {', '.join(sorted(annotation_names()))}")


def augmenters(*augmenters: AugmentExample) -> AugmentExample:
    """Augmenter `mtl.Augmenters.v1`: several in turn, each applied to what the one before returns.

    In a config each has its own section: [corpora.train.augmenter.*.synonyms] and so on.
    """
    if not augmenters:
        raise UserError(f"{SECTION} has no augmenter; give each a section, as in [corpora.train.augmenter.*.noise]")

    def augment(nlp: Language, example: Example) -> Iterable[Example]:
        examples: Iterable[Example] = [example]
        for augmenter in augmenters:
            examples = [changed for before in examples for changed in augmenter(nlp, before)]
        return examples

    return augment
