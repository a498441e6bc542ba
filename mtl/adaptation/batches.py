"""Masked batches, each determined by its number alone, so that a run can resume at any step. Pure torch."""

import math
from bisect import bisect_left
from dataclasses import replace
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from mtl.encoder.model.masking import MaskedBatch, MaskSettings, mask

ORDER, MASKS, DROPOUT, EVALUATION, REPLAY = range(5)  # what random numbers are drawn for; each has its own seeds
EVALUATION_MLM_PROBABILITY = 0.15


class BlockBatch(NamedTuple):
    """Masked blocks of one forward pass.

    Args:
        masked (MaskedBatch): The blocks and what is to be predicted.
        attention_mask (Tensor): 1 for subwords, 0 for padding. Shape (blocks, block_size).
    """

    masked: MaskedBatch
    attention_mask: Tensor

    def to(self, device: torch.device) -> "BlockBatch":
        """The batch on a device."""
        masked = MaskedBatch(self.masked.input_ids.to(device), self.masked.selected.to(device), self.masked.targets.to(device))
        return BlockBatch(masked, self.attention_mask.to(device))


def seed_of(seed: int, purpose: int, number: int = 0) -> int:
    """The seed for one purpose (`ORDER`, ...) at one step or epoch of a run."""
    return int(np.random.SeedSequence([seed, purpose, number]).generate_state(1, np.uint64)[0] >> 1)


def _generator(seed: int, purpose: int, number: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(seed, purpose, number))


class TrainingBatches:
    """An endless sequence of batches: every block once an epoch, in a new order and with new masks each time.

    Args:
        blocks (Dataset): Domain text, as in `Corpus`.
        batch_size (int): Blocks of domain text in a batch. One that an epoch does not fill goes on with the next, since in a
            smaller batch each word would count more.
        masks (MaskSettings): What to mask.
        pad_id (int): The id of padding; -1 if there is none.
        seed (int): Seed of order and masks.
        replay (Optional[Dataset]): Blocks of general text, which every batch gets some of in addition, in epochs of their own.
        replay_ratio (float): Fraction of general text in the batches.
    """

    def __init__(
        self, blocks: Dataset, batch_size: int, masks: MaskSettings, pad_id: int, seed: int, replay: Optional[Dataset] = None,
        replay_ratio: float = 0.0,
    ) -> None:  # fmt: skip
        self.blocks, self.masks, self.pad_id, self.seed = blocks, masks, pad_id, seed
        self.batch_size = min(batch_size, len(blocks))
        self.replay = replay
        self.replayed_per_batch = self.batch_size * replay_ratio / (1 - replay_ratio) if replay is not None else 0.0  # in blocks
        self._orders: Dict[int, Tuple[int, Tensor]] = {}  # purpose -> epoch, its order

    def __getitem__(self, number: int) -> BlockBatch:
        """The batch of that number, counted from 0 over all epochs."""
        domain = range(self.domain_blocks_before(number), self.domain_blocks_before(number + 1))
        parts = [_tensors(self.blocks, self._rows(ORDER, domain, len(self.blocks)))]
        if self.replay is not None:
            general = range(self._replayed_before(number), self._replayed_before(number + 1))
            if general:
                parts.append(_tensors(self.replay, self._rows(REPLAY, general, len(self.replay))))
        subwords, words = (torch.cat(part) for part in zip(*parts))
        return _masked(subwords, words, self.masks, self.pad_id, _generator(self.seed, MASKS, number))

    def _rows(self, purpose: int, indices: range, size: int) -> List[int]:
        """The rows at these places of a sequence of epochs, each of which has all rows in another order."""
        return [int(self._order(purpose, epoch, size)[position]) for epoch, position in (divmod(i, size) for i in indices)]

    def _order(self, purpose: int, epoch: int, size: int) -> Tensor:
        """The order of the rows in an epoch."""
        cached = self._orders.get(purpose)
        if cached is None or cached[0] != epoch:
            cached = self._orders[purpose] = epoch, torch.randperm(size, generator=_generator(self.seed, purpose, epoch))
        return cached[1]

    def _replayed_before(self, number: int) -> int:
        return math.floor(number * self.replayed_per_batch + 1e-9)

    def domain_blocks_before(self, number: int) -> int:
        """Number of blocks of domain text in the batches before that number."""
        return number * self.batch_size

    def blocks_before(self, number: int) -> int:
        """Number of blocks, of domain and general text, in the batches before that number."""
        return self.domain_blocks_before(number) + self._replayed_before(number)

    def batches_for(self, epochs: float, blocks: float = math.inf) -> int:
        """The fewest batches that hold so many epochs of domain text, or so many blocks in all if that is fewer."""
        for_epochs = math.ceil(epochs * len(self.blocks) / self.batch_size - 1e-9)
        return max(1, bisect_left(range(for_epochs), blocks, key=self.blocks_before))


def shard_of(batch: BlockBatch, rank: int, world_size: int) -> Tuple[BlockBatch, float]:
    """One rank's blocks of a batch, every `world_size`-th, and the weight of their loss.

    The mean over all ranks of the weighted losses is the loss of the batch. If there are fewer blocks than ranks, a rank without
    one gets the first block with weight 0.
    """
    if world_size == 1:
        return batch, 1.0
    masked = batch.masked
    rows = torch.arange(len(masked.input_ids)) % world_size == rank
    weight = 1.0 if rows.any() else 0.0
    if not weight:
        rows[0] = True
    targets = masked.targets[rows[masked.selected.nonzero()[:, 0]]]
    weight *= world_size * len(targets) / len(masked.targets)
    return BlockBatch(MaskedBatch(masked.input_ids[rows], masked.selected[rows], targets), batch.attention_mask[rows]), weight


def evaluation_batches(blocks: Dataset, count: int, batch_size: int, masks: MaskSettings, pad_id: int) -> List[BlockBatch]:
    """Batches of `count` blocks from all over the text, with the same masks every time, at the same rate in every run."""
    generator = _generator(0, EVALUATION)
    objective = "clm" if masks.objective == "clm" else "mlm"
    masks = replace(masks, mlm_probability=EVALUATION_MLM_PROBABILITY, objective=objective)
    rows = np.linspace(0, len(blocks) - 1, min(len(blocks), count)).astype(int)
    groups = np.array_split(rows, math.ceil(len(rows) / batch_size))
    return [_masked(*_tensors(blocks, group.tolist()), masks, pad_id, generator) for group in groups]


def _tensors(blocks: Dataset, rows: List[int]) -> Tuple[Tensor, Tensor]:
    """Subword ids and word numbers of some blocks. Shape (rows, block_size) each."""
    columns = blocks[rows]
    subwords, words = (torch.from_numpy(np.stack(list(columns[name])).astype(np.int64)) for name in ("subwords", "words"))
    return subwords, words


def _masked(subwords: Tensor, words: Tensor, masks: MaskSettings, pad_id: int, generator: torch.Generator) -> BlockBatch:
    return BlockBatch(mask(subwords, words, masks, generator), (subwords != pad_id).long())


def count_subwords(blocks: Dataset, vocab_size: int) -> Tensor:
    """How often each subword occurs. Shape (vocab_size,)."""
    counts = np.zeros(vocab_size, np.int64)
    for batch in blocks.iter(2000):
        counts += np.bincount(np.concatenate(list(batch["subwords"])), minlength=vocab_size)
    return torch.from_numpy(counts)
