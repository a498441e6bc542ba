"""Progress as a user sees it: lines, lines that overwrite themselves, the steps of a training run. No spaCy."""

import io
import logging
import sys
import time
from typing import IO, Any, Callable, Iterable, Iterator, Optional, TypeVar

from tqdm import tqdm

Echo = Callable[[str], None]  # shows a line
SECONDS_BETWEEN_LINES = 30.0  # if there is no terminal to draw a bar on
LINE = "{desc}: {n_fmt} of {total_fmt}, {rate_fmt}{postfix}, {remaining} left"  # of a `Bar` without a terminal
SECONDS_BEFORE_BAR = 2.0  # of work that counts items
T = TypeVar("T")


class Verbosity:
    """How much is shown of progress, for the whole program.

    Attributes:
        quiet (bool): Nothing.
        verbose (bool): More lines, and the traceback of every error.
        seconds (float): Between lines, where there is no terminal.
    """

    quiet = verbose = False
    seconds = SECONDS_BETWEEN_LINES


def set_verbosity(quiet: bool, verbose: bool) -> None:
    """Show no progress, or a line every few seconds, what is logged, and tracebacks."""
    Verbosity.quiet, Verbosity.verbose = quiet, verbose
    Verbosity.seconds = 5.0 if verbose else SECONDS_BETWEEN_LINES
    if quiet or verbose:
        logging.basicConfig()
        logging.getLogger("mtl").setLevel(logging.ERROR if quiet else logging.DEBUG)


def silent(line: str) -> None:
    """An `Echo` that shows nothing."""


def show_progress(line: str) -> None:
    """Write to stderr without a newline, if it is a terminal. A line that begins with a carriage return replaces the last one."""
    if sys.stderr.isatty() and not Verbosity.quiet:
        sys.stderr.write(line)
        sys.stderr.flush()


class _Lines(io.TextIOBase):
    """A stream to which a bar is drawn that takes its states as lines."""

    def __init__(self, stream: IO) -> None:
        self.stream = stream

    def write(self, state: str) -> int:
        """Write a line, unless it is blank, as what clears a bar is."""
        if state.strip():
            self.stream.write(state.strip() + "\n")
            self.stream.flush()
        return len(state)


