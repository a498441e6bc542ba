"""Texts cut into subwords, and their tokens aligned with those, for many texts at once. No torch, no spaCy."""

from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
from tokenizers import AddedToken, Encoding, Tokenizer

from mtl import compat
from mtl.encoder.runtime.processes import Lock

MAX_WORDS, MAX_SUBWORDS, MAX_CHARACTERS = 50_000, 200_000, 1_000_000  # in a tokenizer's cache; 10 MB
WORDS_PER_TEXT = 200  # new words that are tokenized as one text
SPLIT_AT_SPACES = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")  # pre-tokenizers
WORKS_ON_WORDS = ("BertNormalizer", "Lowercase", "StripAccents", "NFC", "NFD", "NFKC", "NFKD")  # normalizers


# By code point; the last is U+3000. A token of white space alone is `Token.is_space` in spaCy.
WHITE_SPACE = np.array([chr(i).isspace() for i in range(0x3002)])


@dataclass
class TokenizedText:
    """A document for the encoder.

    Args:
        text (str): The text.
        starts (np.ndarray): Shape (tokens,): first character of each token.
        ends (np.ndarray): Shape (tokens,): the character after its last.
    """

    text: str
    starts: np.ndarray
    ends: np.ndarray


@dataclass
class Subwords:
    """The subwords of several texts, one text after another.

    Args:
        ids (np.ndarray): Shape (subwords,).
        starts (np.ndarray): Shape (subwords,): first character of each, counted from the start of its own text.
        ends (np.ndarray): Shape (subwords,): the character after its last.
        counts (np.ndarray): Shape (texts,): number of subwords of each text.
    """

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    counts: np.ndarray


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The integers `range(start, start + length)` for each start and length, one range after another."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)


