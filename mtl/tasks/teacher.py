"""Finished pipelines that teach a head: their predictions stand beside the gold annotation, or alone where there is none."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Set, Tuple
from weakref import WeakValueDictionary

import torch
from spacy.language import Language
from spacy.training import Example
from spacy.util import load_model

from mtl.data.docs import bare_doc
from mtl.encoder.batch import EncoderBatch
from mtl.encoder.component import Transformer
from mtl.encoder.texts import tokenized_texts
from mtl.errors import UserError, check_range
from mtl.registry import heads_of
from mtl.tasks.outputs import Outputs, SoftLoss, Targets, averaged
from mtl.torch_model import predicting

if TYPE_CHECKING:
    from mtl.tasks.component import Head

logger = logging.getLogger(__name__)

MAX_CACHED = 50_000_000  # numbers in predictions that are kept, for all documents of a head together
NAME_SIZE = 30  # a row's name takes the memory of so many numbers
SHARED_TOKENS = 20_000  # in documents whose encodings are kept for the next head: an update's
Key = Tuple[str, ...]


class TeacherSettings:
    """`mtl.Teacher.v1`: which pipelines teach a head, and how much they count, for `[initialize.components.HEAD.teacher]`.

    On labelled documents, training starts on the teachers' probabilities and shifts gradually to the gold annotation (teacher
    annealing, Clark et al. 2019, BAM, https://arxiv.org/abs/1907.04829). On documents that are not annotated for the head, which
    it leaves out otherwise, the teachers' probabilities are all there is to learn from.

    Args:
        pipelines (List[str]): Folders or packages, of any size and with any encoder. Several are an ensemble: the mean of their
            probabilities is taught.
        steps (int): Updates of the head over which the teachers' share changes from the first to the last; 0: it stays the first.
        start_share (float): The teachers' share of the loss on labelled documents in the first update, 0 to 1.
        end_share (float): Their share after the last of these updates.
        temperature (float): What logits on both sides are divided by. Above 1, the less likely outcomes count more.
        unlabelled_weight (float): How much a document that is not annotated for the head counts, relative to one that is; 0 to
            leave them out.
        min_confidence (float): Leave out unlabelled documents in which the teachers give no outcome of some distribution at
            least this probability.

    Raises:
        UserError: A setting is out of range.
    """

    # Not a dataclass, which pydantic would turn into a dict on its way to the head.
    def __init__(
        self, pipelines: List[str], steps: int = 0, start_share: float = 1.0, end_share: float = 0.0, temperature: float = 1.0,
        unlabelled_weight: float = 1.0, min_confidence: float = 0.0,
    ) -> None:  # fmt: skip
        if not pipelines:
            raise UserError("teacher.pipelines is empty: name at least one pipeline")
        check_range("teacher.steps", steps, 0)
        for name, share in (("start_share", start_share), ("end_share", end_share), ("min_confidence", min_confidence)):
            check_range(f"teacher.{name}", share, 0.0, 1.0)
        check_range("teacher.temperature", temperature, 0.01)
        check_range("teacher.unlabelled_weight", unlabelled_weight, 0.0)
        self.pipelines, self.steps, self.temperature = list(pipelines), steps, temperature
        self.start_share, self.end_share = start_share, end_share
        self.unlabelled_weight, self.min_confidence = unlabelled_weight, min_confidence


class TeacherPipeline:
    """A loaded pipeline, shared by all heads that it teaches.

    Args:
        nlp (Language): The pipeline.
    """

    def __init__(self, nlp: Language) -> None:
        self.nlp = nlp
        self._encoded: Dict[int, _Encoded] = {}  # the id of a student's example -> what the heads of this update share

    def targets(self, head: str, example: Example, temperature: float) -> Optional[Targets]:
        """What one of the pipeline's heads says of a document; None if that has nothing that it could say something of.

        Each document is encoded alone, once for all heads, so that the bits do not depend on what else is in the batch.
        """
        pipe: Any = self.nlp.get_pipe(head)
        with torch.no_grad(), predicting():
            own, batch = self._encode(example, pipe.transformer)
            outputs = pipe.outputs([(0, own)], batch, 0.0)
            return None if outputs is None else pipe.targets(outputs, 0, temperature)

    def _encode(self, example: Example, transformer: Transformer) -> Tuple[Example, EncoderBatch]:
        """The document in the pipeline's own tokens, and its encodings, which are made when they are asked for."""
        encoded = self._encoded.get(id(example))
        if encoded is None:
            if sum(len(kept.own.predicted) for kept in self._encoded.values()) > SHARED_TOKENS:
                self._encoded.clear()
            is_text_known = not example.reference.has_unknown_spaces
            doc = self.nlp.make_doc(example.predicted.text) if is_text_known else bare_doc(example.predicted, self.nlp.vocab)
            encoded = self._encoded[id(example)] = _Encoded(example, Example(doc, example.reference), {})
        if transformer.name not in encoded.batches:
            texts = tokenized_texts([encoded.own.predicted])
            encoded.batches[transformer.name] = EncoderBatch(transformer.encoder, texts, train=False)
        return encoded.own, encoded.batches[transformer.name]


@dataclass
class _Encoded:
    """A document of this update."""

    example: Example  # the student's, kept so that its id stays its own
    own: Example
    batches: Dict[str, EncoderBatch]  # by transformer


_LOADED: "WeakValueDictionary[str, TeacherPipeline]" = WeakValueDictionary()


def load_teacher(pipeline: str, setting: str) -> TeacherPipeline:
    """Load a pipeline, unless another head has loaded it and still learns from it."""
    loaded = _LOADED.get(pipeline)
    if loaded is None:
        try:
            loaded = TeacherPipeline(load_model(pipeline))
        except OSError as error:
            raise UserError(f"{setting}: no such pipeline {pipeline!r}") from error
        _LOADED[pipeline] = loaded
    return loaded


