"""The progress bar of a run, on standard error, shown by rank 0 only."""

import sys
from types import TracebackType
from typing import Any, Dict, Optional, Type

from mtl import distributed
from mtl.adaptation.checkpoint import Progress
from mtl.adaptation.monitor import perplexities
from mtl.adaptation.phases import Phase
from mtl.progress import Bar


class ProgressBar:
    """A bar over the steps of a run.

    Args:
        total (int): Steps of the run, if time allows.
        done (int): Steps done before.
        minutes (float): Minutes of the run; 0 for no limit.
    """

    def __init__(self, total: int, done: int, minutes: float = 0.0) -> None:
        self.planned, self.minutes = total, minutes
        is_hidden = not distributed.is_main()
        self.bar = Bar(total=total, initial=done, unit="step", dynamic_ncols=True, disable=is_hidden)

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, type_: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        self.bar.close()

    def begin(self, phase: Phase) -> None:
        """Show the phase's name."""
        self.bar.set_description(phase.name)

    def step(self, progress: Progress, loss: float, tokens_per_second: float) -> None:
        """Show a step."""
        self.bar.update()
        if self.bar.n % 10 == 0:
            if self.minutes:
                self.bar.total = expected_steps(progress, self.planned, self.minutes)
            self.bar.set_postfix_str(f"loss {loss:.3f}, {tokens_per_second:,.0f} tokens/s", refresh=False)

    def evaluation(self, evaluation: Dict[str, Any]) -> None:
        """Show an evaluation on a line of its own."""
        if not distributed.is_main():
            return
        line = ", ".join(f"{text} {value:.2f}" for text, value in perplexities(evaluation["losses"]).items())
        scores = ", ".join(f"{task} {100 * score:.1f}" for task, score in evaluation.get("probe", {}).items())
        suffix = f"; probe, {scores}" if scores else ""
        Bar.write(f"step {evaluation['step']:,}: perplexity, {line}{suffix}", file=sys.stderr)


def expected_steps(progress: Progress, planned: int, minutes: float) -> int:
    """Steps that a run of so many minutes will do at the present speed, at most as many as planned."""
    expected = progress.step * 60 * minutes / max(progress.seconds, 1e-9)
    return min(planned, max(progress.step, round(expected)))
