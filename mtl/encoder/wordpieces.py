"""Texts cut into wordpieces, and their tokens aligned with those, for many texts at once. NumPy and tokenizers only."""

import json
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
from tokenizers import Encoding, Tokenizer

from mtl.encoder.forks import Lock

MOST_WORDS, MOST_PIECES = 50_000, 200_000  # that are remembered; 10 MB
AT_SPACES = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")
WITHIN_WORDS = ("BertNormalizer", "Lowercase", "StripAccents", "NFC", "NFD", "NFKC", "NFKD")


@dataclass
class Tokens:
    """A document for the encoder: its text and where its tokens stand in it."""

    text: str
    starts: np.ndarray  # (tokens,), characters
    ends: np.ndarray


@dataclass
class Wordpieces:
    """The wordpieces of several texts, one after another."""

    ids: np.ndarray  # (pieces,)
    starts: np.ndarray  # (pieces,), characters of its own text
    ends: np.ndarray
    counts: np.ndarray  # (texts,), pieces of each


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The numbers from each start on, as many as its length says, one range after another."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)


class CachedTokenizer:
    """A fast tokenizer, without special wordpieces, that cuts each word once where it cuts at spaces anyway.

    What stands between two spaces is then cut as if it stood alone, and is remembered: an eighth of the time where the words were
    met before. Threads may share it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.at_spaces = cuts_at_spaces(tokenizer)
        self._known = _Known(MOST_PIECES)

    def __call__(self, texts: Sequence[str]) -> Wordpieces:
        if not self.at_spaces:
            return _of_encodings(self._encode(texts))
        words = [text.split(" ") for text in texts]
        counts = np.fromiter(map(len, words), np.int64, len(words))
        every = list(chain.from_iterable(words))
        with _lock:
            rows, known = self._rows(every), self._known
        sizes = np.fromiter(map(len, every), np.int64, len(every)) + 1
        place = np.cumsum(sizes) - sizes
        first = np.cumsum(counts) - counts
        place -= np.repeat(place[first], counts)
        pieces = known.bounds[rows + 1] - known.bounds[rows]
        index, shift = ranges(known.bounds[rows], pieces), np.repeat(place, pieces)
        ids, starts, ends = known.table[:, index].astype(np.int64)
        return Wordpieces(ids, starts + shift, ends + shift, np.add.reduceat(pieces, first) if len(first) else first)

    def _encode(self, texts: Sequence[str]) -> List[Encoding]:
        return self.tokenizer.encode_batch(list(texts), add_special_tokens=False)

    def _rows(self, words: List[str]) -> np.ndarray:
        """Each word's row in what is known; new words are added, and old ones forgotten where there is no room for those."""
        rows = self._known.find(words)
        new = list(dict.fromkeys(words[i] for i in np.flatnonzero(rows < 0)))
        if not new:
            return rows
        found = _of_encodings(self._encode(new))
        if not self._known.add(new, found):
            new = list(dict.fromkeys(words))
            found = _of_encodings(self._encode(new))
            self._known = _Known(max(MOST_PIECES, len(found.ids)))
            self._known.add(new, found)
        return self._known.find(words)

    def __deepcopy__(self, memo: Dict) -> "CachedTokenizer":
        return CachedTokenizer(self.tokenizer)

    def __reduce__(self) -> Tuple[Any, ...]:
        return CachedTokenizer, (self.tokenizer,)


_lock = Lock()


