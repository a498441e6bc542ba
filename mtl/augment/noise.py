"""Stop words left out, and other casing: what hurried people write."""

from typing import List, Optional

from spacy.language import Language
from spacy.tokens import Doc

from mtl.augment.augmenter import SECTION, Augmenter
from mtl.augment.rewrite import Edit, free_words, rewritten
from mtl.errors import UserError, check_range

# Stop words in spaCy's lists that turn the meaning.
NEGATIONS = [
    "no", "not", "nor", "never", "none", "nobody", "nothing", "nowhere", "neither", "without", "cannot", "n't", "except", "only",
    "before", "after", "but",
]  # fmt: skip


def noise_augmenter(
    level: float = 0.3,
    stop_words: float = 0.3,
    lower: float = 0.25,
    upper: float = 0.25,
    kept: List[str] = NEGATIONS,
    seed: int = 0,
) -> "Noise":
    """`mtl.NoiseAugmenter.v1`: see `Noise`."""
    return Noise(level, stop_words, lower, upper, kept, seed)


class Noise(Augmenter):
    """Leaves out stop words outside of entities and answers, and writes some documents in one case; all annotation holds.

    stop_words (float): the share of a document's stop words that is left out. lower, upper (float): the shares of the changed
    documents that are written in small letters, or in capitals. (An uncased encoder does not see it.) kept (list): stop words
    that stay, in small letters, because they turn the meaning.
    """

    def __init__(self, level: float, stop_words: float, lower: float, upper: float, kept: List[str], seed: int) -> None:
        super().__init__(level, seed)
        for name, value in (("stop_words", stop_words), ("lower", lower), ("upper", upper)):
            check_range(f"{SECTION} {name}", value, 0.0, 1.0)
        if lower + upper > 1:
            raise UserError(f"{SECTION} lower = {lower} and upper = {upper}: together they are at most 1")
        self.stop_words, self.lower, self.upper, self.kept = stop_words, lower, upper, set(kept)

    def changed(self, nlp: Language, reference: Doc) -> Optional[Doc]:
        loose = [i for i in free_words(reference) if reference[i].is_stop and reference[i].lower_ not in self.kept]
        gone = {i for i in loose if self.chance.random() < self.stop_words}
        draw = self.chance.random()
        case = str.lower if draw < self.lower else str.upper if draw < self.lower + self.upper else str
        edits = [Edit(i, i + 1, ()) for i in sorted(gone)]
        other = [(token.i, case(token.text)) for token in reference if token.i not in gone]
        edits += [Edit(i, i + 1, (word,)) for i, word in other if word != reference[i].text]
        return rewritten(reference, edits) if edits else None
