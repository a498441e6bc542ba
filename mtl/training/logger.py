"""Loggers of a training run: spaCy's table with a progress bar, and what the weighting saw, as JSON Lines."""

import json
import sys
from pathlib import Path
from typing import IO, Any, Callable, Dict, List, Optional, Tuple

from spacy.language import Language
from spacy.util import registry

from mtl import distributed
from mtl.encoder.component import Transformer
from mtl.progress import StepProgress


def console_logger(weighting_log: Optional[str] = None, progress_bar: bool = True) -> Callable:
    """Logger `mtl.ConsoleLogger.v1`: the table of `spacy.ConsoleLogger.v3`, and the progress of the whole run.

    The table has a row for each evaluation, with a column for each loss and score. Between evaluations, a bar on stderr shows
    the steps out of `training.max_steps`, words per second and the time left; if stderr is not a terminal, a line every 30
    seconds does.

    Args:
        weighting_log (Optional[str]): A JSON Lines file to write to. At each evaluation it gets a line with each task's gradient
            norm at the encoder output, its weight, and the cosines between tasks: means since the evaluation before.
        progress_bar (bool): Show the progress.
    """
    table = registry.get("loggers", "spacy.ConsoleLogger.v3")(progress_bar=None)

    def setup(nlp: Language, stdout: IO = sys.stdout, stderr: IO = sys.stderr) -> Tuple[Callable, Callable]:
        for _, pipe in nlp.components:
            if isinstance(pipe, Transformer):  # one of another pipeline was not initialized with this one
                pipe.announce_run(nlp)
        log_table, finish_table = table(nlp, stdout, stderr)
        last_step = nlp.config.interpolate()["training"]["max_steps"]
        progress = StepProgress(last_step, lambda: words_seen(nlp), stderr) if progress_bar else None
        rows: List[Dict[str, float]] = []
        path = Path(weighting_log) if weighting_log else None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("", encoding="utf-8")

        def log_step(info: Optional[Dict[str, Any]]) -> None:
            if progress is not None and info is not None:
                progress.hide()
            log_table(info)
            if progress is not None:
                progress.advance(evaluated=info is not None)
            if path is None:
                return
            rows.extend(statistics_of(nlp))
            if info is not None:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"step": info["step"], **means(rows)}) + "\n")
                rows.clear()

        def finish() -> None:
            if progress is not None:
                progress.close()
            finish_table()

        return log_step, finish

    return setup


def words_seen(nlp: Language) -> int:
    """How many words the pipeline has learned from: those of all ranks, which have equal parts of each batch."""
    # Not `nlp.pipeline`, which leaves out what is disabled: components that are frozen are, while the logger is set up.
    return distributed.world_size() * sum(getattr(pipe, "words_seen", 0) for _, pipe in nlp.components)


def statistics_of(nlp: Language) -> List[Dict[str, float]]:
    """What the weightings saw in the last update: see `Gramian.statistics`."""
    return [statistics for _, pipe in nlp.pipeline if (statistics := getattr(pipe, "statistics", None))]


def means(rows: List[Dict[str, float]]) -> Dict[str, float]:
    """The mean of each key over the rows that have it."""
    keys = sorted({key for row in rows for key in row})
    return {key: sum(row[key] for row in rows if key in row) / sum(key in row for row in rows) for key in keys}
