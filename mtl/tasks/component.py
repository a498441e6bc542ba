"""What every head shares: its place at the encoder, its weights, its scores."""

from collections import Counter
from contextlib import ExitStack, suppress
from typing import Any, Callable, ClassVar, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

import torch
from spacy.pipeline.trainable_pipe import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Model
from torch import nn

from mtl.encoder.component import Transformer
from mtl.encoder.listener import find_transformer
from mtl.encoder.model.vectors import TokenVectors
from mtl.errors import UserError
from mtl.pipe import RobustPipe
from mtl.registry import Task
from mtl.settings import check_component_name
from mtl.tasks.checks import check_augmenters, check_places, check_score_weights
from mtl.tasks.labels import HeadLabels
from mtl.tasks.saving import SavedHead
from mtl.tasks.teacher import Teacher
from mtl.tasks.training import HeadUpdate
from mtl.torch_model import Parameters, building, get_module, run_by, set_module


class Head(HeadLabels, HeadUpdate, SavedHead, RobustPipe, TrainablePipe):
    """Base class of the heads. A subclass gives a loss, and writes predictions to Docs.

    A head learns from, and is scored on, only the documents annotated for its task.

    Args:
        vocab (Vocab): The shared vocabulary.
        model (Model): The head's architecture over an `mtl.EncoderListener.v1`.
        name (str): The component's name.
        task (Task): What the head does, with this head's settings.
        scorer (Optional[Callable]): Computes the scores of annotated examples.
        cfg (Any): The head's settings, saved with it.

    Attributes:
        learned_settings (Tuple[str, ...]): The part of `cfg` that training decides. The rest comes from the config, also when a
            trained pipeline is loaded.
        reads_docs (bool): False if the head only reads Docs behind prompts, and needs no encoding of the text alone.
    """

    learned_settings: ClassVar[Tuple[str, ...]] = ("labels", "width")
    reads_docs: ClassVar[bool] = True

    def __init__(self, vocab: Vocab, model: Model, name: str, *, task: Task, scorer: Optional[Callable], **cfg: Any) -> None:
        check_component_name(name)
        self.vocab, self.model, self.name, self.task, self.scorer = vocab, model, name, task, scorer
        run_by(model, self)
        self.cfg: Dict[str, Any] = {"labels": [], "width": None, **cfg}
        self.score_history: List[Dict[str, float]] = []  # one entry an evaluation of this training, for sampling strategies
        self.teacher: Optional[Teacher] = None
        self._in_training = False
        self._scanned_labels: Set[str] = set()  # of the whole corpus; `initialize` is shown a sample
        self._scanned_count = 0
        self._faults: Counter = Counter()  # what of the gold annotation cannot be learned from -> how often

    @property
    def name(self) -> str:
        """The component's name. spaCy sets it when the component is renamed, or sourced under another name."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        old, self._name = getattr(self, "_name", name), name
        if old != name:
            with suppress(UserError):  # not connected yet
                self.transformer.rename_head(old, name)

    # For subclasses

    def scorer_settings(self) -> Dict[str, Any]:
        """Keyword arguments for the scorer."""
        return {"labels": self.labels}

    def places(self) -> Set[str]:
        """Where the head alone may write, as code: two heads that share a place would overwrite each other."""
        return set()

    def score_names(self) -> Set[str]:
        """The numbers that the head reports when it is evaluated."""
        return {score.key for score in self.task.scores}

    # Labels and weights

    def is_annotated(self, reference: Doc) -> bool:
        """Whether the document carries gold annotation for this head."""
        return self.task.is_annotated(reference)

    @property
    def transformer(self) -> Transformer:
        """The encoder this head reads from.

        Raises:
            UserError: There is none.
        """
        return find_transformer(self.model, self.name)

    @property
    def module(self) -> Any:
        """The torch module, with every step that is due taken.

        Raises:
            UserError: The head is neither initialized nor loaded.
        """
        module = get_module(self.model, self.name)
        with suppress(UserError):  # a head can be loaded and saved without its transformer
            self.transformer.take_due_step()
        return module

    def parameters(self) -> Parameters:
        """The head's trainable parameters, none if it has no weights yet."""
        if not self.model.shims:
            return {}
        named = get_module(self.model, self.name).named_parameters()
        return {name: (parameter, -1) for name, parameter in named if parameter.requires_grad}

    def _build(self, old: Optional[nn.Module] = None) -> None:
        with building():
            module = self.model.attrs["build"](self.cfg["width"], self.cfg["labels"])
        if old is not None:
            module.copy_from(old)
        set_module(self.model, module.to(self._device()).eval())

    def _device(self) -> torch.device:
        try:
            return self.transformer.device
        except UserError:  # loaded before its transformer, or without one; `_placed` moves it when it is used
            return torch.device("cpu")

    def _placed(self, module: nn.Module) -> Any:
        """The module, on the encoder's device."""
        device = self.transformer.device
        return module if next(module.parameters()).device == device else module.to(device)

    @property
    def prediction_module(self) -> Any:
        """The module to predict with: up to date, on the encoder's device."""
        return self._placed(self.module)

    @property
    def training_module(self) -> Any:
        """The module to compute a loss with, as it is: other heads of the step may not be done yet."""
        return self._placed(get_module(self.model, self.name))

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Apply the head to a stream of Docs in batches; see `RobustPipe.pipe`."""
        with ExitStack() as stack:
            with suppress(UserError):  # not connected: predicting says so
                if self.reads_docs:
                    stack.enter_context(self.transformer.stream(self.name))
            yield from super().pipe(stream, batch_size=batch_size)

    def drop(self, docs: List[Doc]) -> None:
        with suppress(UserError):
            self.transformer.forget(docs)

    def vectors(self, docs: Sequence[Doc]) -> TokenVectors:
        """The vectors of Docs, for a prediction."""
        return self.transformer.vectors(docs, self.name)

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Any = None,
        labels: Optional[Iterable[str]] = None,
        teacher: Any = None,
    ) -> None:
        """Find the labels and create the weights.

        Args:
            get_examples (Callable): Returns a sample of the training data.
            nlp (Any): The pipeline.
            labels (Optional[Iterable[str]]): The labels, if they are known.
            teacher (Any): `TeacherSettings`: pipelines to learn from as well.

        Raises:
            UserError: No example is annotated for this head; a teacher does not fit.
        """
        if nlp is not None:
            check_score_weights(nlp)
            check_augmenters(nlp, self, get_examples)
        self.teacher = None if teacher is None else Teacher(teacher, self)
        if labels is not None:
            for label in labels:
                self.add_label(label)
            self._warn_of_faults()
        else:
            self._find_labels(get_examples)
        self.check_labels()
        if self.teacher is not None:
            self.teacher.check_labels()
        if nlp is not None:
            check_places(nlp, self)
        self.cfg["width"] = self.transformer.width
        self._build()

    def score(self, examples: Iterable[Example], **kwargs: Any) -> Dict[str, Any]:
        """Scores over the examples annotated for this head."""
        if self.scorer is None:
            return {}
        annotated = [eg for eg in examples if self.is_annotated(eg.reference)]
        scores = self.scorer(annotated, **{**kwargs, **self.scorer_settings()})
        self.remember_scores(scores)
        return scores

    def remember_scores(self, scores: Dict[str, Any]) -> None:
        """Keep the scores of an evaluation in training."""
        if self._in_training:
            numbers = {name: float(value) for name, value in scores.items() if isinstance(value, (int, float))}
            self.score_history.append(numbers)
