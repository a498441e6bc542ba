"""In which order the tasks of an epoch come. Pure Python."""

import random
from typing import Callable, Dict, List

from mtl.errors import check_range

# Examples of each task in an epoch, and the order's own generator -> the task of each example.
Order = Callable[[Dict[str, int], random.Random], List[str]]


def shuffled_order() -> Order:
    """Order `mtl.ShuffledOrder.v1`: the task of each example is drawn at random from what is left."""

    def order(counts: Dict[str, int], rng: random.Random) -> List[str]:
        tasks = [task for task, count in counts.items() for _ in range(count)]
        rng.shuffle(tasks)
        return tasks

    return order


def round_robin_order() -> Order:
    """Order `mtl.RoundRobinOrder.v1`: each task is spread over the epoch as evenly as possible, without randomness."""

    def order(counts: Dict[str, int], rng: random.Random) -> List[str]:
        positions = [((i + 0.5) / count, task) for task, count in counts.items() for i in range(count)]
        return [task for _, task in sorted(positions)]

    return order


def block_order(size: int = 16) -> Order:
    """Order `mtl.BlockOrder.v1`: blocks of examples of one task, in random order.

    For batches of one task each, together with a batcher of the same size (`spacy.batch_by_sequence.v1`).

    Args:
        size (int): Examples in a block. The last block of a task may be smaller.
    """
    check_range("block_order.size", size, 1)

    def order(counts: Dict[str, int], rng: random.Random) -> List[str]:
        blocks = [[task] * min(size, count - first) for task, count in counts.items() for first in range(0, count, size)]
        rng.shuffle(blocks)
        return [task for block in blocks for task in block]

    return order
