"""How many examples of each task an epoch holds. Pure Python."""

from typing import Callable, Dict, Iterable, List

from mtl.errors import UserError, check_range

Sizes = Dict[str, int]  # task -> documents
Scores = Dict[str, List[float]]  # score, by spaCy's name -> its values at the evaluations so far
# Corpus sizes, the epoch (from 0) and the scores on dev to the examples of each task in that epoch, fractions allowed.
Amounts = Callable[[Sizes, int, Scores], Dict[str, float]]


def temperature(start: float = 2.0, end: float = 5.0, epochs: int = 10, cap: int = 0) -> Amounts:
    """`mtl.Temperature.v1`: examples in proportion to size ** (1 / temperature), so that small tasks come up more often.

    1 is proportional, 2 the square root, 1e9 as good as uniform. The temperature's inverse goes from `start`'s to `end`'s over
    `epochs` (flattening: Stickland and Murray 2019; T5 found 2 best of fixed ones). An epoch is as long as the task that is
    sampled most sparingly needs to be seen whole once, so every example is seen at least once an epoch. cap: a larger corpus
    counts as one of so many documents (T5's artificial limit), and is then seen in part; 0: none does.
    RAISES (UserError): a temperature below 1.
    """
    check_range("temperature.start", start, 1.0)
    check_range("temperature.end", end, 1.0)
    check_range("temperature.epochs", epochs, 1)
    check_range("temperature.cap", cap, 0)

    def amounts(sizes: Sizes, epoch: int, scores: Scores) -> Dict[str, float]:
        progress = min(epoch / max(epochs - 1, 1), 1.0)
        power = (1 - progress) / start + progress / end
        counted = {task: min(size, cap) if cap else size for task, size in sizes.items()}
        return _whole_epoch(counted, {task: size**power for task, size in counted.items()})

    return amounts


def passes(passes: Dict[str, float], epochs: int = 1) -> Amounts:
    """`mtl.Passes.v1`: so many passes over each task's corpus, spread evenly over `epochs`.

    RAISES (UserError): a task without its number of passes, or one that is not in the corpus.
    """
    check_range("passes.epochs", epochs, 1)
    for task, count in passes.items():
        check_range(f"passes.{task}", count, 0.001)

    def amounts(sizes: Sizes, epoch: int, scores: Scores) -> Dict[str, float]:
        check_tasks("passes", passes, sizes)
        return {task: size * passes[task] / epochs for task, size in sizes.items()}

    return amounts


def dev_gap(scores: Dict[str, str], references: Dict[str, float], temperature: float = 2.0) -> Amounts:
    """`mtl.DevGap.v1`: as `mtl.Temperature.v1`, times how far each task's score on dev is from its reference.

    scores: task -> its score, as in "ents_f". references: task -> that score of a model for this task alone, from 0 to 1. A task
    at its reference or above still gets a tenth of what it would at a gap as wide as the widest. Before the first evaluation
    all gaps are one. Source: the score-based sampling of Jean, Firat and Johnson 2019 (https://arxiv.org/abs/1909.06434).
    """
    check_range("dev_gap.temperature", temperature, 1.0)
    for task, reference in references.items():
        check_range(f"dev_gap.references.{task}", reference, 0.001, 1.0)

    def amounts(sizes: Sizes, epoch: int, known: Scores) -> Dict[str, float]:
        check_tasks("dev_gap.scores", scores, sizes)
        check_tasks("dev_gap.references", references, sizes)
        gaps = {
            task: max(1 - known[name][-1] / references[task], 0.0) if known.get(name) else 1.0 for task, name in scores.items()
        }
        widest = max(gaps.values())
        factors = {task: max(gap / widest, 0.1) if widest else 1.0 for task, gap in gaps.items()}
        return _whole_epoch(sizes, {task: size ** (1 / temperature) * factors[task] for task, size in sizes.items()})

    return amounts


def between_epochs(amounts: Amounts, start: Dict[str, int] = {}, stop: Dict[str, int] = {}) -> Amounts:
    """`mtl.BetweenEpochs.v1`: other amounts, with tasks that begin at an epoch (from 0) or are over with it.

    RAISES (UserError): a task that is not in the corpus; an epoch without any task.
    """

    def within(sizes: Sizes, epoch: int, scores: Scores) -> Dict[str, float]:
        check_known("between_epochs.start", start, sizes)
        check_known("between_epochs.stop", stop, sizes)
        found = {
            task: amount if start.get(task, 0) <= epoch < stop.get(task, epoch + 1) else 0.0
            for task, amount in amounts(sizes, epoch, scores).items()
        }
        if not any(found.values()):
            raise UserError(f"between_epochs: epoch {epoch} has no task; let one start sooner or stop later")
        return found

    return within


def pause_at_peak(amounts: Amounts, scores: Dict[str, str], patience: int = 3, drop: float = 0.005) -> Amounts:
    """`mtl.PauseAtPeak.v1`: other amounts, in which a task that has peaked pauses, and one that decays returns.

    scores: task -> its score on dev, as in "ents_f". A task pauses when its last `patience` evaluations were not above the best
    before them; it returns when it has fallen by `drop` (of 1) below that best, and may pause again after `patience` more. Where
    all tasks would pause, none does.
    """
    check_range("pause_at_peak.patience", patience, 1)
    check_range("pause_at_peak.drop", drop, 0.0, 1.0)

    def running(sizes: Sizes, epoch: int, known: Scores) -> Dict[str, float]:
        check_known("pause_at_peak.scores", scores, sizes)
        found = amounts(sizes, epoch, known)
        paused = {task for task, name in scores.items() if is_paused(known.get(name, []), patience, drop)}
        if {task for task, amount in found.items() if amount} <= paused:
            return found
        return {task: 0.0 if task in paused else amount for task, amount in found.items()}

    return running


def is_paused(values: List[float], patience: int, drop: float) -> bool:
    """Whether a task with these scores so far is pausing now."""
    best, since, paused = float("-inf"), 0, False
    for value in values:
        if value > best:
            best, since, paused = value, 0, False
        elif paused and value < best - drop:
            since, paused = 0, False
        else:
            since += 1
            paused = paused or since >= patience
    return paused


def check_tasks(setting: str, named: Iterable[str], sizes: Sizes) -> None:
    """RAISES (UserError): the setting does not name the corpus's tasks, all of them and no other."""
    if set(sizes) != set(named):
        raise UserError(f"{setting} names {sorted(named)}, the corpus has the tasks {sorted(sizes)}: both must be the same")


def check_known(setting: str, named: Iterable[str], sizes: Sizes) -> None:
    """RAISES (UserError): the setting names a task that the corpus has not."""
    unknown = sorted(set(named) - set(sizes))
    if unknown:
        raise UserError(f"{setting} names {', '.join(unknown)}; the tasks of the corpus are {', '.join(sorted(sizes))}")


def _whole_epoch(sizes: Sizes, shares: Dict[str, float]) -> Dict[str, float]:
    """Shares scaled so that the task sampled most sparingly is seen whole once."""
    scale = max(size / shares[task] for task, size in sizes.items())
    return {task: share * scale for task, share in shares.items()}
