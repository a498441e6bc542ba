"""Texts that are the same but for case, punctuation and white space, or nearly the same (MinHash)."""

import re
from typing import Any, List, Optional, Tuple

import numpy as np

WORD = re.compile(r"\w+")
SHINGLE_WORDS = 5  # near duplicates share most of their n-grams of this length
PERMUTATIONS = 128  # of a MinHash signature, which estimates the similarity to within 0.04


def normalized(text: str) -> str:
    """The words of a text, in lower case."""
    return " ".join(WORD.findall(text.lower()))


class NearDuplicates:
    """Finds texts that repeat most of an earlier one, by MinHash LSH (datasketch).

    Args:
        threshold (float): Jaccard similarity of the sets of word 5-grams from which a text counts as a duplicate.
    """

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH

        self.threshold = threshold
        self.index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
        self.signatures: List[np.ndarray] = []
        self.empty: Any = None

    def seen(self, text: str) -> bool:
        """Whether the text is near an earlier one. If not, it is remembered."""
        return self.find(text) is not None

    def find(self, text: str) -> Optional[int]:
        """The number, from 0, of a remembered text that this one is near; None if there is none, and it is remembered."""
        signature, values = self._signature(text)
        found = self._near(signature, values)
        if found:
            return found[0]
        self._remember(signature, values)
        return None

    def add(self, text: str) -> List[int]:
        """Remember the text. Returns the numbers, from 0, of the earlier ones that it is near."""
        signature, values = self._signature(text)
        found = self._near(signature, values)
        self._remember(signature, values)
        return found

    def _signature(self, text: str) -> Tuple[Any, np.ndarray]:
        from datasketch import MinHash

        words = WORD.findall(text.lower())
        ngram_count = max(1, len(words) - SHINGLE_WORDS + 1)
        shingles = {" ".join(words[i : i + SHINGLE_WORDS]).encode() for i in range(ngram_count)}
        if self.empty is None:
            self.empty = MinHash(num_perm=PERMUTATIONS, seed=1)
        signature = self.empty.copy()  # drawing the permutations takes most of the time
        signature.update_batch(shingles)
        return signature, signature.hashvalues.astype(np.uint32)

    def _near(self, signature: Any, values: np.ndarray) -> List[int]:
        candidates = sorted(self.index.query(signature))
        return [int(key) for key in candidates if np.mean(values == self.signatures[key]) >= self.threshold]

    def _remember(self, signature: Any, values: np.ndarray) -> None:
        self.index.insert(len(self.signatures), signature)
        self.signatures.append(values)
