"""Whole-word masking. Pure torch."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MaskSettings:
    mask_id: int
    vocab_size: int
    rate: float = 0.15  # share of words
    masked: float = 0.8  # of those: replaced by [MASK]
    random: float = 0.1  # of those: replaced by a random wordpiece; the rest stays


@dataclass
class MaskedBatch:
    pieces: Tensor  # (blocks, length), with masks
    chosen: Tensor  # (blocks, length), bool: where a prediction is asked for
    targets: Tensor  # (chosen,), the original wordpieces


def mask_words(pieces: Tensor, words: Tensor, settings: MaskSettings, generator: torch.Generator) -> MaskedBatch:
    """Choose whole words, each with probability `rate`, and hide all their wordpieces (80/10/10 as in BERT).

    pieces, words: (blocks, length); words counts from 1 within the block, 0 is never chosen.
    Source: Devlin et al. 2019 and their whole-word-masking release. A block where nothing was drawn gives one word.
    """
    draws = torch.rand(words.shape[0], int(words.max()) + 1, generator=generator)
    lucky = torch.zeros_like(draws, dtype=torch.bool).scatter_(1, _one_word(words, generator)[:, None], True)
    of_word = (draws < settings.rate) | lucky & ~(draws[:, 1:] < settings.rate).any(1, keepdim=True)
    chosen = of_word.gather(1, words) & (words > 0)
    kind = torch.rand(pieces.shape, generator=generator)
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
