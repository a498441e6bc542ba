"""Texts cut into wordpieces, and their tokens aligned with those, for many texts at once. No torch, no spaCy."""

import json
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from tokenizers import AddedToken, Encoding, Tokenizer

from mtl.encoder.forks import Lock

MOST_WORDS, MOST_PIECES, MOST_CHARACTERS = 50_000, 200_000, 1_000_000  # that are remembered; 10 MB
TOGETHER = 200  # words
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
        self._begin()

    def _begin(self) -> None:
        self._state = self._state_now()
        self.at_spaces = cuts_at_spaces(self.tokenizer)
        self._known = _Known()

    def _state_now(self) -> Tuple[Any, ...]:
        return len(self.tokenizer.get_added_tokens_decoder()), self.tokenizer.truncation, self.tokenizer.padding

    def __call__(self, texts: Sequence[str]) -> Wordpieces:
        if self._state != self._state_now():  # words were added to its vocabulary
            self._begin()
        found = self._word_by_word(texts) if self.at_spaces else None
        return _of_encodings(self._encode(texts)) if found is None else found

    def _word_by_word(self, texts: Sequence[str]) -> Optional[Wordpieces]:
        """None where there is no room for the new words; all are then forgotten."""
        words = [text.split(" ") for text in texts]
        every = list(chain.from_iterable(words))
        known = self._known  # another thread may put a new one in its place
        rows = known.find(every)
        new = list(dict.fromkeys(every[i] for i in np.flatnonzero(rows < 0)))
        if new:
            if not (known.has_room(new) and known.add(new, self._words(new))):
                self._known = _Known()
                return None
            rows = known.find(every)
        counts = np.fromiter(map(len, words), np.int64, len(words))
        sizes = np.fromiter(map(len, every), np.int64, len(every)) + 1
        place = np.cumsum(sizes) - sizes
        first = np.cumsum(counts) - counts
        place -= np.repeat(place[first], counts)
        pieces = known.bounds[rows + 1] - known.bounds[rows]
        index, shift = ranges(known.bounds[rows], pieces), np.repeat(place, pieces)
        ids, starts, ends = known.table[:, index].astype(np.int64)
        return Wordpieces(ids, starts + shift, ends + shift, np.add.reduceat(pieces, first) if len(first) else first)

    def _words(self, words: List[str]) -> Wordpieces:
        """The wordpieces of single words, which are cut as texts of many: each by itself costs twice as much."""
        texts = [" ".join(words[i : i + TOGETHER]) for i in range(0, len(words), TOGETHER)]
        pieces = _of_encodings(self._encode(texts))
        sizes = np.fromiter(map(len, words), np.int64, len(words)) + 1
        place = np.cumsum(sizes) - sizes  # each word's, where the texts too stand a space apart
        shift = np.repeat(place[::TOGETHER], pieces.counts)
        word = np.searchsorted(place, pieces.starts + shift, side="right") - 1
        inside = place[word] - shift
        return Wordpieces(pieces.ids, pieces.starts - inside, pieces.ends - inside, np.bincount(word, minlength=len(words)))

    def _encode(self, texts: Sequence[str]) -> List[Encoding]:
        return self.tokenizer.encode_batch(list(texts), add_special_tokens=False)

    def __reduce__(self) -> Tuple[Any, ...]:
        return CachedTokenizer, (self.tokenizer,)


class _Known:
    """Words and their wordpieces. What is written is never written over, so that it is read without a lock."""

    def __init__(self) -> None:
        self.rows: Dict[str, int] = {}
        self.bounds = np.zeros(MOST_WORDS + 1, dtype=np.int64)
        self.table = np.empty((3, MOST_PIECES), dtype=np.int32)  # wordpiece, first character, character after the last
        self.used = 0  # rows; two threads may have added the same word
        self.characters = 0
        self._lock = Lock()  # of who adds

    def find(self, words: List[str]) -> np.ndarray:
        """(words,): the row of each, -1 where it is not known."""
        return np.fromiter(map(self.rows.get, words, repeat(-1)), np.int64, len(words))

    def has_room(self, words: List[str]) -> bool:
        return self.used + len(words) < len(self.bounds) and self.characters + sum(map(len, words)) <= MOST_CHARACTERS

    def add(self, words: List[str], pieces: Wordpieces) -> bool:
        """Whether there was room."""
        with self._lock:
            row, place = self.used, int(self.bounds[self.used])
            if not self.has_room(words) or place + len(pieces.ids) > self.table.shape[1]:
                return False
            self.table[:, place : place + len(pieces.ids)] = pieces.ids, pieces.starts, pieces.ends
            self.bounds[row + 1 : row + 1 + len(words)] = place + np.cumsum(pieces.counts)
            self.used += len(words)
            self.characters += sum(map(len, words))
            self.rows.update(zip(words, range(row, self.used)))
            return True


def cuts_at_spaces(tokenizer: Tokenizer) -> bool:
    """Whether a text's wordpieces are those of what stands between its spaces, one after another; False where in doubt.

    That is so of BERT and who took over its tokenizer. SentencePiece and byte-level BPE make spaces part of wordpieces.
    """
    normalizer = tokenizer.normalizer
    pre_tokenizers = _kinds(tokenizer.pre_tokenizer, "pretokenizers")
    return (
        set(_kinds(normalizer, "normalizers")) <= set(WITHIN_WORDS)
        and bool(pre_tokenizers)
        and pre_tokenizers[0] in AT_SPACES
        and set(pre_tokenizers) <= {*AT_SPACES, "Punctuation", "Digits"}
        and not any(_reaches_over_spaces(one, normalizer) for one in tokenizer.get_added_tokens_decoder().values())
        and getattr(tokenizer.model, "dropout", None) is None
        and tokenizer.truncation is None
        and tokenizer.padding is None
    )


def _kinds(part: Any, parts: str) -> List[str]:
    """The types of a normalizer or pre-tokenizer, or of those that it is a sequence of."""
    if part is None:
        return []
    try:
        state = json.loads(part.__getstate__())
    except Exception:  # what is written in Python says so with a bare one
        return ["Python"]
    return [one["type"] for one in state.get(parts, [state])]


def _reaches_over_spaces(added: AddedToken, normalizer: Any) -> bool:
    """Whether a word added to the vocabulary may be found where there is a space. It is looked for in normalised text."""
    content = normalizer.normalize_str(added.content) if normalizer is not None and added.normalized else added.content
    return added.lstrip or added.rstrip or content.split() != [content]


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
