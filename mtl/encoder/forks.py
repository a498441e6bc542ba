"""What a forked process, such as the workers of `nlp.pipe(n_process=...)`, must know before it starts. Pure torch.

Neither the threads of OpenMP nor those of tokenizers exist in a forked process, and waiting for them hangs: a worker works in
one thread. So does one that is spawned, which has them, since there are several.
"""

import multiprocessing
import os
import threading
import weakref
from typing import Any, Tuple

import torch

from mtl.errors import UserError

_parent = os.getpid()
_VARIABLE = "TOKENIZERS_PARALLELISM"  # of tokenizers, which reads it as the fork happens, and else warns in every worker
_set_here = False


def enter_process(device: torch.device) -> None:
    """Call before work on the device: in a forked worker, torch gets one thread. RAISES (UserError): it is a GPU, and a fork."""
    global _parent
    if device.type == "cuda" and torch.cuda._is_in_bad_fork():
        raise UserError(
            "nlp.pipe(n_process=...) forks this process, and a fork cannot use a GPU that its parent uses. Leave n_process at 1, "
            'set components.transformer.model.device = "cpu", or call multiprocessing.set_start_method("spawn") at the start'
        )
    if os.getpid() != _parent:
        torch.set_num_threads(1)
        _parent = os.getpid()


def enter_worker() -> None:
    """Call where a pickled pipeline arrives: in a process that another has spawned, torch gets one thread."""
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)


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

    def __reduce__(self) -> Tuple:
        return Lock, ()


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
