"""How measurements are made: hardware and versions, pipeline stages, interleaved rounds. No spaCy."""

import platform
import resource
import statistics
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Dict, List, Mapping, Optional, Type

import torch

PACKAGES = ("spacy-mtl", "torch", "transformers", "spacy", "spacy-transformers", "thinc", "tokenizers", "openvino", "edsnlp")
MIN_ROUNDS = 3  # of an interleaved comparison
_IDLE = nullcontext()


def machine() -> Dict[str, Any]:
    """Processor, threads, GPU, and the versions of Python and of the relevant packages. No paths, no host names."""
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "system": platform.system(),
        "versions": {name: installed for name in PACKAGES if (installed := _version(name))},
    }


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def interleaved_rates(
    workloads: Mapping[str, Callable[[], int]], seconds: float, show: Callable[[str], None] = lambda _: None
) -> Dict[str, Dict[str, float]]:
    """Time several workloads in turn, round by round, so that drift of the machine's speed hits all of them alike.

    Args:
        workloads (Mapping[str, Callable[[], int]]): By name, a function that does the work and returns how many words it
            processed. Each runs once untimed first, as a warm-up.
        seconds (float): Stop once the first workload has been timed for this long, after three rounds at the earliest.
        show (Callable[[str], None]): Called with a line of progress after each round.

    Returns:
        Dict[str, Dict[str, float]]: By name, the median "words_per_second" and "over_first", the median ratio to the
            first workload in the same round.
    """
    first = next(iter(workloads))
    times: Dict[str, List[float]] = {name: [] for name in workloads}
    words = {name: run() for name, run in workloads.items()}
    while len(times[first]) < MIN_ROUNDS or sum(times[first]) < seconds:
        for name, run in workloads.items():
            started = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - started)
        show(f"\rtiming, round {len(times[first])} ...")
    show("\n")
    return {
        name: {
            "words_per_second": words[name] / statistics.median(rounds),
            "over_first": statistics.median(reference / spent for spent, reference in zip(rounds, times[first])),
        }
        for name, rounds in times.items()
    }


class StageClock:
    """While entered, every `stage` of this process adds its time to `seconds`. Not safe for several threads.

    A stage inside another pauses the outer one's clock, so the seconds of all stages add up to the total.
    """

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
        """Enter the named stage, or leave the innermost one if None."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()  # a kernel's time belongs to the stage that launched it
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
    """A context manager that times the block as stage `name`. Free of cost while no `StageClock` is entered."""
    clock = StageClock.active
    return _IDLE if clock is None else _Stage(clock, name)