class Teacher:
    """The teachers of one head. Each document is shown to them once.

    Args:
        settings (TeacherSettings): Which pipelines, and how much they count.
        head (Head): The student.

    Attributes:
        updates (int): Updates of the head so far.

    Raises:
        UserError: There is no such pipeline, or it has no head of that kind, or none of the head's labels.
    """

    def __init__(self, settings: TeacherSettings, head: "Head") -> None:
        if not isinstance(settings, TeacherSettings):
            raise UserError(
                f"[initialize.components.{head.name}] teacher = {settings!r}: give a section "
                f'[initialize.components.{head.name}.teacher] with @misc = "mtl.Teacher.v1" and pipelines = [...]'
            )
        self.settings, self.head, self.updates = settings, head, 0
        setting = f"[initialize.components.{head.name}.teacher] pipelines"
        self.members: List[Tuple[TeacherPipeline, str]] = []
        for name in settings.pipelines:
            pipeline = load_teacher(name, setting)
            member = _head_like(head, pipeline.nlp, f"{setting}: {name!r}")
            self.members.append((pipeline, member))
        self._targets: Dict[Key, List[Targets]] = {}
        self._cached = 0  # numbers in them

    @property
    def share(self) -> float:
        """The teachers' share of the loss on labelled documents in this update."""
        settings = self.settings
        progress = min(1.0, self.updates / settings.steps) if settings.steps else 0.0
        return (1 - progress) * settings.start_share + progress * settings.end_share

    @property
    def takes_unlabelled(self) -> bool:
        """Whether documents without gold annotation are taught."""
        return self.settings.unlabelled_weight > 0

    def next_share(self) -> float:
        """The share of this update, which is counted. Frees the teachers once they have nothing left to say."""
        share, settings = self.share, self.settings
        self.updates += 1
        if not (share or self.takes_unlabelled or settings.end_share) and self.updates > settings.steps:
            self._targets.clear()
            self.members = []
        return share

    def loss(self, outputs: Outputs, rows: Sequence[Tuple[int, Example]], unlabelled: bool = False) -> Optional[SoftLoss]:
        """The loss of the head's predictions against those of the teachers; None where they have nothing in common.

        Args:
            outputs (Outputs): The predictions.
            rows (Sequence[Tuple[int, Example]]): The examples that they are for.
            unlabelled (bool): Leave out what the teachers are not confident of.
        """
        targets = [self.targets(example) for _, example in rows]
        if unlabelled and self.settings.min_confidence:
            least = self.settings.min_confidence
            targets = [members if all(m.confidence >= least for m in members) else [] for members in targets]
        return self.head.soft_loss(outputs, targets, self.settings.temperature)

    @property
    def labels(self) -> Set[str]:
        """The labels that any of them knows."""
        return {label for pipeline, name in self.members for label in self._head(pipeline, name).labels}

    def settings_of_first(self, names: Sequence[str]) -> Dict[str, Any]:
        """What the first teacher has learned beside its weights."""
        cfg = self._head(*self.members[0]).cfg
        return {name: cfg[name] for name in names}

    @staticmethod
    def _head(pipeline: TeacherPipeline, name: str) -> Any:
        return pipeline.nlp.get_pipe(name)

    def check_labels(self) -> None:
        """Name the labels that are not taught. Called when the head knows its own.

        Raises:
            UserError: A teacher has none of them.
        """
        ours = set(self.head.labels)
        for (pipeline, name), path in zip(self.members, self.settings.pipelines):
            theirs = set(self._head(pipeline, name).labels)
            if ours and not ours & theirs:
                raise UserError(
                    f"[initialize.components.{self.head.name}.teacher] {path!r} has none of the head's labels; it has "
                    f"{', '.join(sorted(theirs))}, and the head {', '.join(sorted(ours))}"
                )
            for labels, problem in ((ours - theirs, "does not teach"), (theirs - ours, "knows labels that the head lacks:")):
                if labels:
                    logger.warning("the teacher %r of %r %s %s", path, self.head.name, problem, ", ".join(sorted(labels)))

    def targets(self, example: Example) -> List[Targets]:
        """What the teachers say of a document; none if it has nothing that they could say something of."""
        key = self._key(example)
        if key not in self._targets:
            targets = self._ask(example)
            size = sum(table.numel() + NAME_SIZE * len(table) for member in targets for table in member.probabilities)
            if self._cached + size > MAX_CACHED:
                self._targets, self._cached = {}, 0
            self._targets[key] = targets
            self._cached += size
        return self._targets[key]

    def _ask(self, example: Example) -> List[Targets]:
        said = (pipeline.targets(name, example, self.settings.temperature) for pipeline, name in self.members)
        return averaged([targets for targets in said if targets is not None])

    def _key(self, example: Example) -> Key:
        prompts = sorted(prompt or "" for prompt in self.head.task.encodings(example.reference))
        words = (token.text_with_ws for token in example.predicted)
        return (*words, *prompts, *self.head.task.signature(example.reference))


def _head_like(head: "Head", nlp: Language, where: str) -> str:
    """The name of the pipeline's head of the same kind, that of the same name if there are several."""
    if head.task.is_taught:
        return head.added_to(nlp)
    same_kind = [name for name, pipe in heads_of(nlp).items() if type(pipe) is type(head)]
    if not same_kind:
        raise UserError(f"{where}: it has no head of this kind; its components are {', '.join(nlp.pipe_names)}")
    return head.name if head.name in same_kind else same_kind[0]
