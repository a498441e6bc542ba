"""Words replaced by synonyms from WordNet, which NLTK reads."""

from functools import cache
from typing import Callable, List, Optional

from spacy.language import Language
from spacy.tokens import Doc

from mtl.augment.augmenter import SECTION, Augmenter
from mtl.augment.rewrite import Edit, free_words, in_case_of, rewritten, surviving
from mtl.errors import UserError, check_range
from mtl.registry import Change

# Only words with more than this fraction of their occurrences, by WordNet's counts, in their first sense are replaced.
FIRST_SENSE = 0.5


def synonym_augmenter(level: float = 0.3, fraction: float = 0.15, seed: int = 0) -> "SynonymAugmenter":
    """Augmenter `mtl.SynonymAugmenter.v1`: replaces words by synonyms from WordNet, and keeps all annotation.

    Words inside an entity, an answer or another span are never replaced, nor are stop words.

    Args:
        level (float): Fraction of the documents that are changed.
        fraction (float): Fraction of the words with a synonym that are replaced, at least one in a changed document.
        seed (int): The same documents in the same order are changed in the same way.

    Raises:
        UserError: A fraction is out of range, or NLTK or its WordNet is not installed.
    """
    return SynonymAugmenter(level, fraction, seed, wordnet_synonyms())


class SynonymAugmenter(Augmenter):
    """Replaces words by synonyms of any source.

    Args:
        level (float): See `synonym_augmenter`.
        fraction (float): See `synonym_augmenter`.
        seed (int): See `synonym_augmenter`.
        synonyms_of (Callable[[str], List[str]]): From a word in lower case to its synonyms.
    """

    stream = "Synonyms"

    def __init__(self, level: float, fraction: float, seed: int, synonyms_of: Callable[[str], List[str]]) -> None:
        super().__init__(level, seed)
        check_range(f"{SECTION} fraction", fraction, 0.0, 1.0)
        self.fraction, self.synonyms_of = fraction, synonyms_of

    def changed(self, nlp: Language, reference: Doc) -> Optional[Doc]:
        positions = [i for i in free_words(reference) if not reference[i].is_stop and self.synonyms_of(reference[i].lower_)]
        if not positions:
            return None
        edits = []
        for i in self.sample(positions, self.fraction):
            word = reference[i]
            first, *rest = self.rng.choice(self.synonyms_of(word.lower_)).split(" ")
            parts = [in_case_of(first, word.text), *(part.upper() if word.is_upper else part for part in rest)]
            edits.append(Edit(i, i + 1, tuple(f"{part} " for part in parts)))
        return rewritten(reference, edits, surviving(Change.SYNONYMS))


def wordnet_synonyms() -> Callable[[str], List[str]]:
    """A function from a word to its synonyms in its first sense.

    It returns none if that sense is not clearly the usual one, or the word is not a base form: the synonyms of an inflected form
    would have to be inflected too.

    Raises:
        UserError: NLTK or WordNet is not installed.
    """
    try:
        from nltk.corpus import wordnet
    except ImportError:
        raise UserError(f'{SECTION} mtl.SynonymAugmenter.v1 needs NLTK: pip install "spacy-mtl[augment]"') from None
    try:
        wordnet.ensure_loaded()
    except LookupError:
        raise UserError(
            f"{SECTION} mtl.SynonymAugmenter.v1 needs WordNet: python -m nltk.downloader wordnet, or set NLTK_DATA to a folder "
            f"that contains corpora/wordnet"
        ) from None

    @cache
    def synonyms_of(word: str) -> List[str]:
        senses = wordnet.synsets(word)
        if not senses or wordnet.morphy(word, senses[0].pos()) != word:
            return []
        counts = [sum(lemma.count() for lemma in sense.lemmas() if lemma.name().lower() == word) for sense in senses]
        if len(senses) > 1 and counts[0] <= FIRST_SENSE * sum(counts):
            return []
        names = (lemma.name().replace("_", " ") for lemma in senses[0].lemmas())
        return [name for name in names if name.islower() and word not in name.split(" ")]

    return synonyms_of