class _Known:
    """Words and their wordpieces. What is written is never written over, so that it may be read without the lock."""

    def __init__(self, room: int) -> None:
        self.rows: Dict[str, int] = {}
        self.bounds = np.zeros(max(MOST_WORDS, room) + 1, dtype=np.int64)
        self.table = np.empty((3, room), dtype=np.int32)  # wordpiece, first character, character after the last

    def find(self, words: List[str]) -> np.ndarray:
        """(words,): the row of each, -1 where it is not known."""
        return np.fromiter(map(self.rows.get, words, repeat(-1)), np.int64, len(words))

    def add(self, words: List[str], pieces: Wordpieces) -> bool:
        """Whether there was room."""
        row, place = len(self.rows), int(self.bounds[len(self.rows)])
        if place + len(pieces.ids) > self.table.shape[1] or row + len(words) >= len(self.bounds):
            return False
        self.table[:, place : place + len(pieces.ids)] = pieces.ids, pieces.starts, pieces.ends
        self.bounds[row + 1 : row + 1 + len(words)] = place + np.cumsum(pieces.counts)
        self.rows.update(zip(words, range(row, row + len(words))))
        return True


def cuts_at_spaces(tokenizer: Tokenizer) -> bool:
    """Whether a text's wordpieces are those of what stands between its spaces, one after another; False where in doubt.

    That is so of BERT and who took over its tokenizer. SentencePiece and byte-level BPE make spaces part of wordpieces.
    """
    normalizers, pre_tokenizers = _kinds(tokenizer.normalizer, "normalizers"), _kinds(tokenizer.pre_tokenizer, "pretokenizers")
    added = tokenizer.get_added_tokens_decoder().values()
    return (
        set(normalizers) <= set(WITHIN_WORDS)
        and bool(pre_tokenizers)
        and pre_tokenizers[0] in AT_SPACES
        and set(pre_tokenizers) <= {*AT_SPACES, "Punctuation", "Digits"}
        and not any(" " in one.content or one.lstrip or one.rstrip for one in added)
        and getattr(tokenizer.model, "dropout", None) is None
        and tokenizer.truncation is None
        and tokenizer.padding is None
    )


def _kinds(part: Any, parts: str) -> List[str]:
    """The types of a normalizer or pre-tokenizer, or of those that it is a sequence of."""
    if part is None:
        return []
    state = json.loads(part.__getstate__())
    return [one["type"] for one in state.get(parts, [state])]


def _of_encodings(encodings: Sequence[Encoding]) -> Wordpieces:
    counts = np.fromiter(map(len, encodings), np.int64, len(encodings))
    ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int64, counts.sum())
    pairs = chain.from_iterable(encoding.offsets for encoding in encodings)
    starts, ends = np.fromiter(chain.from_iterable(pairs), np.int64, 2 * counts.sum()).reshape(-1, 2).T
    return Wordpieces(ids, starts, ends, counts)


def align(docs: Sequence[Tokens], pieces: Wordpieces) -> Tuple[np.ndarray, np.ndarray]:
    """Which tokens share characters with which wordpieces, for all texts at once.

    RETURNS: (pairs,), the token, and (pairs,), the wordpiece, both counted over all texts, tokens ascending. A wordpiece that
    covers several tokens stands in several pairs, a token without wordpieces in none.
    """
    shift = np.cumsum([0, *(len(doc.text) + 1 for doc in docs)])[:-1]
    of_piece = np.repeat(shift, pieces.counts)
    of_token = np.repeat(shift, [len(doc.starts) for doc in docs])
    token_starts = np.concatenate([doc.starts for doc in docs]) + of_token if docs else np.zeros(0, np.int64)
    token_ends = np.concatenate([doc.ends for doc in docs]) + of_token if docs else np.zeros(0, np.int64)
    starts, ends = pieces.starts + of_piece, pieces.ends + of_piece
    first = np.searchsorted(token_ends, starts, side="right")  # the first token that ends after the piece starts
    after = np.searchsorted(token_starts, ends, side="left")  # the first token that starts at the piece's end or later
    covered = np.where(ends > starts, np.maximum(after - first, 0), 0)
    piece = np.repeat(np.arange(len(starts)), covered)
    token = ranges(first, covered)
    if np.any(token[1:] < token[:-1]):  # a tokenizer that normalises may give offsets out of order
        order = np.argsort(token, kind="stable")
        token, piece = token[order], piece[order]
    return token, piece
