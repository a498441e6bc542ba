"""Stop words left out and letter case changed, as people in a hurry write."""

from typing import List, Optional

from spacy.language import Language
from spacy.tokens import Doc

from mtl.augment.augmenter import SECTION, Augmenter
from mtl.augment.rewrite import Edit, free_words, rewritten, surviving
from mtl.errors import UserError, check_range
from mtl.registry import Change

# Words in spaCy's lists of stop words without which a text means something else.
NEGATIONS = [
    "no", "not", "nor", "never", "none", "nobody", "nothing", "nowhere", "neither", "without", "cannot", "n't", "except", "only",
    "before", "after", "but",
]  # fmt: skip


def noise_augmenter(
    level: float = 0.3,
    stop_words: float = 0.3,
    lower: float = 0.25,
    upper: float = 0.25,
    keep_words: List[str] = NEGATIONS,
    seed: int = 0,
) -> "NoiseAugmenter":
    """Augmenter `mtl.NoiseAugmenter.v1`: leaves out stop words, and writes some documents in one letter case.

    Words inside an entity, an answer or another span are never left out. An uncased encoder does not see the letter case.

    Args:
        level (float): Fraction of the documents that are changed.
        stop_words (float): Fraction of a changed document's stop words that are left out.
        lower (float): Fraction of the changed documents that are written in lower case.
        upper (float): Fraction of the changed documents that are written in upper case.
        keep_words (List[str]): Stop words, in lower case, that are never left out. By default those that change the meaning.
        seed (int): The same documents in the same order are changed in the same way.

    Raises:
        UserError: A fraction is out of range.
    """
    return NoiseAugmenter(level, stop_words, lower, upper, keep_words, seed)


class NoiseAugmenter(Augmenter):
    """See `noise_augmenter`, which has the same arguments."""

    stream = "Noise"

    def __init__(self, level: float, stop_words: float, lower: float, upper: float, keep_words: List[str], seed: int) -> None:
        super().__init__(level, seed)
        for name, value in (("stop_words", stop_words), ("lower", lower), ("upper", upper)):
            check_range(f"{SECTION} {name}", value, 0.0, 1.0)
        if lower + upper > 1:
            raise UserError(f"{SECTION} lower = {lower} and upper = {upper}: their sum must be at most 1")
        self.stop_words, self.lower, self.upper, self.keep_words = stop_words, lower, upper, set(keep_words)

    def changed(self, nlp: Language, reference: Doc) -> Optional[Doc]:
        droppable = [i for i in free_words(reference) if reference[i].is_stop and reference[i].lower_ not in self.keep_words]
        dropped = {i for i in droppable if self.rng.random() < self.stop_words}
        draw = self.rng.random()
        case = str.lower if draw < self.lower else str.upper if draw < self.lower + self.upper else str
        edits = [Edit(i, i + 1, ()) for i in sorted(dropped)]
        cased = [(token.i, case(token.text)) for token in reference if token.i not in dropped]
        edits += [Edit(i, i + 1, (word,)) for i, word in cased if word != reference[i].text]
        return rewritten(reference, edits, surviving(Change.NOISE)) if edits else None
