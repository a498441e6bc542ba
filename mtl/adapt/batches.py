"""Masked batches, each a function of its step alone, so that a run can go on from any step. Pure torch."""

import math
from bisect import bisect_left
from dataclasses import replace
from typing import Dict, List, Optional, Tuple

import numpy as np
import torch
from datasets import Dataset

from mtl.encoder.masking import MaskedBatch, MaskSettings, mask

ORDER, MASKS, DROPOUT, EVALUATION, REPLAY = range(5)  # kinds of chance, each with its own seeds
EVALUATION_RATE = 0.15
Batch = Tuple[MaskedBatch, torch.Tensor]  # with the attention mask, (blocks, length)


def seed_of(seed: int, kind: int, number: int = 0) -> int:
    """A seed for one kind of chance at one step or pass of a run."""
    return int(np.random.SeedSequence([seed, kind, number]).generate_state(1, np.uint64)[0] >> 1)


def _generator(seed: int, kind: int, number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(seed, kind, number))


class Batches:
    """The batches of shuffled passes without end; every block is seen once a pass, with masks drawn anew each time.

    blocks: as `Corpus` has them. size: blocks of a batch; the last of a pass may be smaller. replay: blocks of general text, of
    which every batch gets some more, so that they are `share` of all, in passes of their own.
    """

    def __init__(
        self, blocks: Dataset, size: int, masks: MaskSettings, pad_id: int, seed: int, replay: Optional[Dataset] = None,
        share: float = 0.0,
    ) -> None:  # fmt: skip
        self.blocks, self.size, self.masks, self.pad_id, self.seed = blocks, min(size, len(blocks)), masks, pad_id, seed
        self.per_pass = math.ceil(len(blocks) / self.size)
        self.replay = replay
        self.extra = self.size * share / (1 - share) if replay is not None else 0.0  # blocks of general text a batch
        self._orders: Dict[int, Tuple[int, torch.Tensor]] = {}

    def __getitem__(self, number: int) -> Batch:
        """The batch of that number, counted from 0 over all passes."""
        turn, place = divmod(number, self.per_pass)
        rows = self._order(ORDER, turn, len(self.blocks))[place * self.size : (place + 1) * self.size]
        parts = [_arrays(self.blocks, rows.tolist())]
        if self.replay is not None and (again := self._replayed(number)):
            parts.append(_arrays(self.replay, again))
        pieces, words = (torch.cat(part) for part in zip(*parts))
        return _masked(pieces, words, self.masks, self.pad_id, _generator(self.seed, MASKS, number))

    def _replayed(self, number: int) -> List[int]:
        """The rows of general text in the batch of that number."""
        assert self.replay is not None
        places = [divmod(i, len(self.replay)) for i in range(self._replayed_before(number), self._replayed_before(number + 1))]
        return [int(self._order(REPLAY, turn, len(self.replay))[place]) for turn, place in places]

    def _order(self, kind: int, turn: int, size: int) -> torch.Tensor:
        known = self._orders.get(kind)
        if known is None or known[0] != turn:
            known = self._orders[kind] = turn, torch.randperm(size, generator=_generator(self.seed, kind, turn))
        return known[1]

    def _replayed_before(self, number: int) -> int:
        return math.floor(number * self.extra + 1e-9)

    def domain_blocks_before(self, number: int) -> int:
        """How many blocks of domain text the batches before that number hold."""
        turn, place = divmod(number, self.per_pass)
        return turn * len(self.blocks) + place * self.size

    def blocks_before(self, number: int) -> int:
        """How many blocks they hold in all."""
        return self.domain_blocks_before(number) + self._replayed_before(number)

    def batches_for(self, passes: float, blocks: float = math.inf) -> int:
        """The fewest batches that hold so many passes over the domain text, or so many blocks in all if that is sooner."""
        most = math.ceil(passes * self.per_pass)
        ends = (
            bisect_left(range(most), passes * len(self.blocks), key=self.domain_blocks_before),
            bisect_left(range(most), blocks, key=self.blocks_before),
        )
        return max(1, min(ends))


def moved(batch: Batch, device: torch.device) -> Batch:
    masked, attention = batch
    return MaskedBatch(masked.pieces.to(device), masked.chosen.to(device), masked.targets.to(device)), attention.to(device)


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
    kind = "next" if masks.kind == "next" else "words"
    masks = replace(masks, rate=EVALUATION_RATE, kind=kind)
    rows = np.linspace(0, len(blocks) - 1, min(len(blocks), count)).astype(int)
    groups = np.array_split(rows, math.ceil(len(rows) / size))
    return [_masked(*_arrays(blocks, group.tolist()), masks, pad_id, generator) for group in groups]


def _arrays(blocks: Dataset, rows: List[int]) -> Tuple[torch.Tensor, torch.Tensor]:
    """pieces, words: (rows, length)."""
    chosen = blocks[rows]
    pieces, words = (torch.from_numpy(np.stack(list(chosen[column])).astype(np.int64)) for column in ("pieces", "words"))
    return pieces, words


def _masked(pieces: torch.Tensor, words: torch.Tensor, masks: MaskSettings, pad_id: int, generator: torch.Generator) -> Batch:
    return mask(pieces, words, masks, generator), (pieces != pad_id).long()


def count_pieces(blocks: Dataset, vocabulary: int) -> torch.Tensor:
    """(vocabulary,), how often each wordpiece occurs."""
    counts = np.zeros(vocabulary, np.int64)
    for batch in blocks.iter(2000):
        counts += np.bincount(np.concatenate(list(batch["pieces"])), minlength=vocabulary)
    return torch.from_numpy(counts)
