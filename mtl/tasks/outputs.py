"""A head's predictions for a batch, and what they are compared with: a teacher's, or those of a second pass. Pure torch."""

from dataclasses import dataclass
from typing import Any, Callable, Hashable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn

MIN_LOGIT = -1e4  # for impossible outcomes: with -inf the divergence would be NaN


@dataclass
class Names:
    """What the rows and columns of one example's tables stand for. Equal names mean the same in a teacher and its student.

    Args:
        rows (List[Hashable]): One for each row: a question, the characters of a token, ...
        columns (Sequence[List[Hashable]]): For each table one for each column: a label, the character where a token starts, ...
        are_places (bool): Columns are places in the text. One that the teacher lacks is then impossible, while a label that it
            lacks is unknown to it.
    """

    rows: List[Hashable]
    columns: Sequence[List[Hashable]]
    are_places: bool = False


@dataclass
class Outputs:
    """A head's predictions for some examples, as tables of logits.

    Args:
        tables (Sequence[Tensor]): Logits; each row is a distribution. Shape (rows, columns) each.
        owners (np.ndarray): Shape (rows,): the index of the example that a row belongs to, ascending.
        names (Callable[[int], Names]): From the index of an example to the names of its rows and columns. Columns of a table
            beyond those names are padding.
        detail (Any): What else the head's own loss needs.
    """

    tables: Sequence[Tensor]
    owners: np.ndarray
    names: Callable[[int], Names]
    detail: Any = None

    def rows_of(self, example: int) -> slice:
        """The rows that belong to an example."""
        return slice(*np.searchsorted(self.owners, [example, example + 1]).tolist())


@dataclass
class Targets:
    """What a teacher predicts for one example.

    Args:
        names (Names): What rows and columns stand for.
        probabilities (List[Tensor]): For each table, shape (rows, columns).
        detail (Optional[Tensor]): What else the loss of a head's own kind needs; an ensemble's is the mean of its members'.
        weight (float): Share of the loss, where several teachers cannot be averaged. The shares sum to 1.
    """

    names: Names
    probabilities: List[Tensor]
    detail: Optional[Tensor] = None
    weight: float = 1.0

    @property
    def confidence(self) -> float:
        """The probability of what is least certain: of each distribution its likeliest outcome, of these the least likely."""
        return min((float(table.amax(-1).min()) for table in self.probabilities if table.numel()), default=0.0)


def soft_targets(outputs: Outputs, example: int, temperature: float) -> Targets:
    """A teacher's outputs for one example, as probabilities on the CPU."""
    names, rows = outputs.names(example), outputs.rows_of(example)
    tables = [
        (table[rows, : len(columns)].float() / temperature).clamp_min(MIN_LOGIT).softmax(-1).cpu()
        for table, columns in zip(outputs.tables, names.columns)
    ]
    return Targets(names, tables)


def averaged(members: Sequence[Targets]) -> List[Targets]:
    """The mean of an ensemble's predictions for one example. Members with other names stay apart."""
    result = []
    left = list(members)
    while left:
        first = left[0]
        equal = [member for member in left if member.names == first.names]
        left = [member for member in left if member.names != first.names]
        tables = [torch.stack(parts).mean(0) for parts in zip(*(member.probabilities for member in equal))]
        details = [member.detail for member in equal if member.detail is not None]
        detail = torch.stack(details).mean(0) if details else None
        result.append(Targets(first.names, tables, detail, len(equal) / len(members)))
    return result


@dataclass
class SoftLoss:
    """The cross-entropy with a teacher's predictions.

    Args:
        mean (Tensor): The mean over rows, in nats, times the squared temperature.
        count (float): How many rows it is the mean over.
    """

    mean: Tensor
    count: float


