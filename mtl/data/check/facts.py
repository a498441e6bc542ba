"""What a check keeps of each document, so that it need not keep the documents."""

from dataclasses import dataclass, field
from typing import Dict, Iterable, List, Sequence, Tuple

from spacy.tokens import Doc

from mtl.data.labelled import Labelled
from mtl.progress import CountProgress
from mtl.registry import Task

ADVISED = 5000  # training documents of a task that are kept, for its advice


@dataclass
class Fact:
    """What a task's annotation says of a document.

    Args:
        labels (Tuple[str, ...]): The labels in it.
        faults (Tuple[str, ...]): What no head can learn.
        gold (Dict[str, int]): What is asked, such as a question -> a hash of what is said.
    """

    labels: Tuple[str, ...]
    faults: Tuple[str, ...]
    gold: Dict[str, int]


@dataclass
class Item:
    """A document of a split.

    Args:
        where (str): File and line.
        split (str): "train", "dev" or "test".
        text (str): Its text.
        group (str): What it is of; empty if that is not known.
        facts (Dict[str, Fact]): By task's title, what is annotated.
    """

    where: str
    split: str
    text: str
    group: str
    facts: Dict[str, Fact] = field(default_factory=dict)


def gather(documents: Iterable[Labelled], tasks: Sequence[Task], advised: Dict[str, List[Doc]]) -> List[Item]:
    """The facts of all documents; some training documents of each task are added to `advised`, by its title."""
    items = []
    with CountProgress("checking", "documents") as progress:
        for document in progress.over(documents):
            item = Item(document.where, document.split, document.text, document.group)
            for task in tasks:
                if not len(document.doc) or not task.is_annotated(document.doc):
                    continue
                gold = {key: hash(str(said)) for key, said in task.gold(document.doc).items()}
                labels = tuple(sorted(task.labels(document.doc)))
                item.facts[task.title] = Fact(labels, tuple(task.faults(document.doc)), gold)
                kept = advised.setdefault(task.title, [])
                if item.split == "train" and len(kept) < ADVISED:
                    kept.append(document.doc)
            items.append(item)
    return items
