"""Labels that differ in case or blanks alone: one label spelled in two ways, or two that look alike."""

from collections import Counter, defaultdict
from typing import Callable, Dict, Iterable, List, Literal, Sequence, Tuple

from mtl.data.records import Record, Report
from mtl.errors import UserError

Spelling = Literal["refuse", "keep", "merge"]
SPELLINGS: Tuple[Spelling, ...] = ("refuse", "keep", "merge")


class SpellingsDiffer(UserError):
    """Labels differ in case or blanks alone, and nobody has said whether they are the same."""


def alike(labels: Iterable[str]) -> List[List[str]]:
    """Those labels that differ in case or blanks alone, in groups of two or more."""
    groups: Dict[str, List[str]] = defaultdict(list)
    for label in sorted(set(labels)):
        groups["".join(label.split()).casefold()].append(label)
    return [group for group in groups.values() if len(group) > 1]


def settle_spellings(records: Sequence[Record], spelling: Spelling, report: Report) -> None:
    """Remove blanks at the edges of labels, and merge labels that differ in case or blanks alone, if that is wanted.

    Args:
        records (Sequence[Record]): The documents, which are changed.
        spelling (Spelling): "refuse" such labels, "keep" them apart, or "merge" them: the most frequent spelling stands.
        report (Report): Counts what was changed.

    Raises:
        SpellingsDiffer: There are such labels, and they are refused.
    """
    kinds: Tuple[Tuple[str, Callable[[Record], List[str]]], ...] = (
        ("categories", lambda record: list(record.cats or ())),
        ("entities", lambda record: [entity.label for entity in record.entities or ()]),
    )
    for kind, labels_of in kinds:
        counts: Counter = Counter(label for record in records for label in labels_of(record))
        replacements = {label: label.strip() for label in counts if label != label.strip()}
        if replacements:
            report.count(f"labels of {kind} with blanks at the edges, which were removed", len(replacements))
        stripped: Counter = Counter()
        for label, count in counts.items():
            stripped[label.strip()] += count
        for group in alike(stripped):
            best = max(group, key=lambda label: stripped[label])
            if spelling == "refuse":
                shown = ", ".join(f"{label!r} ({stripped[label]:,})" for label in group)
                raise SpellingsDiffer(
                    f"{kind}: the labels {shown} differ in case or blanks alone. Correct them, or say what they are: "
                    f"--spelling merge makes {best!r} of all, --spelling keep leaves them apart"
                )
            if spelling == "merge":
                report.count(f"spellings of {best!r}, merged", len(group))
                replacements |= {label: best for label in counts if label.strip() in group and label != best}
        if replacements:
            _replace(records, kind, replacements)


def _replace(records: Sequence[Record], kind: str, replacements: Dict[str, str]) -> None:
    for record in records:
        if kind == "categories" and record.cats is not None:
            merged: Dict[str, float] = {}
            for label, degree in record.cats.items():
                label = replacements.get(label, label)
                merged[label] = max(degree, merged.get(label, 0.0))
            record.cats = merged
        for entity in (record.entities or ()) if kind == "entities" else ():
            entity.label = replacements.get(entity.label, entity.label)
