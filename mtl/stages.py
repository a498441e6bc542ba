"""Where the time goes: named stages, clocked only while somebody asks. Pure torch.

A stage inside a stage stops the outer one's clock, so the seconds of all stages add up.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Dict, List, Optional, Type

import torch

_IDLE = nullcontext()


class StageClock:
    """While it is entered, every `stage` of this process adds to `seconds`. Not for several threads at once."""

    active: Optional["StageClock"] = None

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}
        self._open: List[str] = []
        self._since = 0.0

    def __enter__(self) -> "StageClock":
        StageClock.active = self
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        StageClock.active = None

    def switch(self, entered: Optional[str]) -> None:
        """Enter a stage, or with None leave the innermost."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # a kernel's time belongs to the stage that started it
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] = self.seconds.get(self._open[-1], 0.0) + now - self._since
        if entered is None:
            self._open.pop()
        else:
            self._open.append(entered)
        self._since = now


class _Stage:
    def __init__(self, clock: StageClock, name: str) -> None:
        self.clock, self.name = clock, name

    def __enter__(self) -> None:
        self.clock.switch(self.name)

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.clock.switch(None)


def stage(name: str) -> AbstractContextManager:
    """The clocked piece of work `name`; costs nothing where no `StageClock` is entered."""
    clock = StageClock.active
    return _IDLE if clock is None else _Stage(clock, name)
