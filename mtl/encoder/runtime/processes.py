"""Forked and spawned processes, such as the workers of `nlp.pipe(n_process=...)`. Pure torch.

Neither OpenMP's threads nor those of tokenizers exist in a forked process, and waiting for them hangs: a worker uses one thread.
So does a spawned one, which could have more, because there are several workers.
"""

import multiprocessing
import os
import threading
import weakref
from typing import Any, Tuple

import torch

from mtl import compat
from mtl.errors import UserError

_process = os.getpid()
_VARIABLE = "TOKENIZERS_PARALLELISM"  # tokenizers reads it during a fork, and warns in every worker if it is not set
_is_set_here = False


def enter_process(device: torch.device) -> None:
    """Call before work on the device: in a forked worker, torch gets one thread.

    Raises:
        UserError: This is a fork of a process that uses a GPU, and the device is one.
    """
    global _process
    if device.type == "cuda" and compat.in_bad_fork():
        raise UserError(
            "nlp.pipe(n_process=...) forks this process, and a fork cannot use a GPU that its parent uses. Leave n_process at 1, "
            'set components.transformer.model.device = "cpu", or call multiprocessing.set_start_method("spawn") at the start'
        )
    if os.getpid() != _process:
        torch.set_num_threads(1)
        _process = os.getpid()


def enter_spawned_worker() -> None:
    """Call where a pickled pipeline arrives: in a spawned process, torch gets one thread."""
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)


_locks: "weakref.WeakSet[Lock]" = weakref.WeakSet()


class Lock:
    """A lock that is free in a forked process, since the thread that may have held it does not exist there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: Any) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Replace the lock by a free one."""
        self._lock = threading.Lock()

    def __reduce__(self) -> Tuple:
        return Lock, ()


def _after_in_child() -> None:
    for lock in _locks:
        lock.renew()


def _before() -> None:
    global _is_set_here
    _is_set_here = _VARIABLE not in os.environ
    os.environ.setdefault(_VARIABLE, "false")


def _after_in_parent() -> None:
    if _is_set_here:
        del os.environ[_VARIABLE]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
