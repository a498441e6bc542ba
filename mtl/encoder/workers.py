"""Batches side by side on a CPU, each in a thread of its own that uses one of torch's threads. Pure torch.

torch's own way is to share every matrix product among its threads, which then wait for each other some hundred times in a forward
pass: with MiniLM in low precision on two cores that costs a tenth to a fifth of the time.
"""

import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, Deque, Iterator, Optional, Sequence, Tuple, TypeVar

import torch

from mtl.encoder.forks import Lock

In = TypeVar("In")
Out = TypeVar("Out")
AHEAD = 2  # batches that wait for each worker, or whose results wait to be taken

_lock = Lock()
_known: Optional[Tuple[int, int, ThreadPoolExecutor]] = None  # process, workers, pool


def workers(device: torch.device) -> int:
    """How many batches run side by side: as many as torch uses threads for a matrix product in this thread."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def side_by_side(run: Callable[[In], Out], items: Sequence[In], count: int) -> Iterator[Out]:
    """`run` of each item, in their order. count: of workers; with one, or one item, here, with all of torch's threads."""
    if count < 2 or len(items) < 2:
        yield from map(run, items)
        return
    pool = _pool(count)
    waiting: Deque[Future] = deque()
    try:
        for done, item in enumerate(items):
            try:
                waiting.append(pool.submit(run, item))
            except RuntimeError:  # the interpreter is about to end, and takes no new work in threads
                for one in waiting:
                    yield one.result()
                waiting.clear()
                yield from map(run, items[done:])
                return
            if len(waiting) > AHEAD * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for one in waiting:
            one.cancel()


def _pool(count: int) -> ThreadPoolExecutor:
    global _known
    with _lock:
        if _known is None or _known[:2] != (os.getpid(), count):
            _known = os.getpid(), count, _start(count)
        return _known[2]


def _start(count: int) -> ThreadPoolExecutor:
    started = threading.Barrier(count + 1)

    def one_thread() -> None:
        torch.get_num_threads()  # a thread takes the process's number when it first asks, even over one that was set before
        torch.set_num_threads(1)
        started.wait()

    own = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "mtl-encoder")
    for _ in range(count):
        pool.submit(one_thread)
    started.wait()
    torch.set_num_threads(own)  # for the threads that are still to come the number is the process's, which the workers changed
    return pool
