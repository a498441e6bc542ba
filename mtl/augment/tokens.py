"""Tokens replaced by tokens with the same label, from the training documents."""

from collections import Counter
from typing import Dict, List, Optional, Sequence, Tuple

from spacy.language import Language
from spacy.tokens import Doc, Token

from mtl.augment.augmenter import SECTION, Augmenter
from mtl.augment.rewrite import Edit, rewritten, surviving
from mtl.data.docs import read_docs
from mtl.errors import UserError, check_range
from mtl.registry import Change, Task, registered_tasks

Label = Tuple[str, ...]  # a token's annotation for all tasks that label tokens


def token_augmenter(source: str, level: float = 0.3, fraction: float = 0.2, seed: int = 0) -> "TokenAugmenter":
    """Augmenter `mtl.TokenAugmenter.v1`: replaces words by words with the same label.

    Label-wise token replacement (Dai and Adel 2020, https://arxiv.org/abs/2010.11683). The text no longer means anything, but the
    labels of its tokens are still right, so the changed document keeps only the annotation of tokens: entities and tags.
    A label is B, I or O with the entity's type, and the tag if there are tags. Words are drawn as often as they occur with
    the label.

    Args:
        source (str): The documents from which words are drawn, a `.spacy` file or a folder of them.
        level (float): Fraction of the documents that are changed.
        fraction (float): Fraction of the words that are replaced, at least one in a changed document.
        seed (int): The same documents in the same order are changed in the same way.

    Raises:
        UserError: A fraction is out of range, or the source has no annotation of tokens.
    """
    return TokenAugmenter(source, level, fraction, seed)


class TokenAugmenter(Augmenter):
    """See `token_augmenter`, which has the same arguments."""

    stream = "Tokens"

    def __init__(self, source: str, level: float, fraction: float, seed: int) -> None:
        super().__init__(level, seed)
        check_range(f"{SECTION} fraction", fraction, 0.0, 1.0)
        self.source, self.fraction = source, fraction
        self._words: Dict[Label, Tuple[List[str], List[int]]] = {}

    def words(self, nlp: Language) -> Dict[Label, Tuple[List[str], List[int]]]:
        """For each label its words, and how often each of them occurs with it."""
        if not self._words:
            tasks = registered_tasks()
            counters: Dict[Label, Counter] = {}
            for reference in read_docs(self.source, nlp.vocab):
                for token in reference:
                    if (label := label_of(token, tasks)) is not None:
                        counters.setdefault(label, Counter())[token.text] += 1
            if not counters:
                raise UserError(f"{SECTION} source {self.source}: no document in it is annotated with entities or tags")
            self._words = {label: (list(counts), list(counts.values())) for label, counts in counters.items()}
        return self._words

    def changed(self, nlp: Language, reference: Doc) -> Optional[Doc]:
        words_by_label = self.words(nlp)
        tasks = registered_tasks()
        labels = {token.i: label for token in reference if (label := label_of(token, tasks)) in words_by_label}
        edits = []
        for i in self.sample(list(labels), self.fraction):
            words, counts = words_by_label[labels[i]]
            (word,) = self.rng.choices(words, counts)
            edits.append(Edit(i, i + 1, (word,)))
        return rewritten(reference, edits, surviving(Change.SAME_LABEL)) if edits else None


def label_of(token: Token, tasks: Sequence[Task]) -> Optional[Label]:
    """The token's annotation for the tasks; None if it is not a word or not annotated."""
    labels = [task.token_label(token) for task in tasks] if token.is_alpha else []
    return tuple("/".join(label) for label in labels) if any(labels) else None
