"""Speed and scores of pipelines beside each other, as a report and a table."""

import random
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Sequence

from spacy.language import Language

from mtl.data.docs import read_docs
from mtl.progress import Echo
from mtl.registry import headlines, tasks_of
from mtl.timing import interleaved_rates
from mtl.training.evaluation import evaluate_pipeline, score_named

TIMED_DOCS = 60
SECONDS = 3.0  # of timing


def measure_pipelines(pipelines: Dict[str, Language], dev: Sequence[Path], echo: Echo) -> Dict[str, Dict[str, Any]]:
    """Score and time pipelines.

    Returns:
        Dict[str, Dict[str, Any]]: By name, "scores" on dev, "words_per_second", and "over_teacher", the ratio to the first.
    """
    rows: Dict[str, Dict[str, Any]] = {}
    for name, nlp in pipelines.items():
        echo(f"scoring {name}")
        scores = evaluate_pipeline(nlp, dev)["scores"]
        rows[name] = {"scores": {key: scores[key] for key in headlines(scores, tasks_of(nlp))}}
    teacher = next(iter(pipelines.values()))
    texts = [doc.text for path in dev for doc in read_docs(path, teacher.vocab)]
    texts = random.Random(0).sample(texts, min(TIMED_DOCS, len(texts)))
    workloads = {name: partial(_process, nlp, texts) for name, nlp in pipelines.items()}
    for name, rates in interleaved_rates(workloads, SECONDS).items():
        rows[name] |= {"words_per_second": rates["words_per_second"], "over_teacher": rates["over_first"]}
    return rows


def _process(nlp: Language, texts: List[str]) -> int:
    """Process the texts as one batch. Returns the number of words."""
    return sum(map(len, nlp.pipe(texts, batch_size=len(texts))))


def distill_table(report: Dict[str, Any]) -> str:
    """The report as a table."""
    rows = report["students"]
    keys = list(dict.fromkeys(key for row in rows.values() for key in row["scores"]))
    titles = [score_named(key).title.replace(": ", " ") for key in keys]
    width = max(8, 2 + max(map(len, rows)))
    lines = [f"{'':{width}}{'words/s':>9}{'over teacher':>14}" + "".join(f"  {title}" for title in titles)]
    for name, row in rows.items():
        shown = (score_named(key).show(row["scores"][key]) if key in row["scores"] else "" for key in keys)
        scores = "".join(f"  {score:>{len(title)}}" for score, title in zip(shown, titles))
        lines.append(f"{name:{width}}{row['words_per_second']:>9,.0f}{row['over_teacher']:>14.2f}{scores}")
    return "\n".join(lines)
