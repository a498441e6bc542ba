"""What all augmenters share: how many documents they change, by chance that comes back, and what annotation still holds."""

import random
from typing import Collection, Iterable, Iterator, List, Optional

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from mtl.augment.rewrite import KINDS, kinds_of
from mtl.errors import UserError, check_range
from mtl.mixture.reader import Augment

SECTION = "[corpora.train.augmenter]"


class Augmenter:
    """Base of the augmenters. A subclass gives a changed Doc, on which all annotation that it has holds.

    level (float): the share of the documents that are changed. seed (int): the same documents in the same order are changed in
    the same way. The changed document takes the place of the first one, as in spaCy; where it has lost a kind of annotation
    that cannot be relied on any more, it comes after that one instead.
    """

    def __init__(self, level: float, seed: int) -> None:
        check_range(f"{SECTION} level", level, 0.0, 1.0)
        self.level, self.seed = level, seed
        self.chance = random.Random(f"{type(self).__name__}/{seed}")

    def changed(self, nlp: Language, reference: Doc) -> Optional[Doc]:
        """None where nothing of it can be changed."""
        raise NotImplementedError

    def __call__(self, nlp: Language, example: Example) -> Iterator[Example]:
        if self.chance.random() >= self.level:
            yield example
            return
        reference = self.changed(nlp, example.reference)
        if reference is None or not len(reference) or reference.text == example.reference.text:
            yield example
            return
        before, after = kinds_of(example.reference), kinds_of(reference)
        if after < before:
            yield example
        if after or not before:  # else there is nothing to learn from it
            yield Example(nlp.make_doc(reference.text), reference)

    def some(self, places: List[int], share: float) -> List[int]:
        """About this share of the places, at least one, drawn by chance."""
        drawn = [place for place in places if self.chance.random() < share]
        return drawn or ([self.chance.choice(places)] if places else [])


def check_kinds(keep: Collection[str]) -> None:
    """RAISES (UserError): one is no kind of annotation."""
    unknown = sorted(set(keep) - set(KINDS))
    if unknown:
        raise UserError(f"{SECTION} keep names {', '.join(unknown)}; allowed: {', '.join(KINDS)}")


def augmenters(*augmenters: Augment) -> Augment:
    """`mtl.Augmenters.v1`: several, one after the other, each on what the one before gives.

    In a config each has a section of its own, [corpora.train.augmenter.*.synonyms] and so on.
    """
    if not augmenters:
        raise UserError(f"{SECTION} has no augmenter; give each a section, as in [corpora.train.augmenter.*.noise]")

    def augment(nlp: Language, example: Example) -> Iterable[Example]:
        found: Iterable[Example] = [example]
        for one in augmenters:
            found = [changed for each in found for changed in one(nlp, each)]
        return found

    return augment
