"""How many examples of each task an epoch holds. Pure Python."""

from typing import Callable, Dict

from mtl.errors import UserError, check_range

# Corpus sizes and the epoch (from 0) to the examples of each task in that epoch, fractions allowed.
Amounts = Callable[[Dict[str, int], int], Dict[str, float]]


def temperature(start: float = 2.0, end: float = 5.0, epochs: int = 10) -> Amounts:
    """`mtl.Temperature.v1`: examples in proportion to size ** (1 / temperature), so that small tasks come up more often.

    1 is proportional, 2 the square root, infinity uniform. The temperature's inverse goes from `start`'s to `end`'s over
    `epochs` (flattening: Stickland and Murray 2019; T5 found 2 best of fixed ones). An epoch is as long as the task that is
    sampled most sparingly needs to be seen whole once, so every example is seen at least once an epoch.
    RAISES (UserError): a temperature below 1.
    """
    check_range("temperature.start", start, 1.0)
    check_range("temperature.end", end, 1.0)
    check_range("temperature.epochs", epochs, 1)

    def amounts(sizes: Dict[str, int], epoch: int) -> Dict[str, float]:
        progress = min(epoch / max(epochs - 1, 1), 1.0)
        power = (1 - progress) / start + progress / end
        shares = {task: size**power for task, size in sizes.items()}
        scale = max(size / shares[task] for task, size in sizes.items())
        return {task: share * scale for task, share in shares.items()}

    return amounts


def passes(passes: Dict[str, float], epochs: int = 1) -> Amounts:
    """`mtl.Passes.v1`: so many passes over each task's corpus, spread evenly over `epochs`.

    RAISES (UserError): a task without its number of passes, or one that is not in the corpus.
    """
    check_range("passes.epochs", epochs, 1)
    for task, count in passes.items():
        check_range(f"passes.{task}", count, 0.001)

    def amounts(sizes: Dict[str, int], epoch: int) -> Dict[str, float]:
        if set(sizes) != set(passes):
            raise UserError(f"passes names {sorted(passes)}, the corpus has the tasks {sorted(sizes)}: both must be the same")
        return {task: size * passes[task] / epochs for task, size in sizes.items()}

    return amounts