class CachedTokenizer:
    """A fast tokenizer, without special tokens, that tokenizes each word once if it splits at spaces anyway.

    The text between two spaces is then tokenized as if it stood alone, and cached: that takes an eighth of the time for words
    that occurred before. Threads may share it.

    Args:
        tokenizer (Tokenizer): The tokenizer.

    Attributes:
        at_spaces (bool): Whether words are cached: see `splits_at_spaces`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._reset()

    def _reset(self) -> None:
        self._state = self._tokenizer_state()
        self.at_spaces = splits_at_spaces(self.tokenizer)
        self._cache = _WordCache()

    def _tokenizer_state(self) -> Tuple[Any, ...]:
        return len(self.tokenizer.get_added_tokens_decoder()), self.tokenizer.truncation, self.tokenizer.padding

    def __call__(self, texts: Sequence[str]) -> Subwords:
        """Tokenize texts."""
        if self._state != self._tokenizer_state():  # tokens were added to its vocabulary
            self._reset()
        subwords = self._word_by_word(texts) if self.at_spaces else None
        return _from_encodings(self._encode(texts)) if subwords is None else subwords

    def _word_by_word(self, texts: Sequence[str]) -> Optional[Subwords]:
        """The subwords from the cache. If it has no room for the new words it is emptied, and the result is None."""
        words_by_text = [text.split(" ") for text in texts]
        words = list(chain.from_iterable(words_by_text))
        cache = self._cache  # another thread may replace it
        rows = cache.find(words)
        new = list(dict.fromkeys(words[i] for i in np.flatnonzero(rows < 0)))
        if new:
            if not (cache.has_room(new) and cache.add(new, self._tokenize_words(new))):
                self._cache = _WordCache()
                return None
            rows = cache.find(words)
        word_counts = np.fromiter(map(len, words_by_text), np.int64, len(words_by_text))
        sizes = np.fromiter(map(len, words), np.int64, len(words)) + 1
        offsets = np.cumsum(sizes) - sizes
        first_words = np.cumsum(word_counts) - word_counts
        offsets -= np.repeat(offsets[first_words], word_counts)  # of each word, from the start of its text
        subword_counts = cache.bounds[rows + 1] - cache.bounds[rows]
        index, shift = ranges(cache.bounds[rows], subword_counts), np.repeat(offsets, subword_counts)
        ids, starts, ends = cache.table[:, index].astype(np.int64)
        counts = np.add.reduceat(subword_counts, first_words) if len(first_words) else first_words
        return Subwords(ids, starts + shift, ends + shift, counts)

    def _tokenize_words(self, words: List[str]) -> Subwords:
        """The subwords of single words, which are tokenized as texts of many: one call for each word takes twice as long."""
        texts = [" ".join(words[i : i + WORDS_PER_TEXT]) for i in range(0, len(words), WORDS_PER_TEXT)]
        subwords = _from_encodings(self._encode(texts))
        sizes = np.fromiter(map(len, words), np.int64, len(words)) + 1
        offsets = np.cumsum(sizes) - sizes  # of each word, in all texts joined by spaces
        shift = np.repeat(offsets[::WORDS_PER_TEXT], subwords.counts)
        word = np.searchsorted(offsets, subwords.starts + shift, side="right") - 1
        inside = offsets[word] - shift
        return Subwords(subwords.ids, subwords.starts - inside, subwords.ends - inside, np.bincount(word, minlength=len(words)))

    def _encode(self, texts: Sequence[str]) -> List[Encoding]:
        return self.tokenizer.encode_batch(list(texts), add_special_tokens=False)

    def __reduce__(self) -> Tuple[Any, ...]:
        return CachedTokenizer, (self.tokenizer,)


class _WordCache:
    """Words and their subwords. Entries are never overwritten, so reading needs no lock."""

    def __init__(self) -> None:
        self.rows: Dict[str, int] = {}
        self.bounds = np.zeros(MAX_WORDS + 1, dtype=np.int64)
        self.table = np.empty((3, MAX_SUBWORDS), dtype=np.int32)  # subword id, first character, character after the last
        self.used = 0  # rows; two threads may have added the same word
        self.characters = 0
        self._lock = Lock()  # for writing

    def find(self, words: List[str]) -> np.ndarray:
        """Shape (words,): the row of each, -1 if it is not cached."""
        return np.fromiter(map(self.rows.get, words, repeat(-1)), np.int64, len(words))

    def has_room(self, words: List[str]) -> bool:
        """Whether the words fit, as far as their own number and length go."""
        return self.used + len(words) < len(self.bounds) and self.characters + sum(map(len, words)) <= MAX_CHARACTERS

    def add(self, words: List[str], subwords: Subwords) -> bool:
        """Add words with their subwords. Returns False, and adds nothing, if they do not fit."""
        with self._lock:
            row, first = self.used, int(self.bounds[self.used])
            if not self.has_room(words) or first + len(subwords.ids) > self.table.shape[1]:
                return False
            self.table[:, first : first + len(subwords.ids)] = subwords.ids, subwords.starts, subwords.ends
            self.bounds[row + 1 : row + 1 + len(words)] = first + np.cumsum(subwords.counts)
            self.used += len(words)
            self.characters += sum(map(len, words))
            self.rows.update(zip(words, range(row, self.used)))
            return True


def splits_at_spaces(tokenizer: Tokenizer) -> bool:
    """Whether a text's subwords are those of the parts between its spaces, one part after another. False if in doubt.

    True of BERT and of models with its tokenizer. SentencePiece and byte-level BPE make spaces part of subwords.
    """
    normalizer = tokenizer.normalizer
    pre_tokenizers = compat.tokenizer_part_types(tokenizer.pre_tokenizer, "pretokenizers")
    return (
        set(compat.tokenizer_part_types(normalizer, "normalizers")) <= set(WORKS_ON_WORDS)
        and bool(pre_tokenizers)
        and pre_tokenizers[0] in SPLIT_AT_SPACES
        and set(pre_tokenizers) <= {*SPLIT_AT_SPACES, "Punctuation", "Digits"}
        and not any(_may_match_spaces(token, normalizer) for token in tokenizer.get_added_tokens_decoder().values())
        and getattr(tokenizer.model, "dropout", None) is None
        and tokenizer.truncation is None
        and tokenizer.padding is None
    )


def _may_match_spaces(added: AddedToken, normalizer: Any) -> bool:
    """Whether a token added to the vocabulary may match a part of a text with a space. It is matched in normalized text."""
    content = normalizer.normalize_str(added.content) if normalizer is not None and added.normalized else added.content
    return added.lstrip or added.rstrip or content.split() != [content]


def _from_encodings(encodings: Sequence[Encoding]) -> Subwords:
    counts = np.fromiter(map(len, encodings), np.int64, len(encodings))
    ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int64, counts.sum())
    pairs = chain.from_iterable(encoding.offsets for encoding in encodings)
    starts, ends = np.fromiter(chain.from_iterable(pairs), np.int64, 2 * counts.sum()).reshape(-1, 2).T
    return Subwords(ids, starts, ends, counts)


def align(docs: Sequence[TokenizedText], subwords: Subwords) -> Tuple[np.ndarray, np.ndarray]:
    """Which tokens share characters with which subwords, for all texts at once.

    Args:
        docs (Sequence[TokenizedText]): The texts.
        subwords (Subwords): Their subwords.

    Returns:
        Tuple[np.ndarray, np.ndarray]: The tokens and the subwords of all pairs, both of shape (pairs,) and counted over all
            texts, tokens ascending. A subword that covers several tokens is in several pairs. A token without subwords is in
            none; nor is white space, which some tokenizers make part of subwords and others drop.
    """
    shift = np.cumsum([0, *(len(doc.text) + 1 for doc in docs)])[:-1]
    subword_shift = np.repeat(shift, subwords.counts)
    token_shift = np.repeat(shift, [len(doc.starts) for doc in docs])
    token_starts = np.concatenate([doc.starts for doc in docs]) + token_shift if docs else np.zeros(0, np.int64)
    token_ends = np.concatenate([doc.ends for doc in docs]) + token_shift if docs else np.zeros(0, np.int64)
    starts, ends = subwords.starts + subword_shift, subwords.ends + subword_shift
    first = np.searchsorted(token_ends, starts, side="right")  # the first token that ends after the subword starts
    after = np.searchsorted(token_starts, ends, side="left")  # the first token that starts at or after the subword's end
    covered = np.where(ends > starts, np.maximum(after - first, 0), 0)
    subword = np.repeat(np.arange(len(starts)), covered)
    token = ranges(first, covered)
    is_text = ~_blank(docs, token_starts, token_ends)[token]
    token, subword = token[is_text], subword[is_text]
    if np.any(token[1:] < token[:-1]):  # offsets may be out of order if the tokenizer normalizes
        order = np.argsort(token, kind="stable")
        token, subword = token[order], subword[order]
    return token, subword


def _blank(docs: Sequence[TokenizedText], starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Which tokens are white space alone. Characters are counted over all texts, with one between two of them."""
    characters = np.frombuffer("\n".join([doc.text for doc in docs]).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    others = np.append(0, np.cumsum(~WHITE_SPACE[np.minimum(characters, len(WHITE_SPACE) - 1)]))
    return others[starts] == others[ends]
