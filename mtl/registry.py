"""What a task is to the rest of the program, and which tasks there are. No torch.

Everything that has to know about tasks (conversion, sampling, augmentation, probing, evaluation, packaging, comparison) iterates
over `registered_tasks` or over the tasks of a pipeline's heads, and names none. A task is added by a folder and its entry points,
in this package or in another: see "Add a task" in the documentation.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cache
from importlib.metadata import entry_points
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Dict, FrozenSet, Iterable, List, Optional, Sequence, Set, Tuple, Type

from spacy.language import Language
from spacy.tokens import Doc, Token

from mtl.errors import UserError

if TYPE_CHECKING:
    from mtl.data.records import Record, Report

GROUP = "mtl_tasks"  # the entry point group
Encoding = Optional[str]  # a prompt that the text is encoded behind; None for the text alone


@dataclass(frozen=True)
class Score:
    """One number that evaluation reports.

    Args:
        key (str): Its name in spaCy's scores, such as "ents_f".
        title (str): Its name in tables, such as "entities: F1".
        is_error (bool): Lower is better, in the unit of the data. Other scores are fractions, shown in points.
    """

    key: str
    title: str
    is_error: bool = False

    def show(self, value: float, decimals: int = 1) -> str:
        """The value as tables print it."""
        return f"{value:.{decimals + 2}g}" if self.is_error else f"{100 * value:.{decimals}f}"

    def loss(self, reference: float, value: float) -> float:
        """How much worse the value is than the reference: in points, for errors in percent of the reference."""
        if self.is_error:
            return 100 * (value - reference) / abs(reference) if reference else 0.0
        return 100 * (reference - value)


class Change(Enum):
    """Ways in which an augmenter changes a text. A task says which of them leave its annotation valid."""

    SYNONYMS = "words replaced by synonyms"
    NOISE = "stop words dropped, letter case changed"
    MENTIONS = "entities replaced by others of the same type"
    SAME_LABEL = "words replaced by words with the same token-level annotation"
    LIKELY_WORDS = "words replaced by what a language model expects, which may turn the meaning"
    PARAPHRASE = "the whole text said in other words, without alignment"


@dataclass(frozen=True)
class ProbeItem:
    """One encoding of a document, and what a linear model is to predict from the frozen vectors.

    Args:
        prompt (Optional[str]): Encode the document behind this prompt; None for the text alone.
        targets (Any): For a document: a dict from label to whether it holds, or a number. For tokens: a list with a label (""
            for none) or a bool for each token.
    """

    prompt: Encoding
    targets: Any


class Moved:
    """Where the tokens of a document went in a changed copy of it. See `mtl.augment.rewrite`."""

    def span(self, span: Any, doc: Doc) -> Any:
        """The span in the new document; None if none of its tokens is left."""
        raise NotImplementedError

    @property
    def origins(self) -> Sequence[int]:
        """For each new token the old token it stands for, -1 if it stands for several or is one of several."""
        raise NotImplementedError


class Task:
    """What a task says of itself. One instance describes one head, with the settings of that head that matter here.

    Subclasses fill in the class attributes and override the methods whose default does not fit.

    Attributes:
        name (str): Short name, and the default name of the component.
        factory (str): The spaCy factory of the component.
        title (str): What its annotation is called in reports, such as "categories".
        scores (Tuple[Score, ...]): What is reported, in order.
        details (Tuple[str, ...]): Keys of breakdowns, such as by label, that the scorer adds.
        headlines (Tuple[str, ...]): Keys of `scores`; the first one that an evaluation has stands for the task.
        survives (FrozenSet[Change]): Changes of the text after which the annotation is still valid.
        is_auxiliary (bool): The task exists for the encoder's sake: it predicts nothing and is not scored.
        is_taught (bool): All that it learns comes from teachers.
        order (int): Where it stands in reports; tasks of other packages come last unless they say otherwise.
        json_keys (Tuple[str, ...]): Keys of JSON Lines documents that only this task reads (`Record.extra`).
    """

    name: ClassVar[str]
    factory: ClassVar[str]
    title: ClassVar[str]
    scores: Tuple[Score, ...] = ()
    details: ClassVar[Tuple[str, ...]] = ()
    headlines: Tuple[str, ...] = ()
    survives: ClassVar[FrozenSet[Change]] = frozenset()
    is_auxiliary: ClassVar[bool] = False
    is_taught: ClassVar[bool] = False
    order: ClassVar[int] = 100
    json_keys: ClassVar[Tuple[str, ...]] = ()

    @classmethod
    def defaults(cls) -> Sequence["Task"]:
        """The instances to use where no pipeline says which settings its heads have."""
        return (cls(),)

    @classmethod
    def from_settings(cls, settings: Dict[str, Any]) -> "Task":
        """The task of a head with these settings, as its section of the config has them."""
        return cls()

    @classmethod
    def initialize_settings(cls, encoder: str) -> Dict[str, Any]:
        """What [initialize.components.NAME] of an auxiliary head has to say, beside an encoder with that name."""
        return {}

    # Annotation

    def is_annotated(self, doc: Doc) -> bool:
        """Whether the document carries gold annotation for this task."""
        raise NotImplementedError

    def labels(self, doc: Doc) -> Set[str]:
        """The labels in the document's gold annotation that a head has to know."""
        return set()

    def gold(self, doc: Doc) -> Dict[str, Any]:
        """What the document's gold annotation says of each thing that was asked, such as a question or a category.

        Two documents with the same text contradict each other if they say different things of the same.
        """
        return {"": self.show_gold(doc)}

    def faults(self, doc: Doc) -> List[str]:
        """What of the gold annotation no head can learn from: a description for each item, equal for items of one kind.

        Readers of files repair or refuse such gold; a Doc that another tool has made may have it.
        """
        return []

    def annotate(self, doc: Doc, record: "Record", report: "Report") -> None:
        """Write what a record says for this task to the document, and count it.

        Raises:
            UserError: The record contradicts itself or the text.
        """

    def to_record(self, doc: Doc, record: "Record") -> None:
        """Write the document's annotation for this task, gold or predicted, to a record: the reverse of `annotate`."""

    def complete(self, records: Sequence["Record"]) -> None:
        """Make the records of all splits consistent before any of them becomes a document."""

    def signature(self, doc: Doc) -> Tuple[str, ...]:
        """What decides which documents, tokens and prompts a loss over this document covers. Equal means interchangeable."""
        return ()

    def encodings(self, doc: Doc) -> Set[Encoding]:
        """How a training step encodes the document for this task: alone (None), behind prompts, or not at all."""
        return {None} if self.is_annotated(doc) else set()

    def copy_inputs(self, reference: Doc, doc: Doc) -> None:
        """Copy what a pipeline needs beside the text, such as questions, so that it predicts what `reference` asks for."""

    def ask(self, doc: Doc, labelled: Sequence[Doc], rng: Random) -> None:
        """Ask of an unlabelled document what labelled ones are asked, so that a teacher can answer. By default, the text does."""

    def suggested_settings(self, docs: Sequence[Doc]) -> Dict[str, Any]:
        """Settings of the head that suit these annotated documents, for a new config."""
        return {}

    def selecting_score(self, settings: Dict[str, Any]) -> str:
        """The key of the score by which the best model with these settings is chosen."""
        return self.headlines[0]

    def advice(self, docs: Sequence[Doc]) -> List[str]:
        """What to set in a config for training on these documents, for a person."""
        return []

    # Augmentation

    def token_label(self, token: Token) -> Tuple[str, ...]:
        """The token's annotation, if the task labels tokens; () otherwise."""
        return ()

    def transfer(self, doc: Doc, new: Doc, moved: Moved) -> None:
        """Copy the annotation to a changed copy of the document."""

    def span_keys(self, doc: Doc) -> Set[str]:
        """Keys of `doc.spans` that hold this task's annotation."""
        return set()

    # Reports

    def score(self, key: str) -> Optional[Score]:
        """The score of that name, if it is one of this task's."""
        return next((score for score in self.scores if score.key == key), None)

    def headline(self, scores: Dict[str, Any]) -> Optional[str]:
        """The key of the score that stands for the task among those of an evaluation."""
        return next((key for key in self.headlines if scores.get(key) is not None), None)

    def trivial_baseline(self, train: Sequence[Doc], test: Sequence[Doc]) -> Dict[str, Tuple[float, str]]:
        """What needs no model: score key -> (value, description)."""
        return {}

    def simple_model(self, train: Sequence[Doc], test: Sequence[Doc]) -> Dict[str, float]:
        """What a model without an encoder reaches: score key -> value.

        Raises:
            UserError: An optional dependency is missing.
        """
        return {}

    def usage(self, component: str) -> str:
        """A line of Python with a comment, for the README of a packaged pipeline; "" if there is nothing to show."""
        return ""

    def show(self, doc: Doc, component: str) -> List[str]:
        """What the head of that name predicted for the document, as lines for a person."""
        return []

    def show_gold(self, doc: Doc) -> List[str]:
        """The document's gold annotation, as lines like those of `show`."""
        return []

    # Probing

    def probe_items(self, doc: Doc) -> List[ProbeItem]:
        """What a linear probe on the frozen encoder learns from an annotated document."""
        return []


