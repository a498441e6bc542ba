"""Documents as the file formats are read, before spaCy is involved."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Set, Union


@dataclass
class Entity:
    """A labelled mention.

    Args:
        start (int): First character.
        end (int): The character after the last.
        label (str): Its type.
        attributes (Optional[Dict[str, Union[bool, str]]]): Attribute -> whether it holds, or its value; None if the entity is
            not annotated for attributes.
    """

    start: int
    end: int
    label: str
    attributes: Optional[Dict[str, Union[bool, str]]] = None


@dataclass
class GoldAnswer:
    """An answer as it is annotated.

    Args:
        start (int): First character.
        text (str): The answer.
    """

    start: int
    text: str


@dataclass
class Question:
    """A question about a document.

    Args:
        id (str): Unique in the document.
        text (str): The question.
        answers (List[GoldAnswer]): Alternative answers. Empty if the text does not answer the question.
    """

    id: str
    text: str
    answers: List[GoldAnswer]


@dataclass
class Record:
    """A document with its annotation. None means not annotated, never negative.

    Args:
        text (str): The text.
        where (str): File and line, for messages.
        cats (Optional[Dict[str, float]]): Category -> whether it holds, 0 to 1.
        cats_complete (bool): Categories that `cats` does not name are known not to hold.
        entities (Optional[List[Entity]]): The entities.
        questions (Optional[List[Question]]): Questions and answers.
        number (Optional[float]): A score of the document.
        extra (Dict[str, Any]): Keys that the format does not define, for tasks that read them.
        entities_complete (bool): There are no other entities. If not, nothing is known of the rest of the text.
        overlapping (bool): Entities of the data set overlap, so its documents keep all of theirs as spans.
    """

    text: str
    where: str
    cats: Optional[Dict[str, float]] = None
    cats_complete: bool = False
    entities: Optional[List[Entity]] = None
    questions: Optional[List[Question]] = None
    number: Optional[float] = None
    extra: Dict[str, Any] = field(default_factory=dict)
    entities_complete: bool = True
    overlapping: bool = False


@dataclass
class Report:
    """What was counted while reading and converting a file.

    Args:
        counts (Dict[str, int]): What was counted -> how often.
        notes (List[str]): Messages worth reading, such as on repairs.
        advice (List[str]): What to set in a config.
        format (str): What the file's format is called.
        path (str): The file, where a report is of one of several.
        columns (Set[str]): Which of the columns that were named the files have.
        maxima (Set[str]): Which of the counts are no sums, but the largest of numbers.
    """

    counts: Dict[str, int] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)
    advice: List[str] = field(default_factory=list)
    format: str = ""
    path: str = ""
    columns: Set[str] = field(default_factory=set)
    maxima: Set[str] = field(default_factory=set)

    def count(self, what: str, n: int = 1) -> None:
        """Add to a count."""
        self.counts[what] = self.counts.get(what, 0) + n

    def largest(self, what: str, n: int) -> None:
        """Keep the largest number."""
        self.maxima.add(what)
        self.counts[what] = max(self.counts.get(what, 0), n)

    def add(self, other: "Report") -> None:
        """Add what was counted and noted of another part."""
        for what, count in other.counts.items():
            (self.largest if what in other.maxima else self.count)(what, count)
        self.notes += other.notes
        self.advice += other.advice

    def note(self, what: str, message: str) -> None:
        """Add to a count, with a message that says where."""
        self.count(what)
        self.notes.append(message)
