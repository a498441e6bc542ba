"""Masked batches, each a function of its step alone, so that a run can go on from any step. Pure torch."""

import math
from typing import List, Tuple

import numpy as np
import torch
from datasets import Dataset

from mtl.adapt.masking import MaskedBatch, MaskSettings, mask_words

ORDER, MASKS, DROPOUT, EVALUATION = range(4)  # kinds of chance, each with its own seeds
EVALUATION_RATE = 0.15
Batch = Tuple[MaskedBatch, torch.Tensor]  # with the attention mask, (blocks, length)


def seed_of(seed: int, kind: int, number: int = 0) -> int:
    """A seed for one kind of chance at one step or pass of a run."""
    return int(np.random.SeedSequence([seed, kind, number]).generate_state(1, np.uint64)[0] >> 1)


def _generator(seed: int, kind: int, number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(seed, kind, number))


class Batches:
    """The batches of shuffled passes without end; every block is seen once a pass, with masks drawn anew each time.

    blocks: as `Corpus` has them. size: blocks a batch; the last of a pass may be smaller.
    """

    def __init__(self, blocks: Dataset, size: int, masks: MaskSettings, pad_id: int, seed: int) -> None:
        self.blocks, self.size, self.masks, self.pad_id, self.seed = blocks, min(size, len(blocks)), masks, pad_id, seed
        self.per_pass = math.ceil(len(blocks) / self.size)
        self._order: Tuple[int, torch.Tensor] = (-1, torch.zeros(0))

    def __getitem__(self, number: int) -> Batch:
        """The batch of that number, counted from 0 over all passes."""
        turn, place = divmod(number, self.per_pass)
        if self._order[0] != turn:
            self._order = turn, torch.randperm(len(self.blocks), generator=_generator(self.seed, ORDER, turn))
        rows = self._order[1][place * self.size : (place + 1) * self.size]
        return _masked(self.blocks, rows.tolist(), self.masks, self.pad_id, _generator(self.seed, MASKS, number))

    def blocks_before(self, number: int) -> int:
        """How many blocks the batches before that number hold."""
        turn, place = divmod(number, self.per_pass)
        return turn * len(self.blocks) + place * self.size


def share_of(batch: Batch, number: int, count: int) -> Tuple[Batch, float]:
    """Every `count`-th block of a batch, from `number`, and its weight: weighted losses of all shares have the batch's as mean.

    Where there are fewer blocks than shares, a share without one is the first block, of weight 0.
    """
    if count == 1:
        return batch, 1.0
    masked, attention = batch
    own = torch.arange(len(masked.pieces)) % count == number
    weight = 1.0 if own.any() else 0.0
    if not weight:
        own[0] = True
    targets = masked.targets[own[masked.chosen.nonzero()[:, 0]]]
    weight *= count * len(targets) / len(masked.targets)
    return (MaskedBatch(masked.pieces[own], masked.chosen[own], targets), attention[own]), weight


def fixed_batches(blocks: Dataset, count: int, size: int, masks: MaskSettings, pad_id: int) -> List[Batch]:
    """Evaluation batches of `count` blocks from all over the text: the same masks every time, at the same rate in every run."""
    generator = _generator(0, EVALUATION)
    masks = MaskSettings(masks.mask_id, masks.vocab_size, rate=EVALUATION_RATE)
    rows = np.linspace(0, len(blocks) - 1, min(len(blocks), count)).astype(int)
    groups = np.array_split(rows, math.ceil(len(rows) / size))
    return [_masked(blocks, group.tolist(), masks, pad_id, generator) for group in groups]


def _masked(blocks: Dataset, rows: List[int], masks: MaskSettings, pad_id: int, generator: torch.Generator) -> Batch:
    chosen = blocks[rows]
    pieces, words = (torch.from_numpy(np.stack(list(chosen[column]))).long() for column in ("pieces", "words"))
    return mask_words(pieces, words, masks, generator), (pieces != pad_id).long()


def count_pieces(blocks: Dataset, vocabulary: int) -> torch.Tensor:
    """(vocabulary,), how often each wordpiece occurs."""
    counts = np.zeros(vocabulary, np.int64)
    for batch in blocks.iter(2000):
        counts += np.bincount(np.concatenate(list(batch["pieces"])), minlength=vocabulary)
    return torch.from_numpy(counts)