@cache
def task_types() -> Tuple[Type[Task], ...]:
    """The tasks of all installed packages, in the order of reports.

    Raises:
        UserError: Two packages register the same name, or an entry point cannot be loaded.
    """
    tasks: Dict[str, Type[Task]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (not point.value.startswith("mtl."), point.value)):
        try:
            task = point.load()
        except (ImportError, AttributeError) as error:
            raise UserError(f"the task {point.name!r} ({point.value}) cannot be loaded: {error}") from error
        if point.name in tasks and tasks[point.name] is not task:
            raise UserError(
                f"two packages register a task {point.name!r}: {tasks[point.name].__module__} and {task.__module__}; "
                f"uninstall one of them"
            )
        tasks[point.name] = task
    return tuple(sorted(tasks.values(), key=lambda task: (task.order, task.name)))


def registered_tasks() -> Tuple[Task, ...]:
    """An instance or more of every registered task, with default settings."""
    return tuple(instance for task in task_types() for instance in task.defaults())


def heads_of(nlp: Language) -> Dict[str, Any]:
    """The pipeline's enabled components that learn a registered task on a shared encoder, by name."""
    return {name: pipe for name, pipe in nlp.pipeline if isinstance(getattr(pipe, "task", None), Task)}


def tasks_of(nlp: Language) -> List[Task]:
    """The tasks of the pipeline's heads, with their settings, then those of all other registered tasks.

    The latter are there for components of other makes, such as spaCy's own tagger.
    """
    tasks: List[Task] = [pipe.task for pipe in heads_of(nlp).values()]
    present = {type(task) for task in tasks}
    return [*tasks, *(task for task in registered_tasks() if type(task) not in present)]


def score_of(key: str, tasks: Optional[Iterable[Task]] = None) -> Optional[Score]:
    """The score of that name, if it is one of any task's."""
    for task in registered_tasks() if tasks is None else tasks:
        if (score := task.score(key)) is not None:
            return score
    return None


def headlines(scores: Dict[str, Any], tasks: Optional[Iterable[Task]] = None) -> List[str]:
    """The key of one score for each task that an evaluation has scores of."""
    keys = (task.headline(scores) for task in (registered_tasks() if tasks is None else tasks))
    return list(dict.fromkeys(key for key in keys if key is not None))
