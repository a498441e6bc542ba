"""What every head shares: its place at the encoder, its update, its files."""

import json
import math
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple, Union

import safetensors.torch
import torch
from safetensors import SafetensorError
from spacy import util
from spacy.pipeline.trainable_pipe import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from spacy.vocab import Vocab
from thinc.api import Model
from torch import Tensor, nn

from mtl import ranks
from mtl.encoder.batch import EncoderBatch
from mtl.encoder.component import Transformer
from mtl.encoder.listener import EncoderListener, find_transformer
from mtl.errors import UserError
from mtl.files import read_json, write_json
from mtl.heads.loss import Loss, taught_by, with_consistency
from mtl.heads.teacher import Teacher, make_teacher
from mtl.pipe import RobustPipe
from mtl.torch_model import get_module, set_module, state

Rows = List[Tuple[int, Example]]  # place in the batch, example


class Head(RobustPipe, TrainablePipe):
    """Base of the heads. A subclass says what is annotated, gives a loss and writes predictions.

    A head learns from, and is scored on, only the documents annotated for it.
    """

    learned: Tuple[str, ...] = ("labels", "width")  # what of `cfg` training decides; the rest is the config's, also at load
    reads_docs = True  # False: it reads Docs behind prompts only, so they need no encoding of their own for it

    def __init__(self, vocab: Vocab, model: Model, name: str, *, scorer: Optional[Callable], **cfg: Any) -> None:
        self.vocab, self.model, self.name, self.scorer = vocab, model, name, scorer
        self.cfg: Dict[str, Any] = {"labels": [], "width": None, **cfg}
        self.scored: List[Dict[str, float]] = []  # at each evaluation since training began; mixtures may look at it
        self._training = False
        self.teacher: Optional[Teacher] = None
        self._announced: List[str] = []  # labels of a whole corpus, of which `initialize` is shown a sample
        self._annotated = 0

    # What a subclass fills in

    def is_annotated(self, reference: Doc) -> bool:
        """Whether the Doc carries gold annotation for this head."""
        raise NotImplementedError

    def labels_of(self, reference: Doc) -> Iterable[str]:
        """The labels in a Doc's gold annotation."""
        return ()

    def loss(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Loss]:
        """The loss over the annotated examples; None where none of them can be used."""
        raise NotImplementedError

    def check_labels(self) -> None:
        """RAISES (UserError): the labels found at initialization do not do."""

    def reads_encoder(self, transformer: Transformer) -> bool:
        """Whether this head is connected with that transformer."""
        return any(isinstance(node, EncoderListener) and node.transformer is transformer for node in self.model.walk())

    # Labels and weights

    @property
    def labels(self) -> Tuple[str, ...]:
        return tuple(self.cfg["labels"])

    @property
    def label_data(self) -> Optional[List[str]]:
        """What `spacy init labels` writes."""
        return self.cfg["labels"] or None

    @property
    def transformer(self) -> Transformer:
        """The encoder this head reads from. RAISES (UserError): none is connected."""
        return find_transformer(self.model, self.name)

    @property
    def module(self) -> Any:
        """The torch module. RAISES (UserError): neither initialized nor loaded."""
        return get_module(self.model, self.name)

    def add_label(self, label: str) -> int:
        """Add a label; trained weights of the others are kept. RETURNS 0 where it is there already, else 1."""
        if not isinstance(label, str) or not label:
            raise ValueError(f"{self.name}: a label is a string that is not empty, got {label!r}")
        if label in self.labels:
            return 0
        self.cfg["labels"].append(label)
        if self.model.shims:
            old = self.module
            self._build(old)
        return 1

    def _build(self, old: Optional[nn.Module] = None) -> None:
        module = self.model.attrs["build"](self.cfg["width"], self.cfg["labels"])
        if old is not None:
            module.copy_from(old)
        set_module(self.model, module.to(self._device()).eval())

    def _device(self) -> torch.device:
        try:
            return self.transformer.encoder.device
        except UserError:  # loaded before its transformer, or without one; `_placed` moves it when it is used
            return torch.device("cpu")

    def _placed(self) -> Any:
        """The module, on the encoder's device."""
        module, device = self.module, self.transformer.encoder.device
        parameter = next(module.parameters())
        return module if parameter.device == device else module.to(device)

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Any = None,
        labels: Optional[Iterable[str]] = None,
        teacher: Optional[str] = None,
        teacher_steps: int = 0,
    ) -> None:
        """Find the labels (or take `labels`) and make the weights.

        teacher, teacher_steps: a pipeline to learn from as well, and for how many updates: see `Teacher`.
        RAISES (UserError): no example is annotated for this head.
        """
        self.teacher = make_teacher(teacher, self, teacher_steps)
        if labels is not None:
            for label in labels:
                self.add_label(label)
        else:
            self._find_labels(get_examples)
        self.check_labels()
        self.cfg["width"] = self.transformer.width
        self._build()

    def announce(self, references: Iterable[Doc]) -> None:
        """Show the whole training corpus: spaCy initializes from the first 100 examples of a streamed one.

        Called by the corpus reader before its first example. Labels are found in what is announced and in the sample.
        """
        found: Set[str] = set()
        self._annotated = 0
        for reference in references:
            if self.is_annotated(reference):
                self._annotated += 1
                found.update(self.labels_of(reference))
        self._announced = sorted(found)

    def _find_labels(self, get_examples: Callable[[], Iterable[Example]]) -> None:
        if not callable(get_examples):
            raise ValueError(f"{self.name}: get_examples is a function that gives Examples, got {type(get_examples).__name__}")
        annotated = 0
        found: Set[str] = set()
        for example in get_examples():
            if not isinstance(example, Example):
                raise ValueError(f"{self.name}: get_examples must give Examples, got {type(example).__name__}")
            if self.is_annotated(example.reference):
                annotated += 1
                found.update(self.labels_of(example.reference))
        found.update(self._announced)
        if not annotated and not self._annotated and not self.cfg["labels"]:
            raise UserError(
                f"the head {self.name!r} has no training data: no document of [corpora.train] is annotated for it. "
                f"Add some, or remove the head from [nlp.pipeline]"
            )
        for label in sorted(found):
            self.add_label(label)

    # Training

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Any = None,
        losses: Optional[Dict[str, float]] = None,
    ) -> Dict[str, float]:
        """Add this head's gradient on its own weights, and leave its gradient at the encoder output with the transformer."""
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        self._training = True
        examples = list(examples)
        validate_examples(examples, f"{type(self).__name__}.update")
        rows = [(i, eg) for i, eg in enumerate(examples) if len(eg.predicted) and self.is_annotated(eg.reference)]
        if not ranks.total(len(rows)):
            return losses
        batch = self.transformer.batch(examples)
        module = self._placed().train()
        try:
            found = self._found(rows, batch, drop)
            loss = self._part(found)
            if self.teacher is not None:
                loss = self._taught(self.teacher, found, loss, rows, batch, drop)
        finally:
            module.eval()
        if loss is not None:
            self._collect(loss, ranks.total(loss.item()), rows, batch, losses)
        if sgd not in (None, False):
            self.finish_update(sgd)
        return losses

    def _found(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Loss]:
        found = self.loss(rows, batch, drop) if rows else None
        if found is not None and self.transformer.r_drop and batch.train:
            with batch.again():
                second = self.loss(rows, batch, drop)
            assert second is not None
            found = with_consistency(found, second, self.transformer.r_drop)
        return found

    @staticmethod
    def _part(found: Optional[Loss]) -> Optional[Tensor]:
        """This process's part of the mean loss over all processes, which sums up to it; None where none has anything to use."""
        count = ranks.total(found.count if found is not None else 0.0)
        if not count:
            return None
        return found.mean * (found.count / count) if found is not None else torch.zeros(())

    def _collect(self, loss: Tensor, value: float, rows: Rows, batch: EncoderBatch, losses: Dict[str, float]) -> None:
        """value: of the loss over all processes."""
        if not math.isfinite(value):
            here = not math.isfinite(loss.item())
            self.transformer.not_finite(self.name, "loss", [eg.predicted for _, eg in rows] if here else [])
            return
        if loss.requires_grad:
            loss.backward()
        batch.collect(self.name, value)
        losses[self.name] += value

    def _taught(
        self, teacher: Teacher, found: Optional[Loss], loss: Optional[Tensor], rows: Rows, batch: EncoderBatch, drop: float
    ) -> Optional[Tensor]:
        """The loss, of which a part is against the teacher's predictions."""
        share, teacher.done = teacher.share, teacher.done + 1
        if share == 0:
            teacher.forget()
            return loss
        soft = taught_by(found, teacher.logits(rows)) if found is not None and found.logits and teacher.speaks_alike else None
        taught = self._part(soft if soft is not None or not rows else self._found(teacher.rows(rows), batch, drop))
        if loss is None or taught is None:
            return loss if taught is None else taught
        return (1 - share) * loss + share * taught

    def as_reference(self, doc: Doc) -> Doc:
        """A Doc that this head has annotated, as one that a head of its kind can learn from."""
        return doc

    def finish_update(self, sgd: Any) -> None:
        """One step of the encoder and all its heads; see `Transformer.finish_update`."""
        self.transformer.finish_update(sgd, self.name)

    def get_loss(self, examples: Any, scores: Any) -> Any:
        raise NotImplementedError(f"{self.name}: the loss is computed in `update`, from vectors that only it has")

    def score(self, examples: Iterable[Example], **kwargs: Any) -> Dict[str, Any]:
        """Scores over the examples annotated for this head."""
        if self.scorer is None:
            return {}
        kept = [eg for eg in examples if self.is_annotated(eg.reference)]
        scores = self.scorer(kept, **{**kwargs, **self.score_settings()})
        if self._training:
            self.scored.append({name: float(value) for name, value in scores.items() if isinstance(value, (int, float))})
        return scores

    def score_settings(self) -> Dict[str, Any]:
        """Keyword arguments for the scorer."""
        return {"labels": self.labels}

    # Saving

    def to_disk(self, path: Union[str, Path], *, exclude: Iterable[str] = ()) -> None:
        """Write `cfg` and `model.safetensors`."""
        serialize = {
            "cfg": lambda p: write_json(p, self.cfg),
            "model.safetensors": lambda p: safetensors.torch.save_file(state(self.module), p),
        }
        util.to_disk(path, serialize, exclude)

    def from_disk(self, path: Union[str, Path], *, exclude: Iterable[str] = ()) -> "Head":
        """Read what `to_disk` wrote. RAISES (UserError): a file is missing or broken."""
        deserialize = {
            "cfg": lambda p: self._restore(read_json(p)),
            "model.safetensors": lambda p: self._load(safetensors.torch.load_file, p),
        }
        util.from_disk(path, deserialize, exclude)
        return self

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        serialize = {
            "cfg": lambda: json.dumps(self.cfg).encode("utf8"),
            "model.safetensors": lambda: safetensors.torch.save(state(self.module)),
        }
        return util.to_bytes(serialize, exclude)

    def from_bytes(self, bytes_data: bytes, *, exclude: Iterable[str] = ()) -> "Head":
        deserialize = {
            "cfg": lambda b: self._restore(json.loads(b)),
            "model.safetensors": lambda b: self._load(safetensors.torch.load, b),
        }
        util.from_bytes(bytes_data, deserialize, exclude)
        return self

    def _restore(self, saved: Dict[str, Any]) -> None:
        self.cfg.update({key: saved[key] for key in self.learned if key in saved})

    def _load(self, read: Callable, source: Any) -> None:
        where = source if isinstance(source, Path) else f"the bytes of {self.name!r}"
        try:
            tensors = read(source)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{where}: the weights cannot be read ({error}); copy or install the pipeline again") from error
        self._build()
        try:
            self.module.load_state_dict(tensors)
        except RuntimeError as error:
            raise UserError(f"{where}: the weights do not fit the settings of {self.name!r}: {error}") from error


def vectors_of(head: Head, docs: Sequence[Doc]):
    """The vectors that the transformer left for these Docs, as the head's module takes them."""
    return head.transformer.vectors(docs, head.name)
