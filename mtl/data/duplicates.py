"""Texts that are the same but for case, punctuation and white space, or nearly the same (MinHash)."""

import re
import unicodedata
import zlib
from typing import Any, List, Optional, Tuple

import numpy as np

WORD = re.compile(r"\w+")
UNSAID = dict.fromkeys(map(ord, ".,;:!?\"'()[]{}«»“”„\u2018\u2019…"), " ")  # punctuation
SHINGLE_WORDS = 5  # near duplicates share most of their n-grams of this length
PERMUTATIONS = 128  # of a MinHash signature
MOST_NEAR = 100  # candidates that are compared; of texts made from a template there may be as many as texts
MARGIN = 0.15  # below the threshold, from which signatures are candidates; their similarity is then computed


def normalized(text: str) -> str:
    """A text without case, white space and the punctuation of sentences; signs with a meaning, such as + and #, stay."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().translate(UNSAID).split())


class NearDuplicates:
    """Finds texts that repeat most of an earlier one, by MinHash LSH (datasketch).

    Args:
        threshold (float): Jaccard similarity of the sets of word 5-grams from which a text counts as a duplicate.
    """

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH

        self.threshold = threshold
        self.index = MinHashLSH(threshold=threshold - MARGIN, num_perm=PERMUTATIONS)
        self.shingles: List[np.ndarray] = []
        self.empty: Any = None

    def seen(self, text: str) -> bool:
        """Whether the text is near an earlier one. If not, it is remembered."""
        return self.find(text) is not None

    def find(self, text: str) -> Optional[int]:
        """The number, from 0, of a remembered text that this one is near; None if there is none, and it is remembered."""
        signature, hashes = self._signature(text)
        found = self._near(signature, hashes)
        if found:
            return found[0]
        self._remember(signature, hashes)
        return None

    def add(self, text: str) -> List[int]:
        """Remember the text. Returns the numbers, from 0, of the earlier ones that it is near."""
        signature, hashes = self._signature(text)
        found = self._near(signature, hashes)
        self._remember(signature, hashes)
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
        hashes = np.unique(np.fromiter((zlib.crc32(shingle) for shingle in shingles), np.uint32, len(shingles)))
        return signature, hashes

    def _near(self, signature: Any, hashes: np.ndarray) -> List[int]:
        return [
            int(key)
            for key in sorted(self.index.query(signature))[:MOST_NEAR]
            if self._similarity(int(key), hashes) >= self.threshold
        ]

    def _similarity(self, key: int, hashes: np.ndarray) -> float:
        """The Jaccard similarity to a remembered text."""
        shared = len(np.intersect1d(self.shingles[key], hashes, assume_unique=True))
        return shared / (len(self.shingles[key]) + len(hashes) - shared)

    def _remember(self, signature: Any, hashes: np.ndarray) -> None:
        self.index.insert(len(self.shingles), signature)
        self.shingles.append(hashes)
