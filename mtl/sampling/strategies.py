"""How many examples of each task an epoch has. Pure Python."""

from typing import Callable, Dict, Iterable, List

from mtl.errors import UserError, check_range
from mtl.settings import ByName, by_name

Sizes = Dict[str, int]  # task -> number of documents
Scores = Dict[str, List[float]]  # spaCy's name of a score -> its values at the evaluations so far
# Corpus sizes, the epoch (from 0) and the scores on dev -> examples of each task in that epoch, which may be fractional.
Sampling = Callable[[Sizes, int, Scores], Dict[str, float]]


def temperature_sampling(start: float = 2.0, end: float = 5.0, epochs: int = 10, cap: int = 0) -> Sampling:
    """Sampling `mtl.TemperatureSampling.v1`: examples in proportion to size ** (1 / temperature), which favours small tasks.

    Temperature 1 is proportional to size, 2 to its square root, 1e9 practically uniform. An epoch is so long that the task that
    is sampled most sparingly is seen once in full, so every example is seen at least once an epoch. T5 found 2 best among fixed
    temperatures (Raffel et al. 2020, https://arxiv.org/abs/1910.10683); flattening over the run follows Stickland and Murray
    2019 (https://arxiv.org/abs/1902.02671).

    Args:
        start (float): Temperature of the first epoch.
        end (float): Temperature from epoch `epochs` on. In between, its inverse is interpolated.
        epochs (int): Epochs over which it changes.
        cap (int): A larger corpus counts as one of this many documents (T5's artificial limit), and is then seen in part; 0 for
            no cap.

    Raises:
        UserError: A temperature below 1.
    """
    check_range("temperature.start", start, 1.0)
    check_range("temperature.end", end, 1.0)
    check_range("temperature.epochs", epochs, 1)
    check_range("temperature.cap", cap, 0)

    def sampling(sizes: Sizes, epoch: int, scores: Scores) -> Dict[str, float]:
        progress = min(epoch / max(epochs - 1, 1), 1.0)
        power = (1 - progress) / start + progress / end
        capped = {task: min(size, cap) if cap else size for task, size in sizes.items()}
        return _full_epoch(capped, {task: size**power for task, size in capped.items()})

    return sampling


def epochs_per_task(epochs: ByName[float], spread_over: int = 1) -> Sampling:
    """Sampling `mtl.EpochsPerTask.v1`: a fixed number of epochs over each task's corpus.

    Args:
        epochs (ByName[float]): Task -> passes over its corpus.
        spread_over (int): Epochs of the run that these are spread over evenly.

    Raises:
        UserError: A task without its number, or one that is not in the corpus.
    """
    check_range("epochs_per_task.spread_over", spread_over, 1)
    epochs = by_name("epochs_per_task.epochs", epochs)
    for task, count in epochs.items():
        check_range(f"epochs_per_task.epochs.{task}", count, 0.001)

    def sampling(sizes: Sizes, epoch: int, scores: Scores) -> Dict[str, float]:
        check_tasks("epochs_per_task.epochs", epochs, sizes)
        return {task: size * epochs[task] / spread_over for task, size in sizes.items()}

    return sampling


def dev_gap_sampling(scores: ByName[str], references: ByName[float], temperature: float = 2.0) -> Sampling:
    """Sampling `mtl.DevGapSampling.v1`: as `mtl.TemperatureSampling.v1`, times the gap of each task's dev score to a reference.

    A task at its reference or above still gets a tenth of what it would get with the widest gap. Before the first evaluation all
    gaps are equal. This is the score-based sampling of Jean, Firat and Johnson 2019 (https://arxiv.org/abs/1909.06434).

    Args:
        scores (ByName[str]): Task -> its score, such as "ents_f".
        references (ByName[float]): Task -> that score of a model for this task alone, from 0 to 1.
        temperature (float): See `mtl.TemperatureSampling.v1`.

    Raises:
        UserError: A reference out of range; settings that do not name exactly the tasks of the corpus.
    """
    check_range("dev_gap.temperature", temperature, 1.0)
    scores, references = by_name("dev_gap.scores", scores), by_name("dev_gap.references", references)
    for task, reference in references.items():
        check_range(f"dev_gap.references.{task}", reference, 0.001, 1.0)

    def sampling(sizes: Sizes, epoch: int, history: Scores) -> Dict[str, float]:
        check_tasks("dev_gap.scores", scores, sizes)
        check_tasks("dev_gap.references", references, sizes)
        gaps = {
            task: max(1 - history[name][-1] / references[task], 0.0) if history.get(name) else 1.0
            for task, name in scores.items()
        }
        widest = max(gaps.values())
        factors = {task: max(gap / widest, 0.1) if widest else 1.0 for task, gap in gaps.items()}
        return _full_epoch(sizes, {task: size ** (1 / temperature) * factors[task] for task, size in sizes.items()})

    return sampling


