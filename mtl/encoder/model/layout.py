"""Texts and prompts to windows of subwords, and where in them each token's vector is read. No torch, no spaCy."""

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from mtl.encoder.model.subwords import CachedTokenizer, Subwords, TokenizedText, align, ranges
from mtl.encoder.model.windows import Template, capacity, surrounded, window_of_pairs, window_starts
from mtl.errors import UserError
from mtl.timing import stage


@dataclass
class Windows:
    """Windows over several items, and where in them each token's vector is read.

    Args:
        ids (np.ndarray): Subword ids of all windows, one window after another.
        sizes (np.ndarray): Shape (windows,): subwords in each.
        prompt_sizes (np.ndarray): Shape (windows,): how many of its first subwords belong to the prompt's segment.
        item (np.ndarray): Shape (windows,): the item each is over.
        pairs (np.ndarray): Shape (pairs, 3): a token, counted over all items; a window; a position in it.
    """

    ids: np.ndarray
    sizes: np.ndarray
    prompt_sizes: np.ndarray
    item: np.ndarray
    pairs: np.ndarray

    def rows(self, selected: np.ndarray) -> np.ndarray:
        """Where in `ids` the subwords of these windows are."""
        return ranges((np.cumsum(self.sizes) - self.sizes)[selected], self.sizes[selected])

    def mask(self, selected: np.ndarray, longest: int) -> np.ndarray:
        """Shape (selected, longest), bool: where a padded batch of these windows has subwords."""
        return np.arange(longest) < self.sizes[selected][:, None]

    def words(self) -> np.ndarray:
        """For each subword, which token of its window it belongs to, from 1; 0 if that token is read in another window."""
        token, window, position = self.pairs.T
        first = np.full(len(self.sizes), np.iinfo(np.int64).max)
        np.minimum.at(first, window, token)
        words = np.zeros(self.sizes.sum(), dtype=np.int64)
        words[np.cumsum(self.sizes)[window] - self.sizes[window] + position] = token - first[window] + 1
        return words


@dataclass
class _Alignment:
    """Items cut into subwords, and which of those each token has. Pairs of token and subword, one item after another."""

    subwords: Subwords  # of the distinct texts
    text: np.ndarray  # (items,): which of those
    token: np.ndarray  # (pairs,): counted from the item's start
    subword: np.ndarray  # (pairs,): counted from the item's start
    counts: np.ndarray  # (items,): pairs of each


