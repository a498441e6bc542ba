"""Tokens for tokens that bear the same label, from the training documents."""

from collections import Counter
from typing import Dict, List, Optional, Tuple

from spacy.language import Language
from spacy.tokens import Doc, Token

from mtl.augment.augmenter import SECTION, Augmenter
from mtl.augment.rewrite import Edit, rewritten
from mtl.data.docs import read_docs
from mtl.errors import UserError, check_range

KEPT = ("entities", "tags")


def token_augmenter(source: str, level: float = 0.3, share: float = 0.2, seed: int = 0) -> "Tokens":
    """`mtl.TokenAugmenter.v1`: see `Tokens`."""
    return Tokens(source, level, share, seed)


class Tokens(Augmenter):
    """Replaces words by others of the same label: what a tagger learns from them holds, and the text means nothing any more.

    So the changed document keeps its entities and tags alone. A label is B, I or O with the entity's type, and the tag where
    there are tags; words are drawn as often as they occur with it. Source: label-wise token replacement, Dai and Adel 2020
    (https://arxiv.org/abs/2010.11683). source (str): the documents that words are drawn from, a `.spacy` file or folder.
    share (float): of the words of a document, how many are replaced; one at least.
    """

    def __init__(self, source: str, level: float, share: float, seed: int) -> None:
        super().__init__(level, seed)
        check_range(f"{SECTION} share", share, 0.0, 1.0)
        self.source, self.share = source, share
        self._known: Dict[Tuple[str, ...], Tuple[List[str], List[int]]] = {}

    def known(self, nlp: Language) -> Dict[Tuple[str, ...], Tuple[List[str], List[int]]]:
        """label -> words, and how often each occurs with it."""
        if not self._known:
            found: Dict[Tuple[str, ...], Counter] = {}
            for reference in read_docs(self.source, nlp.vocab):
                for token in reference:
                    if (label := label_of(token)) is not None:
                        found.setdefault(label, Counter())[token.text] += 1
            if not found:
                raise UserError(f"{SECTION} source {self.source}: no document in it is annotated with entities or tags")
            self._known = {label: (list(counts), list(counts.values())) for label, counts in found.items()}
        return self._known

    def changed(self, nlp: Language, reference: Doc) -> Optional[Doc]:
        known = self.known(nlp)
        labels = {token.i: label for token in reference if (label := label_of(token)) in known}
        edits = []
        for i in self.some(list(labels), self.share):
            words, counts = known[labels[i]]
            (word,) = self.chance.choices(words, counts)
            edits.append(Edit(i, i + 1, (word,)))
        return rewritten(reference, edits, KEPT) if edits else None


def label_of(token: Token) -> Optional[Tuple[str, ...]]:
    """None for what is no word, and where nothing is annotated."""
    if not token.is_alpha or not (token.ent_iob or token.tag or token.pos):
        return None
    return token.ent_iob_, token.ent_type_, token.tag_, token.pos_