def epoch_range(sampling: Sampling, start: ByName[int] = {}, stop: ByName[int] = {}) -> Sampling:
    """Sampling `mtl.EpochRange.v1`: another sampling, in which some tasks start late or stop early.

    Args:
        sampling (Sampling): The other sampling.
        start (ByName[int]): Task -> the first epoch it takes part in, from 0.
        stop (ByName[int]): Task -> the first epoch it no longer takes part in.

    Raises:
        UserError: A task that is not in the corpus; an epoch without any task.
    """
    start, stop = by_name("epoch_range.start", start), by_name("epoch_range.stop", stop)

    def in_range(sizes: Sizes, epoch: int, scores: Scores) -> Dict[str, float]:
        check_known("epoch_range.start", start, sizes)
        check_known("epoch_range.stop", stop, sizes)
        examples = {
            task: count if start.get(task, 0) <= epoch < stop.get(task, epoch + 1) else 0.0
            for task, count in sampling(sizes, epoch, scores).items()
        }
        if not any(examples.values()):
            raise UserError(f"epoch_range: epoch {epoch} has no task; let one start sooner or stop later")
        return examples

    return in_range


def pause_at_peak(sampling: Sampling, scores: ByName[str], patience: int = 3, drop: float = 0.005) -> Sampling:
    """Sampling `mtl.PauseAtPeak.v1`: another sampling, in which a task pauses after its peak and returns when it decays.

    If all tasks would pause, none does.

    Args:
        sampling (Sampling): The other sampling.
        scores (ByName[str]): Task -> its score on dev, such as "ents_f".
        patience (int): A task pauses after this many evaluations in a row that were not above the best before them.
        drop (float): It returns when it has fallen by this much (of 1) below the best, and may pause again after `patience` more.

    Raises:
        UserError: A setting out of range; a task that is not in the corpus.
    """
    check_range("pause_at_peak.patience", patience, 1)
    check_range("pause_at_peak.drop", drop, 0.0, 1.0)
    scores = by_name("pause_at_peak.scores", scores)

    def running(sizes: Sizes, epoch: int, history: Scores) -> Dict[str, float]:
        check_known("pause_at_peak.scores", scores, sizes)
        examples = sampling(sizes, epoch, history)
        paused = {task for task, name in scores.items() if is_paused(history.get(name, []), patience, drop)}
        if {task for task, count in examples.items() if count} <= paused:
            return examples
        return {task: 0.0 if task in paused else count for task, count in examples.items()}

    return running


def is_paused(values: List[float], patience: int, drop: float) -> bool:
    """Whether a task with these scores so far is pausing now."""
    best, since_best, paused = float("-inf"), 0, False
    for value in values:
        if value > best:
            best, since_best, paused = value, 0, False
        elif paused and value < best - drop:
            since_best, paused = 0, False
        else:
            since_best += 1
            paused = paused or since_best >= patience
    return paused


def check_tasks(setting: str, named: Iterable[str], sizes: Sizes) -> None:
    """Check that a setting names exactly the tasks of the corpus.

    Raises:
        UserError: It does not.
    """
    if set(sizes) != set(named):
        raise UserError(f"{setting} names {sorted(named)}, but the corpus has the tasks {sorted(sizes)}; they must be the same")


def check_known(setting: str, named: Iterable[str], sizes: Sizes) -> None:
    """Check that a setting names only tasks of the corpus.

    Raises:
        UserError: It does not.
    """
    unknown = sorted(set(named) - set(sizes))
    if unknown:
        raise UserError(f"{setting} names {', '.join(unknown)}; the tasks of the corpus are {', '.join(sorted(sizes))}")


def _full_epoch(sizes: Sizes, shares: Dict[str, float]) -> Dict[str, float]:
    """The shares scaled so that the task sampled most sparingly is seen once in full."""
    scale = max(size / shares[task] for task, size in sizes.items())
    return {task: share * scale for task, share in shares.items()}
