"""Which subwords of a block are to be predicted: whole masked words, masked spans of words, or the next subword. Pure torch."""

import math
from dataclasses import dataclass
from typing import Callable, Dict

import torch
from torch import Tensor

SPAN_END_PROBABILITY, MAX_SPAN_WORDS = 0.2, 10


@dataclass(frozen=True)
class MaskSettings:
    """What to select for prediction, and how to hide it.

    Args:
        mask_id (int): The id of the tokenizer's mask token; unused by "clm".
        vocab_size (int): Random replacements are drawn from the ids below it.
        mlm_probability (float): Fraction of words to select.
        objective (str): "mlm" (whole words), "span_mlm" (spans of words) or "clm" (the next subword).
        mask_fraction (float): Fraction of the selected subwords that the mask token replaces.
        random_fraction (float): Fraction of the selected subwords that a random subword replaces. The rest stays as it is.
    """

    mask_id: int
    vocab_size: int
    mlm_probability: float = 0.15
    objective: str = "mlm"
    mask_fraction: float = 0.8
    random_fraction: float = 0.1


@dataclass
class MaskedBatch:
    """Blocks with some subwords hidden, and what is to be predicted.

    Args:
        input_ids (Tensor): Subword ids with masks. Shape (blocks, block_size).
        selected (Tensor): Where a prediction is made, bool. Shape (blocks, block_size).
        targets (Tensor): The ids to predict there, in row-major order. Shape (selected positions,).
    """

    input_ids: Tensor
    selected: Tensor
    targets: Tensor


def mask(subwords: Tensor, words: Tensor, settings: MaskSettings, generator: torch.Generator) -> MaskedBatch:
    """Select and hide subwords as `settings.objective` says.

    Args:
        subwords (Tensor): Subword ids. Shape (blocks, block_size).
        words (Tensor): The word of each subword, counted from 1 within its block; 0 is never selected. Same shape.
        settings (MaskSettings): What to select, and how to hide it.
        generator (torch.Generator): Where all draws come from.
    """
    return MASKERS[settings.objective](subwords, words, settings, generator)


def mask_words(subwords: Tensor, words: Tensor, settings: MaskSettings, generator: torch.Generator) -> MaskedBatch:
    """Select whole words, each with the same probability, and hide all their subwords (80/10/10 as in BERT).

    In a block where no word was drawn, one word is selected. Source: Devlin et al. 2019 and their whole-word-masking release.
    """
    draws = torch.rand(words.shape[0], int(words.max()) + 1, generator=generator)
    fallback = torch.zeros_like(draws, dtype=torch.bool).scatter_(1, _random_word(words, generator)[:, None], True)
    is_drawn = draws < settings.mlm_probability
    word_selected = is_drawn | fallback & ~is_drawn[:, 1:].any(1, keepdim=True)
    selected = word_selected.gather(1, words) & (words > 0)
    return _hide(subwords, selected, torch.rand(subwords.shape, generator=generator), settings, generator)


def mask_spans(subwords: Tensor, words: Tensor, settings: MaskSettings, generator: torch.Generator) -> MaskedBatch:
    """Select spans of words until `mlm_probability` of a block's words are selected; all subwords of a span are hidden alike.

    Source: Joshi et al. 2020, SpanBERT: lengths are drawn from a geometric distribution with p = 0.2, of at most 10.
    """
    word_counts = words.max(1).values.tolist()
    word_draws = torch.full((len(word_counts), max(word_counts) + 1), 2.0)  # below 1: selected, and how it is hidden
    for block, word_count in enumerate(word_counts):
        remaining = max(1, round(settings.mlm_probability * word_count))
        while remaining > 0:
            length_draw, start_draw, hiding_draw = torch.rand(3, generator=generator).tolist()
            drawn_length = 1 + int(math.log(1 - length_draw) / math.log(1 - SPAN_END_PROBABILITY))
            length = min(drawn_length, MAX_SPAN_WORDS, remaining)
            start = 1 + int(start_draw * max(1, word_count - length + 1))
            span = word_draws[block, start : start + length]
            remaining -= int((span > 1).sum())
            span[span > 1] = hiding_draw
    subword_draws = word_draws.gather(1, words)
    return _hide(subwords, (subword_draws < 1) & (words > 0), subword_draws, settings, generator)


def select_next_subwords(subwords: Tensor, words: Tensor, settings: MaskSettings, generator: torch.Generator) -> MaskedBatch:
    """Hide nothing; at each subword predict the one after it, if that belongs to a word. For decoders."""
    selected = torch.zeros_like(words, dtype=torch.bool)
    selected[:, :-1] = words[:, 1:] > 0
    return MaskedBatch(subwords, selected, subwords.roll(-1, 1)[selected])


def _hide(subwords: Tensor, selected: Tensor, draws: Tensor, settings: MaskSettings, generator: torch.Generator) -> MaskedBatch:
    """Hide the selected subwords. `draws`, from 0 to 1, (blocks, block_size), decide between mask, random subword and neither."""
    random_subwords = torch.randint(settings.vocab_size, subwords.shape, generator=generator)
    input_ids = subwords.clone()
    input_ids[selected & (draws < settings.mask_fraction)] = settings.mask_id
    swapped = selected & (draws >= settings.mask_fraction) & (draws < settings.mask_fraction + settings.random_fraction)
    input_ids[swapped] = random_subwords[swapped]
    return MaskedBatch(input_ids, selected, subwords[selected])


def _random_word(words: Tensor, generator: torch.Generator) -> Tensor:
    """A random word of each block. Shape (blocks,)."""
    word_counts = words.max(1).values.clamp(min=1)
    return (torch.rand(word_counts.shape, generator=generator) * word_counts).long() + 1


MASKERS: Dict[str, Callable[[Tensor, Tensor, MaskSettings, torch.Generator], MaskedBatch]] = {
    "mlm": mask_words,
    "span_mlm": mask_spans,
    "clm": select_next_subwords,
}
