"""Scores of every head, beside trivial baselines."""

import time
from pathlib import Path
from typing import IO, Any, Dict, Iterable, List, Optional, Sequence, Tuple

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from mtl.data.docs import read_docs
from mtl.errors import UserError
from mtl.progress import CountProgress
from mtl.registry import Score, Task, score_of, tasks_of
from mtl.sampling.corpus import read_examples
from mtl.training.leaks import leak_note


class NothingToScore(UserError):
    """No document of the data is annotated for what the pipeline predicts."""


def evaluate_pipeline(nlp: Language, data: Sequence[Path], train: Sequence[Path] = ()) -> Dict[str, Any]:
    """Score the pipeline.

    Args:
        nlp (Language): The pipeline.
        data (Sequence[Path]): `.spacy` files or folders to score on.
        train (Sequence[Path]): Training data, to compare with what needs no model.

    Returns:
        Dict[str, Any]: "scores", "per_type", "unknown_labels", "documents", "words", "seconds"; with `train` also
            "baselines", and "leak", a note on documents that are in both.

    Raises:
        NothingToScore: Nothing in `data` is annotated for any of the pipeline's heads.
    """
    examples = list(read_examples(nlp, data))
    started = time.perf_counter()
    evaluation = evaluate_watched(nlp, examples)
    seconds = time.perf_counter() - started
    tasks = tasks_of(nlp)
    scores = {key: evaluation[key] for key in reported_keys(evaluation, tasks)}
    if not scores:
        raise NothingToScore(f"{', '.join(map(str, data))}: no document is annotated for any of {', '.join(nlp.pipe_names)}")
    references = [example.reference for example in examples]
    scored_tasks = [task for task in tasks if any(task.score(key) for key in scores)]
    result = {
        "scores": scores,
        "per_type": {key: evaluation[key] for task in tasks for key in task.details if evaluation.get(key)},
        "documents": len(examples),
        "words": sum(map(len, references)),
        "seconds": round(seconds, 2),
        "unknown_labels": unknown_labels(nlp, references, scored_tasks),
    }
    if train:
        known = [doc for path in train for doc in read_docs(path, nlp.vocab)]
        result["baselines"] = trivial_baselines(known, references, scored_tasks)
        leak = leak_note(known, references)
        result |= {"leak": leak} if leak else {}
    return result


def evaluate_watched(nlp: Language, examples: Iterable[Example], stream: Optional[IO] = None) -> Dict[str, Any]:
    """`nlp.evaluate`, with its progress if it takes long."""
    examples = list(examples)
    pipe = nlp.pipe
    with CountProgress("scoring", "documents", len(examples), stream) as progress:
        nlp.pipe = lambda *args, **kwargs: progress.over(pipe(*args, **kwargs))  # type: ignore[method-assign,assignment]
        try:
            return nlp.evaluate(examples)
        finally:
            del nlp.pipe


def reported_keys(scores: Dict[str, Any], tasks: Sequence[Task]) -> List[str]:
    """The keys of an evaluation that are scores of a task, in the order of reports."""
    by_task = [score.key for task in tasks for score in task.scores]
    others = [key for key in scores if key not in by_task and score_of(key, tasks) is not None]
    return [key for key in dict.fromkeys([*by_task, *others]) if scores.get(key) is not None]


def unknown_labels(nlp: Language, references: List[Doc], tasks: Sequence[Task]) -> List[str]:
    """Labels in the gold annotation that no component of the pipeline has. They can only be missed."""
    known = {label for name in nlp.pipe_names for label in getattr(nlp.get_pipe(name), "labels", ())}
    gold = {label for task in tasks for doc in references if task.is_annotated(doc) for label in task.labels(doc)}
    return sorted(gold - known)


def trivial_baselines(train: List[Doc], test: List[Doc], tasks: Sequence[Task]) -> Dict[str, Tuple[float, str]]:
    """Score key -> (value, description) of what needs no model."""
    baselines: Dict[str, Tuple[float, str]] = {}
    for task in tasks:
        baselines |= task.trivial_baseline(train, test)
    return baselines


def score_named(key: str) -> Score:
    """The score of that name; one without a title if no task has it."""
    return score_of(key) or Score(key, key)


def score_table(result: Dict[str, Any]) -> str:
    """The scores of `evaluate_pipeline` as a table."""
    baselines = result.get("baselines", {})
    rows = {score_named(key): value for key, value in result["scores"].items()}
    width = max(len(score.title) for score in rows)
    lines = [f"{'':{width}}  {'score':>6}  " + ("  trivial baseline" if baselines else "")]
    for score, value in rows.items():
        line = f"{score.title:{width}}  {score.show(value):>6}  "
        if score.key in baselines:
            value, description = baselines[score.key]
            line += f"  {score.show(value):>5}  ({description})"
        lines.append(line.rstrip())
    lines.append(f"{result['documents']:,} documents, {result['words']:,} words, {result['seconds']:.1f} s")
    if result.get("leak"):
        lines.append(f"note: {result['leak']}")
    if result.get("unknown_labels"):
        lines.append(f"note: the pipeline does not know these labels of the data: {', '.join(result['unknown_labels'])}")
    return "\n".join(lines)