class WindowLayout:
    """Cuts texts into windows for an encoder.

    Args:
        tokenizer (PreTrainedTokenizerFast): The encoder's tokenizer.
        template (Template): The special tokens around a text and a prompt.
        window (int): Subwords in a window, special tokens and prompt included.
        overlap (int): Subwords that neighbouring windows share.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, template: Template, window: int, overlap: int) -> None:
        self.tokenizer, self.template, self.window, self.overlap = tokenizer, template, window, overlap
        self._tokenize = CachedTokenizer(tokenizer.backend_tokenizer)

    def __call__(self, docs: Sequence[TokenizedText], prompts: Optional[Sequence[str]]) -> Tuple[Windows, np.ndarray]:
        """Lay out the items.

        Args:
            docs (Sequence[TokenizedText]): A document for each item.
            prompts (Optional[Sequence[str]]): A prompt for each item, if there are prompts.

        Returns:
            Tuple[Windows, np.ndarray]: The windows; for each token of all items, whether it has subwords.

        Raises:
            UserError: A prompt is empty, or leaves too little room in the window.
        """
        alignment = self._align(docs)
        prompt_ids = self._prompt_ids(prompts) if prompts is not None else [[]] * len(docs)
        ends = [self.template.ends(prompt) for prompt in prompt_ids]
        first, body, window_counts, window, position = self._cut(alignment, prompt_ids, prompts, ends)
        item = np.repeat(np.arange(len(docs)), window_counts)
        ids, sizes = surrounded(alignment.subwords.ids, first, body, ends, item)
        prompt_sizes = np.array([len(before) if prompt else 0 for prompt, (before, _) in zip(prompt_ids, ends)], dtype=np.int64)
        lengths = np.array([len(doc.starts) for doc in docs], dtype=np.int64)
        token = alignment.token + np.repeat(np.cumsum(lengths) - lengths, alignment.counts)
        aligned = np.zeros(lengths.sum(), dtype=bool)
        aligned[token] = True
        return Windows(ids, sizes, prompt_sizes[item], item, np.stack([token, window, position], 1)), aligned

    def room(self, prompt: str) -> int:
        """How many subwords of text fit in a window beside a prompt."""
        ids = self.tokenizer.backend_tokenizer.encode(prompt, add_special_tokens=False).ids
        return self.window - self.template.specials(bool(ids)) - len(ids)

    def _cut(
        self,
        alignment: _Alignment,
        prompt_ids: Sequence[Sequence[int]],
        prompts: Optional[Sequence[str]],
        ends: Sequence[Tuple[List[int], List[int]]],
    ) -> Tuple[np.ndarray, np.ndarray, List[int], np.ndarray, np.ndarray]:
        """The first subword and the length of each window's text; windows of each item; window and position of each pair."""
        first_subword = (np.cumsum(alignment.subwords.counts) - alignment.subwords.counts)[alignment.text]
        window, position = np.zeros_like(alignment.subword), alignment.subword.copy()
        stops = np.cumsum(alignment.counts)
        firsts: List[np.ndarray] = []
        bodies: List[np.ndarray] = []
        windows_before = 0
        for item, count in enumerate(alignment.subwords.counts[alignment.text].tolist()):
            prompt, pairs = prompt_ids[item], slice(stops[item] - alignment.counts[item], stops[item])
            specials = self.template.specials(bool(prompt))
            size = capacity(self.window, specials, len(prompt), prompts[item] if prompts else "")
            starts = window_starts(count, size, self.overlap)
            window[pairs] = windows_before
            position[pairs] += len(ends[item][0])
            if len(starts) > 1:
                nearest = window_of_pairs(alignment.token[pairs], alignment.subword[pairs], starts, size, count)
                window[pairs] += nearest
                position[pairs] -= starts[nearest]
            firsts.append(starts + first_subword[item])
            bodies.append(np.minimum(count - starts, size))
            windows_before += len(starts)
        first, body = (np.concatenate(arrays) if arrays else np.zeros(0, np.int64) for arrays in (firsts, bodies))
        return first, body, [len(starts) for starts in firsts], window, position

    def _align(self, docs: Sequence[TokenizedText]) -> _Alignment:
        """Tokenize and align. A document that occurs with several prompts is tokenized once."""
        distinct = {id(doc): doc for doc in docs}
        places = {key: i for i, key in enumerate(distinct)}
        text = np.array([places[id(doc)] for doc in docs], dtype=np.int64)
        unique = list(distinct.values())
        with stage("tokenize"):
            subwords = self._tokenize([doc.text for doc in unique])
        of_token, of_subword = align(unique, subwords)
        lengths = np.array([len(doc.starts) for doc in unique], dtype=np.int64)
        first_token = np.cumsum(lengths) - lengths
        first_subword = np.cumsum(subwords.counts) - subwords.counts
        bounds: np.ndarray = np.searchsorted(of_token, np.append(first_token, lengths.sum()))  # type: ignore[assignment]
        counts = np.diff(bounds)[text]
        rows = ranges(bounds[:-1][text], counts)
        token = of_token[rows] - np.repeat(first_token[text], counts)
        subword = of_subword[rows] - np.repeat(first_subword[text], counts)
        return _Alignment(subwords, text, token, subword, counts)

    def _prompt_ids(self, prompts: Sequence[str]) -> List[List[int]]:
        encodings = self.tokenizer.backend_tokenizer.encode_batch(list(prompts), add_special_tokens=False)
        for prompt, encoding in zip(prompts, encodings):
            if not encoding.ids:
                raise UserError(f"the question {prompt!r} is empty for the tokenizer")
        return [encoding.ids for encoding in encodings]
