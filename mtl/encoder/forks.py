"""What a forked process, such as the workers of `nlp.pipe(n_process=...)`, must know before it starts. Pure torch.

Neither the threads of OpenMP nor those of tokenizers exist in a forked process, and waiting for them hangs: a worker works in
one thread. (Where processes are spawned, they begin with their own.)
"""

import os
import threading
import weakref
from typing import Any

import torch

_parent = os.getpid()
_VARIABLE = "TOKENIZERS_PARALLELISM"  # of tokenizers, which reads it as the fork happens, and else warns in every worker
_set_here = False


def enter_process() -> None:
    """Call before work: in a forked worker, torch gets one thread."""
    global _parent
    if os.getpid() != _parent:
        torch.set_num_threads(1)
        _parent = os.getpid()


_locks: "weakref.WeakSet[Lock]" = weakref.WeakSet()


class Lock:
    """A lock that is free in a forked process, where the thread that may hold it does not exist."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: Any) -> None:
        self._lock.release()


def _after_in_child() -> None:
    for lock in _locks:
        lock._lock = threading.Lock()


def _before() -> None:
    global _set_here
    _set_here = _VARIABLE not in os.environ
    os.environ.setdefault(_VARIABLE, "false")


def _after_in_parent() -> None:
    if _set_here:
        del os.environ[_VARIABLE]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
