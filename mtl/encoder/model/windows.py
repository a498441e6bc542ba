"""Cutting subwords into windows. No torch, no spaCy."""

from dataclasses import dataclass
from itertools import chain
from typing import List, Sequence, Tuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from mtl.encoder.model.subwords import ranges
from mtl.errors import UserError

MIN_CAPACITY = 16  # subwords of text that a window must have room for beside a prompt


@dataclass(frozen=True)
class Template:
    """The special tokens around a text, and around a prompt and a text: `prefix prompt middle text suffix`.

    Args:
        prefix (Tuple[int, ...]): Token ids before a prompt.
        middle (Tuple[int, ...]): Token ids between a prompt and the text.
        suffix (Tuple[int, ...]): Token ids behind the text, if there is a prompt.
        single_prefix (Tuple[int, ...]): Token ids before a text without a prompt.
        single_suffix (Tuple[int, ...]): Token ids behind a text without a prompt.
        prompt_type (int): Token type of the prompt's segment.
        text_type (int): Token type of the text's segment behind a prompt.
        summary_last (bool): Where the sequence's own vector is read: at its first subword ([CLS]) if False. At its last for a
            decoder, which has no [CLS] and only sees what is on the left.
    """

    prefix: Tuple[int, ...]
    middle: Tuple[int, ...]
    suffix: Tuple[int, ...]
    single_prefix: Tuple[int, ...]
    single_suffix: Tuple[int, ...]
    prompt_type: int
    text_type: int
    summary_last: bool

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerFast) -> "Template":
        """Read it from the output of the tokenizer's own post-processor, so that any fast tokenizer works."""
        single = tokenizer.backend_tokenizer.encode("a")
        pair = tokenizer.backend_tokenizer.encode("a", "b")
        first = [i for i, part in enumerate(pair.sequence_ids) if part == 0]
        second = [i for i, part in enumerate(pair.sequence_ids) if part == 1]
        body = [i for i, special in enumerate(single.special_tokens_mask) if not special]
        prefix = tuple(pair.ids[: first[0]])
        middle = tuple(pair.ids[first[-1] + 1 : second[0]])
        suffix = tuple(pair.ids[second[-1] + 1 :])
        single_prefix, single_suffix = tuple(single.ids[: body[0]]), tuple(single.ids[body[-1] + 1 :])
        if not prefix and not suffix:  # a decoder: its end-of-text token separates the two and ends the sequence
            end = tokenizer.eos_token_id
            middle = middle or (() if end is None else (end,))
            suffix = single_suffix = () if end is None else (end,)
        types = pair.type_ids[first[0]], pair.type_ids[second[0]]
        return cls(prefix, middle, suffix, single_prefix, single_suffix, *types, summary_last=not prefix)

    def specials(self, prompted: bool) -> int:
        """Number of special tokens in a window, with or without a prompt."""
        if prompted:
            return len(self.prefix) + len(self.middle) + len(self.suffix)
        return len(self.single_prefix) + len(self.single_suffix)

    def ends(self, prompt: Sequence[int]) -> Tuple[List[int], List[int]]:
        """The token ids before and behind the text.

        Args:
            prompt (Sequence[int]): The prompt's subword ids, none for a text without a prompt.
        """
        if len(prompt):
            return [*self.prefix, *prompt, *self.middle], list(self.suffix)
        return list(self.single_prefix), list(self.single_suffix)


def capacity(window: int, specials: int, prompt: int, text: str = "") -> int:
    """How many subwords of text fit in a window.

    Args:
        window (int): Subwords in a window.
        specials (int): Special tokens in it.
        prompt (int): Subwords of the prompt.
        text (str): The prompt itself, for the error message.

    Raises:
        UserError: There is room for less than `MIN_CAPACITY`.
    """
    room = window - specials - prompt
    if room < MIN_CAPACITY:
        raise UserError(
            f"the question has {prompt} subwords, too many for window = {window} (at most "
            f"{window - specials - MIN_CAPACITY}): {text[:80]!r}... Shorten it, or set a longer window for the transformer"
        )
    return room


