"""What is predicted of a block: masked words, masked spans of words, or the next wordpiece. Pure torch."""

import math
from dataclasses import dataclass
from typing import Callable, Dict

import torch
from torch import Tensor

SPAN_END, LONGEST_SPAN = 0.2, 10  # probability that a span ends with a word; words


@dataclass(frozen=True)
class MaskSettings:
    mask_id: int
    vocab_size: int
    rate: float = 0.15  # share of words
    kind: str = "words"  # or another of `KINDS`
    masked: float = 0.8  # of those: replaced by [MASK]
    random: float = 0.1  # of those: replaced by a random wordpiece; the rest stays


@dataclass
class MaskedBatch:
    pieces: Tensor  # (blocks, length), with masks
    chosen: Tensor  # (blocks, length), bool: where a prediction is asked for
    targets: Tensor  # (chosen,), the original wordpieces


def mask(pieces: Tensor, words: Tensor, settings: MaskSettings, generator: torch.Generator) -> MaskedBatch:
    """What `settings.kind` asks for. pieces, words: (blocks, length); words counts from 1 within the block, 0 is never chosen."""
    return KINDS[settings.kind](pieces, words, settings, generator)


def mask_words(pieces: Tensor, words: Tensor, settings: MaskSettings, generator: torch.Generator) -> MaskedBatch:
    """Choose whole words, each with probability `rate`, and hide all their wordpieces (80/10/10 as in BERT).

    Source: Devlin et al. 2019 and their whole-word-masking release. A block where nothing was drawn gives one word.
    """
    draws = torch.rand(words.shape[0], int(words.max()) + 1, generator=generator)
    lucky = torch.zeros_like(draws, dtype=torch.bool).scatter_(1, _one_word(words, generator)[:, None], True)
    of_word = (draws < settings.rate) | lucky & ~(draws[:, 1:] < settings.rate).any(1, keepdim=True)
    chosen = of_word.gather(1, words) & (words > 0)
    return _hide(pieces, chosen, torch.rand(pieces.shape, generator=generator), settings, generator)


def mask_spans(pieces: Tensor, words: Tensor, settings: MaskSettings, generator: torch.Generator) -> MaskedBatch:
    """Choose spans of words until `rate` of a block's words are chosen; a span's wordpieces are all masked, swapped or left.

    Source: Joshi et al. 2020, SpanBERT: lengths are drawn from a geometric distribution with p = 0.2, of at most 10.
    """
    counts = words.max(1).values.tolist()
    of_word = torch.full((len(counts), max(counts) + 1), 2.0)  # below 1: chosen, and how it is hidden
    for block, count in enumerate(counts):
        left = max(1, round(settings.rate * count))
        while left > 0:
            draw, place, kind = torch.rand(3, generator=generator).tolist()
            length = min(1 + int(math.log(1 - draw) / math.log(1 - SPAN_END)), LONGEST_SPAN, left)
            start = 1 + int(place * max(1, count - length + 1))
            span = of_word[block, start : start + length]
            left -= int((span > 1).sum())
            span[span > 1] = kind
    of_piece = of_word.gather(1, words)
    return _hide(pieces, (of_piece < 1) & (words > 0), of_piece, settings, generator)


def next_pieces(pieces: Tensor, words: Tensor, settings: MaskSettings, generator: torch.Generator) -> MaskedBatch:
    """Nothing is hidden; at each wordpiece the one after it is predicted, if it is of a word: for decoders."""
    chosen = torch.zeros_like(words, dtype=torch.bool)
    chosen[:, :-1] = words[:, 1:] > 0
    return MaskedBatch(pieces, chosen, pieces.roll(-1, 1)[chosen])


def _hide(pieces: Tensor, chosen: Tensor, kind: Tensor, settings: MaskSettings, generator: torch.Generator) -> MaskedBatch:
    """kind: (blocks, length), from 0 to 1, how a chosen wordpiece is hidden: masked, swapped for a random one, or left."""
    noise = torch.randint(settings.vocab_size, pieces.shape, generator=generator)
    hidden = pieces.clone()
    hidden[chosen & (kind < settings.masked)] = settings.mask_id
    swapped = chosen & (kind >= settings.masked) & (kind < settings.masked + settings.random)
    hidden[swapped] = noise[swapped]
    return MaskedBatch(hidden, chosen, pieces[chosen])


def _one_word(words: Tensor, generator: torch.Generator) -> Tensor:
    """One word of each block, drawn at random: (blocks,)."""
    last = words.max(1).values.clamp(min=1)
    return (torch.rand(last.shape, generator=generator) * last).long() + 1


KINDS: Dict[str, Callable[[Tensor, Tensor, MaskSettings, torch.Generator], MaskedBatch]] = {
    "words": mask_words,
    "spans": mask_spans,
    "next": next_pieces,
}
