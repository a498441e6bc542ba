"""In which order the tasks of an epoch come. Pure Python."""

import random
from typing import Callable, Dict, List

from mtl.errors import check_range

# Examples of each task in an epoch, and its own source of chance, to the task of each example.
Order = Callable[[Dict[str, int], random.Random], List[str]]


def shuffled() -> Order:
    """`mtl.Shuffled.v1`: every example's task drawn at random from what is left."""

    def order(counts: Dict[str, int], chance: random.Random) -> List[str]:
        found = [task for task, count in counts.items() for _ in range(count)]
        chance.shuffle(found)
        return found

    return order


def round_robin() -> Order:
    """`mtl.RoundRobin.v1`: each task as evenly spread over the epoch as its number of examples allows; no chance in it."""

    def order(counts: Dict[str, int], chance: random.Random) -> List[str]:
        places = [((i + 0.5) / count, task) for task, count in counts.items() for i in range(count)]
        return [task for _, task in sorted(places)]

    return order


def blocks(size: int = 16) -> Order:
    """`mtl.Blocks.v1`: blocks of `size` examples of one task, in random order; a task's last block may be smaller.

    For batches of one task each, with a batcher of that size (`spacy.batch_by_sequence.v1`).
    """
    check_range("blocks.size", size, 1)

    def order(counts: Dict[str, int], chance: random.Random) -> List[str]:
        whole = [[task] * min(size, count - first) for task, count in counts.items() for first in range(0, count, size)]
        chance.shuffle(whole)
        return [task for block in whole for task in block]

    return order