class Bar(tqdm):
    """tqdm's bar; where there is no terminal, a plain line every 30 seconds. Nothing if the program is to be quiet."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        stream: IO = settings.get("file") or sys.stderr
        settings["file"] = stream
        settings["disable"] = settings.get("disable", False) or Verbosity.quiet
        if not stream.isatty():
            seconds = Verbosity.seconds
            settings |= {"file": _Lines(stream), "mininterval": seconds, "maxinterval": seconds, "delay": seconds}
            settings |= {"bar_format": LINE, "leave": False}
        super().__init__(*args, **settings)

    def set_description(self, desc: Optional[str] = None, refresh: bool = True) -> None:
        """Change the name, to which tqdm would add a second colon; lines come when it is time."""
        self.set_description_str(desc, refresh and not self.disable and self.fp.isatty())


class CountProgress:
    """How many items are done, how fast, and the time left: a bar on a terminal, otherwise a line every 30 seconds.

    Work of under two seconds shows nothing.

    Args:
        what (str): What is done, as in "reading train.jsonl".
        unit (str): What is counted, as in "documents".
        total (Optional[int]): How many there are; None if that is not known.
        stream (Optional[IO]): Where to write; stderr by default.
    """

    def __init__(self, what: str, unit: str, total: Optional[int] = None, stream: Optional[IO] = None) -> None:
        self.what, self.unit, self.total, self.stream = what, unit, total, stream or sys.stderr
        self.count = self.characters = 0
        self.started = self.shown = time.monotonic()
        self.bar: Optional[tqdm] = None

    def __enter__(self) -> "CountProgress":
        return self

    def __exit__(self, *error: Any) -> None:
        if self.bar is not None:
            self.bar.close()

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """The items, counted as they pass."""
        for item in items:
            yield item
            self.advance()

    def advance(self, count: int = 1, characters: int = 0) -> None:
        """Count items, and their characters if a rate in megabytes is to be shown."""
        self.count += count
        self.characters += characters
        now = time.monotonic()
        if Verbosity.quiet:
            return
        if self.stream.isatty():
            if self.bar is None and now - self.started >= SECONDS_BEFORE_BAR:
                self.bar = tqdm(
                    total=self.total, initial=self.count, unit=f" {self.unit}", desc=self.what, file=self.stream, leave=False,
                    dynamic_ncols=True,
                )  # fmt: skip
            elif self.bar is not None:
                self.bar.update(count)
        elif now - self.shown >= Verbosity.seconds:
            self.shown = now
            rate = self.count / (now - self.started)
            size = f", {self.characters / 1e6 / (now - self.started):.1f} MB/s" if self.characters else ""
            left = f", about {(self.total - self.count) / rate:,.0f} s left" if self.total else ""
            total = f" of {self.total:,}" if self.total else ""
            self.stream.write(f"{self.what}: {self.count:,}{total} {self.unit}, {rate:,.0f} a second{size}{left}\n")
            self.stream.flush()


class StepProgress:
    """Steps, words per second and time left of a training run: a bar on a terminal, otherwise a line every 30 seconds.

    Steps are numbered from 0, as in spaCy's table. Words per second leave out the evaluations; the time left includes them.
    A resumed run replays its earlier steps without learning from a word; the clock starts after them.

    Args:
        last_step (int): Number of the last step; 0 if it is unknown.
        words_seen (Callable[[], int]): Returns how many words were learned from so far; constant if nothing counts them.
        stream (Optional[IO]): Where to write; stderr by default.
    """

    def __init__(self, last_step: int, words_seen: Callable[[], int], stream: Optional[IO] = None) -> None:
        self.last_step, self.words_seen, self.stream = last_step, words_seen, stream or sys.stderr
        self.step, self.first_step = -1, 0
        self.words, self.has_learned = words_seen(), False
        self.timed_words, self.timed_seconds = 0, 0.0
        self.started = self.advanced = self.shown = time.monotonic()
        self.bar = self._make_bar() if self.stream.isatty() and not Verbosity.quiet else None

    def advance(self, *, evaluated: bool = False) -> None:
        """Count a step, and show it if it is time.

        Args:
            evaluated (bool): An evaluation followed the step, so its time does not count in the words per second.
        """
        now, words = time.monotonic(), self.words_seen()
        new_words, seconds = words - self.words, now - self.advanced
        self.step += 1
        self.words, self.advanced = words, now
        if new_words and not self.has_learned:
            self.has_learned = True
            if self.step:
                self._end_replay(now)
        if new_words and not evaluated:
            self.timed_words, self.timed_seconds = self.timed_words + new_words, self.timed_seconds + seconds
        self._show(now)

    def hide(self) -> None:
        """Clear the bar, so that something else can be printed. The next step shows it again."""
        if self.bar is not None:
            self.bar.clear()

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()

    def _make_bar(self) -> tqdm:
        return tqdm(
            total=self.last_step or None, initial=max(self.step, 0), unit=" steps", desc="training", file=self.stream,
            smoothing=0, leave=False, dynamic_ncols=True,
        )  # fmt: skip

    def _end_replay(self, now: float) -> None:
        self.started, self.first_step = now, self.step
        if self.bar is not None:
            self.bar.close()
            self.bar = self._make_bar()

    def _show(self, now: float) -> None:
        rate = f"{self.timed_words / self.timed_seconds:,.0f} words/s" if self.timed_seconds else ""
        if self.bar is not None:
            self.bar.set_postfix_str(rate, refresh=False)
            self.bar.update(self.step - self.bar.n)
        elif now - self.shown >= Verbosity.seconds and not Verbosity.quiet:
            self.shown = now
            total = f" of {self.last_step:,}" if self.last_step else ""
            parts = [f"step {self.step:,}{total}", rate, self._time_left(now)]
            self.stream.write(", ".join(part for part in parts if part) + "\n")
            self.stream.flush()

    def _time_left(self, now: float) -> str:
        done, left = self.step - self.first_step, self.last_step - self.step
        if done <= 0 or left <= 0:
            return ""
        seconds = (now - self.started) / done * left
        return f"about {seconds / 60:,.0f} min left" if seconds >= 90 else f"about {seconds:,.0f} s left"
