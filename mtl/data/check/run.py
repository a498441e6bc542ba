"""Check labelled data: all files, splits and tasks together."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence

from spacy.tokens import Doc

from mtl.data.check.annotation import label_counts, task_findings
from mtl.data.check.facts import Item, gather
from mtl.data.check.findings import ERROR, LEVELS, NOTE, WARNING, Finding, Place, found_at
from mtl.data.check.texts import other_words, shared_texts, text_findings
from mtl.data.formats.reading import Reading
from mtl.data.labelled import Labelled, left_out, read_labelled
from mtl.data.records import Report
from mtl.registry import registered_tasks

Length = Callable[[str], int]  # of a text in subwords


def check_data(
    files: Mapping[str, Sequence[Path]],
    *,
    lang: str = "en",
    reading: Reading = Reading(),
    unlabelled: Sequence[str] = (),
    subwords: Optional[Length] = None,
    window: int = 0,
) -> Dict[str, Any]:
    """Check labelled files of any format, or converted ones.

    Args:
        files (Mapping[str, Sequence[Path]]): By split, its files, of all tasks; "train" has to be there.
        lang (str): The language whose tokenizer is used for files that are not converted yet.
        reading (Reading): How to read files that are not converted yet.
        unlabelled (Sequence[str]): Texts to adapt on, which should be of the same domain.
        subwords (Optional[Length]): How many subwords a text has, to compare with the window; None to leave that out.
        window (int): Subwords in a window of the encoder.

    Returns:
        Dict[str, Any]: "documents" by split, "annotated" by task and split, "labels" by task, split and label, and "findings",
            errors first.

    Raises:
        UserError: A file cannot be read.
    """
    reports: List[Report] = []
    documents = read_labelled(files, lang, reading, reports)
    return check_documents(documents, reports, unlabelled=unlabelled, subwords=subwords, window=window)


def check_documents(
    documents: Iterable[Labelled],
    reports: Sequence[Report] = (),
    *,
    unlabelled: Sequence[str] = (),
    subwords: Optional[Length] = None,
    window: int = 0,
) -> Dict[str, Any]:
    """Check documents, which are not kept, and what is said of the files that they are from: see `check_data`."""
    tasks = [task for task in registered_tasks() if not task.is_auxiliary]
    advised: Dict[str, List[Doc]] = {}
    items = gather(documents, tasks, advised)
    present = [task for task in tasks if any(task.title in item.facts for item in items)]
    findings: List[Finding] = [
        *text_findings(items), *shared_texts(items), *other_words(items, unlabelled), *_windows(items, subwords, window),
        *(finding for task in present for finding in task_findings(task, items, advised[task.title])),
    ]  # fmt: skip
    findings += [
        Finding(WARNING, "left out", line, "see if that is meant: mtl convert shows where") for line in left_out(reports)
    ]
    if not present:
        findings.append(Finding(ERROR, "no annotation", "no document has an annotation", "give labelled files"))
    findings.sort(key=lambda finding: LEVELS.index(finding.level))
    annotated = {task.title: dict(Counter(item.split for item in items if task.title in item.facts)) for task in present}
    return {
        "documents": dict(Counter(item.split for item in items)),
        "annotated": annotated,
        "labels": {task.title: label_counts(task, items) for task in present},
        "findings": [asdict(finding) for finding in findings],
    }


def _windows(items: Sequence[Item], subwords: Optional[Length], window: int) -> List[Finding]:
    """Documents that are longer than the encoder's window."""
    if subwords is None:
        return []
    lengths = [(subwords(item.text), item) for item in items]
    long = [Place(f"{item.where}: {length:,} subwords", item.text) for length, item in lengths if length > window]
    what = f"documents have more than {window} subwords, up to {max((length for length, _ in lengths), default=0):,}"
    return list(found_at(NOTE, "longer than the window", what, "they are read in windows, which costs time", long))