def soft_cross_entropy(outputs: Outputs, targets: Sequence[Sequence[Targets]], temperature: float = 1.0) -> Optional[SoftLoss]:
    """The cross-entropy of predictions with a teacher's, the mean over the rows that both have, over tables and over teachers.

    Where teacher and student have other labels or tokens, those that they share are compared. What the teacher gives to labels
    that the student lacks counts for nothing.

    Args:
        outputs (Outputs): The student's predictions.
        targets (Sequence[Sequence[Targets]]): For each example, what `averaged` returned.
        temperature (float): What both sides' logits are divided by (Hinton et al. 2015, https://arxiv.org/abs/1503.02531).

    Returns:
        Optional[SoftLoss]: None if they have nothing in common.
    """
    parts: List[Tensor] = []
    count = 0.0
    for example, members in enumerate(targets):
        rows = outputs.rows_of(example)
        if not members or rows.start == rows.stop:
            continue
        names = outputs.names(example)
        for member in members:
            shared = _shared(names.rows, member.names.rows)
            if shared is not None:
                count += len(shared[0]) * member.weight
                tables = [table[rows] for table in outputs.tables]
                parts += [part * member.weight for part in _cross_entropies(tables, names, member, shared, temperature)]
    if not parts or not count:
        return None
    return SoftLoss(torch.stack(parts).sum() / len(outputs.tables) / count * temperature**2, count)


def _cross_entropies(
    tables: Sequence[Tensor], names: Names, target: Targets, rows: Tuple[List[int], List[int]], temperature: float
) -> Iterator[Tensor]:
    """For each table the sum over the rows that both have."""
    for table, ours, theirs, probabilities in zip(tables, names.columns, target.names.columns, target.probabilities):
        columns = _shared(ours, theirs)
        if columns is None:
            continue
        logits, expected = table[rows[0]], probabilities[rows[1]][:, columns[1]]
        if names.are_places:
            expected = expected.new_zeros(len(expected), len(ours)).index_copy(1, torch.tensor(columns[0]), expected)
            logits = logits[:, : len(ours)]
        else:
            logits = logits[:, columns[0]]
        logits = (logits.float() / temperature).clamp_min(MIN_LOGIT)
        yield -(expected.to(logits.device) * logits.log_softmax(-1)).sum()


def combined(parts: Sequence[Optional[SoftLoss]]) -> Optional[SoftLoss]:
    """The mean of several losses over all their rows; None if there are none."""
    losses = [part for part in parts if part is not None]
    count = sum(loss.count for loss in losses)
    if not count:
        return None
    return SoftLoss(torch.stack([loss.mean * (loss.count / count) for loss in losses]).sum(), count)


def _shared(ours: List[Hashable], theirs: List[Hashable]) -> Optional[Tuple[List[int], List[int]]]:
    """The indices of equal names on both sides; None if there are none."""
    if ours == theirs:
        return list(range(len(ours))), list(range(len(ours)))
    where = {name: i for i, name in enumerate(theirs)}
    pairs = [(i, where[name]) for i, name in enumerate(ours) if name in where]
    return ([i for i, _ in pairs], [j for _, j in pairs]) if pairs else None


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """The symmetric Kullback-Leibler divergence in nats (half the sum of both directions), the mean over rows."""
    log_p, log_q = (logits.float().clamp_min(MIN_LOGIT).log_softmax(-1) for logits in (first, second))
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean() / 2


def binary_logits(logits: Tensor) -> Tensor:
    """Logits of labels that each hold or not, as distributions over yes and no: (rows, labels) to (rows * labels, 2)."""
    return torch.stack([nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)], -1).flatten(0, 1)


def label_outputs(logits: Tensor, owners: Union[Sequence[int], np.ndarray], items: Sequence[Hashable], labels: Sequence[str],
                  exclusive: bool) -> Outputs:  # fmt: skip
    """The outputs of a classifier.

    The detail holds the logits as they are.

    Args:
        logits (Tensor): Shape (items, labels).
        owners (Union[Sequence[int], np.ndarray]): Shape (items,): the example of each.
        items (Sequence[Hashable]): What is classified: a name for each item.
        labels (Sequence[str]): The labels.
        exclusive (bool): One label holds (softmax), or each for itself (sigmoid).
    """
    owners = np.asarray(owners, dtype=np.int64)

    def names(example: int) -> Names:
        own = [item for item, owner in zip(items, owners) if owner == example]
        if exclusive:
            return Names(list(own), [list(labels)])
        return Names([(item, label) for item in own for label in labels], [[True, False]])

    if exclusive:
        return Outputs((logits,), owners, names, logits)
    return Outputs((binary_logits(logits),), np.repeat(owners, len(labels)), names, logits)
