"""Words for words of the same meaning, from WordNet by way of NLTK."""

from functools import cache
from typing import Callable, List, Optional

from spacy.language import Language
from spacy.tokens import Doc

from mtl.augment.augmenter import SECTION, Augmenter
from mtl.augment.rewrite import Edit, free_words, like, rewritten
from mtl.errors import UserError, check_range

CLEAR = 0.5  # of a word's occurrences that are of its first sense, in WordNet's counts


def synonym_augmenter(level: float = 0.3, share: float = 0.15, seed: int = 0) -> "Synonyms":
    """`mtl.SynonymAugmenter.v1`: see `Synonyms`. RAISES (UserError): NLTK, or its WordNet, is not installed."""
    return Synonyms(level, share, seed, wordnet_synonyms())


class Synonyms(Augmenter):
    """Replaces words by synonyms, never inside an entity, an answer or another span; all annotation holds.

    share (float): of the words that have a synonym, how many are replaced; one at least. synonyms_of: word -> its synonyms.
    """

    def __init__(self, level: float, share: float, seed: int, synonyms_of: Callable[[str], List[str]]) -> None:
        super().__init__(level, seed)
        check_range(f"{SECTION} share", share, 0.0, 1.0)
        self.share, self.synonyms_of = share, synonyms_of

    def changed(self, nlp: Language, reference: Doc) -> Optional[Doc]:
        places = [i for i in free_words(reference) if not reference[i].is_stop and self.synonyms_of(reference[i].lower_)]
        if not places:
            return None
        edits = []
        for i in self.some(places, self.share):
            word = reference[i]
            first, *rest = self.chance.choice(self.synonyms_of(word.lower_)).split(" ")
            parts = [like(first, word.text), *(part.upper() if word.is_upper else part for part in rest)]
            edits.append(Edit(i, i + 1, tuple(f"{part} " for part in parts)))
        return rewritten(reference, edits)


def wordnet_synonyms() -> Callable[[str], List[str]]:
    """A word's synonyms in its first sense, [] where that is not clearly the usual one, or the word is no base form.

    (Of an inflected form the synonyms would have to be inflected too.) RAISES (UserError): NLTK or WordNet is not installed.
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
            f"that has corpora/wordnet"
        ) from None

    @cache
    def synonyms_of(word: str) -> List[str]:
        senses = wordnet.synsets(word)
        if not senses or wordnet.morphy(word, senses[0].pos()) != word:
            return []
        own = [sum(lemma.count() for lemma in sense.lemmas() if lemma.name().lower() == word) for sense in senses]
        if len(senses) > 1 and own[0] <= CLEAR * sum(own):
            return []
        names = (lemma.name().replace("_", " ") for lemma in senses[0].lemmas())
        return [name for name in names if name.islower() and word not in name.split(" ")]

    return synonyms_of
