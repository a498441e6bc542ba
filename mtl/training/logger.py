"""spaCy's console table, and what the balance saw, as JSON Lines."""

import json
import sys
from pathlib import Path
from typing import IO, Any, Callable, Dict, List, Optional, Tuple

from spacy.language import Language
from spacy.util import registry


def console_logger(balance_file: Optional[str] = None, progress_bar: Optional[str] = "train") -> Callable:
    """`mtl.ConsoleLogger.v1`: `spacy.ConsoleLogger.v3` (a column a loss and a score, a bar with rate and time left).

    balance_file: where to write, at each evaluation, the mean since the one before of each task's gradient norm at the encoder
    output, its weight, and the cosines between tasks.
    """
    table = registry.get("loggers", "spacy.ConsoleLogger.v3")(progress_bar=progress_bar)

    def setup(nlp: Language, stdout: IO = sys.stdout, stderr: IO = sys.stderr) -> Tuple[Callable, Callable]:
        log_table, finish_table = table(nlp, stdout, stderr)
        rows: List[Dict[str, float]] = []
        path = Path(balance_file) if balance_file else None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("", encoding="utf-8")

        def log_step(info: Optional[Dict[str, Any]]) -> None:
            log_table(info)
            if path is None:
                return
            rows.extend(statistics_of(nlp))
            if info is not None:
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"step": info["step"], **means(rows)}) + "\n")
                rows.clear()

        return log_step, finish_table

    return setup


def statistics_of(nlp: Language) -> List[Dict[str, float]]:
    """What the balances saw in the last update."""
    return [found for _, pipe in nlp.pipeline if (found := getattr(pipe, "statistics", None))]


def means(rows: List[Dict[str, float]]) -> Dict[str, float]:
    """The mean of each key over the rows that have it."""
    keys = sorted({key for row in rows for key in row})
    return {key: sum(row[key] for row in rows if key in row) / sum(key in row for row in rows) for key in keys}
