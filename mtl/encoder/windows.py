"""Cutting wordpieces into windows. No torch, no spaCy."""

from dataclasses import dataclass
from itertools import chain
from typing import List, Sequence, Tuple

import numpy as np

from mtl.encoder.wordpieces import ranges
from mtl.errors import UserError

MIN_CAPACITY = 16  # wordpieces of text that a window must leave beside a prompt


@dataclass(frozen=True)
class Template:
    """The special wordpieces around a text, and around a prompt and a text: `prefix prompt middle text suffix`.

    `summary_last` says where the sequence's own vector is read: at its first wordpiece ([CLS]), or, for a decoder, which has
    no [CLS] and sees to the left only, at its last.
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
    def from_tokenizer(cls, tokenizer) -> "Template":
        """Read it off the tokenizer's own post-processor, so that any fast tokenizer will do."""
        single = tokenizer.backend_tokenizer.encode("a")
        pair = tokenizer.backend_tokenizer.encode("a", "b")
        first = [i for i, part in enumerate(pair.sequence_ids) if part == 0]
        second = [i for i, part in enumerate(pair.sequence_ids) if part == 1]
        body = [i for i, special in enumerate(single.special_tokens_mask) if not special]
        prefix = tuple(pair.ids[: first[0]])
        middle = tuple(pair.ids[first[-1] + 1 : second[0]])
        suffix = tuple(pair.ids[second[-1] + 1 :])
        single_prefix, single_suffix = tuple(single.ids[: body[0]]), tuple(single.ids[body[-1] + 1 :])
        if not prefix and not suffix:  # a decoder: its end-of-text piece stands between and closes
            end = tokenizer.eos_token_id
            middle = middle or (() if end is None else (end,))
            suffix = single_suffix = () if end is None else (end,)
        types = pair.type_ids[first[0]], pair.type_ids[second[0]]
        return cls(prefix, middle, suffix, single_prefix, single_suffix, *types, summary_last=not prefix)

    def specials(self, prompted: bool) -> int:
        if prompted:
            return len(self.prefix) + len(self.middle) + len(self.suffix)
        return len(self.single_prefix) + len(self.single_suffix)

    def ends(self, prompt: Sequence[int]) -> Tuple[List[int], List[int]]:
        """The wordpieces before and after the text, given the prompt's (none: an unprompted text)."""
        if len(prompt):
            return [*self.prefix, *prompt, *self.middle], list(self.suffix)
        return list(self.single_prefix), list(self.single_suffix)


def capacity(window: int, specials: int, prompt: int, text: str = "") -> int:
    """How many wordpieces of text fit a window beside a prompt. RAISES (UserError): fewer than `MIN_CAPACITY`."""
    room = window - specials - prompt
    if room < MIN_CAPACITY:
        raise UserError(
            f"the question has {prompt} wordpieces, too many for window = {window} (at most "
            f"{window - specials - MIN_CAPACITY}): {text[:80]!r}... Shorten it, or set a longer window for the transformer"
        )
    return room


def window_starts(count: int, size: int, overlap: int) -> np.ndarray:
    """First wordpieces of the windows over `count` wordpieces: one where they fit, else `overlap` shared by neighbours.

    The last window ends at the end, so that it too is full.
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
    """Windows over `ids`, `body` of them from `first` on, each between the ends of its item.

    first, body, item: (windows,). ends: of each item, the wordpieces before and after.
    RETURNS: the wordpieces of all windows, one window after another; (windows,), how many each has.
    """
    befores, afters = ([end[side] for end in ends] for side in (0, 1))
    lead, tail = (np.array([len(end) for end in side], dtype=np.int64) for side in (befores, afters))
    sizes = lead[item] + body + tail[item]
    starts = np.cumsum(sizes) - sizes
    found = np.empty(sizes.sum(), dtype=np.int64)
    found[ranges(starts + lead[item], body)] = ids[ranges(first, body)]
    for side, lengths, place in ((befores, lead, starts), (afters, tail, starts + lead[item] + body)):
        flat = np.fromiter(chain.from_iterable(side), np.int64, lengths.sum())
        found[ranges(place, lengths[item])] = flat[ranges((np.cumsum(lengths) - lengths)[item], lengths[item])]
    return found, sizes


def most_central(count: int, starts: np.ndarray, size: int) -> np.ndarray:
    """For each of `count` wordpieces, the index of the window in which it is farthest from the window's edges."""
    middles = (starts[1:] + starts[:-1] + size) / 2  # halfway through the overlap of two neighbours
    return np.searchsorted(middles, np.arange(count) + 0.5, side="right")


def window_of_pairs(token: np.ndarray, piece: np.ndarray, starts: np.ndarray, size: int, count: int) -> np.ndarray:
    """For each (token, piece) pair of one text, the window that the piece's vector is read from: (pairs,).

    All pieces of a token come from the window in which its middle piece is most central, where they lie in it.
    """
    best = most_central(count, starts, size)
    bounds = np.flatnonzero(np.append(True, token[1:] != token[:-1]))
    lengths = np.diff(np.append(bounds, len(token)))
    middle = np.repeat(piece[bounds + lengths // 2], lengths)
    window = best[middle]
    inside = (piece >= starts[window]) & (piece < starts[window] + size)
    return np.where(inside, window, best[piece])