def window_starts(count: int, size: int, overlap: int) -> np.ndarray:
    """The first subword of each window over a text.

    A single window if they all fit, otherwise windows that share `overlap` subwords with their neighbours. The last window ends
    at the end of the text, so that it is full too.

    Args:
        count (int): Subwords of the text.
        size (int): Subwords that fit in a window.
        overlap (int): Subwords that neighbouring windows share, at least.
    """
    if count <= size:
        return np.zeros(min(count, 1), dtype=np.int64)
    step = max(1, size - min(overlap, size - 1))
    starts = np.arange(0, count - size + step, step)
    starts[-1] = count - size
    return starts


def surrounded(
    ids: np.ndarray, first: np.ndarray, body: np.ndarray, ends: Sequence[Tuple[Sequence[int], Sequence[int]]], item: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """The token ids of windows over texts, special tokens and prompts included.

    Args:
        ids (np.ndarray): Subword ids of all texts.
        first (np.ndarray): Shape (windows,): where in `ids` the text of each window starts.
        body (np.ndarray): Shape (windows,): how many subwords of text it has.
        ends (Sequence[Tuple[Sequence[int], Sequence[int]]]): For each item the token ids before and behind the text.
        item (np.ndarray): Shape (windows,): the item each window is over.

    Returns:
        Tuple[np.ndarray, np.ndarray]: The ids of all windows, one window after another; and the size of each window, shape
            (windows,).
    """
    befores, afters = ([end[side] for end in ends] for side in (0, 1))
    before_lengths, after_lengths = (np.array([len(end) for end in side], dtype=np.int64) for side in (befores, afters))
    sizes = before_lengths[item] + body + after_lengths[item]
    starts = np.cumsum(sizes) - sizes
    body_starts = starts + before_lengths[item]
    windows = np.empty(sizes.sum(), dtype=np.int64)
    windows[ranges(body_starts, body)] = ids[ranges(first, body)]
    for side, lengths, side_starts in ((befores, before_lengths, starts), (afters, after_lengths, body_starts + body)):
        flat = np.fromiter(chain.from_iterable(side), np.int64, lengths.sum())
        windows[ranges(side_starts, lengths[item])] = flat[ranges((np.cumsum(lengths) - lengths)[item], lengths[item])]
    return windows, sizes


def most_central(count: int, starts: np.ndarray, size: int) -> np.ndarray:
    """For each subword the index of the window in which it is farthest from the window's edges.

    Args:
        count (int): Subwords of the text.
        starts (np.ndarray): See `window_starts`.
        size (int): Subwords that fit in a window.
    """
    middles = (starts[1:] + starts[:-1] + size) / 2  # halfway through the overlap of two neighbours
    return np.searchsorted(middles, np.arange(count) + 0.5, side="right")


def window_of_pairs(token: np.ndarray, subword: np.ndarray, starts: np.ndarray, size: int, count: int) -> np.ndarray:
    """For each (token, subword) pair of a text, the window that the subword's vector is read from.

    All subwords of a token are read from the window in which its middle one is most central, if they are in that window.

    Args:
        token (np.ndarray): Shape (pairs,), ascending.
        subword (np.ndarray): Shape (pairs,).
        starts (np.ndarray): See `window_starts`.
        size (int): Subwords that fit in a window.
        count (int): Subwords of the text.

    Returns:
        np.ndarray: Shape (pairs,).
    """
    best = most_central(count, starts, size)
    bounds = np.flatnonzero(np.append(True, token[1:] != token[:-1]))
    lengths = np.diff(np.append(bounds, len(token)))
    middle = np.repeat(subword[bounds + lengths // 2], lengths)
    window = best[middle]
    inside = (subword >= starts[window]) & (subword < starts[window] + size)
    return np.where(inside, window, best[subword])
