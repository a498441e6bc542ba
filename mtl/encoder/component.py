"""`mtl_transformer`: the spaCy component that owns the encoder and runs it once for all heads."""

import logging
import tempfile
import weakref
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Union

import numpy as np
import srsly
from spacy import util
from spacy.attrs import IDX, LENGTH, ORTH, SPACY
from spacy.language import Language
from spacy.pipeline.trainable_pipe import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from spacy.vocab import Vocab
from thinc.api import Config, Model
from torch import nn

from mtl import __version__, ranks
from mtl.encoder import stock
from mtl.encoder.batch import Balance, EncoderBatch
from mtl.encoder.forks import enter_process, enter_worker
from mtl.encoder.gradients import TaskGradients
from mtl.encoder.listener import EncoderListener
from mtl.encoder.loaders import Loader, load_encoder, save_encoder
from mtl.encoder.torch_encoder import Encoder, TokenVectors
from mtl.encoder.wordpieces import Tokens
from mtl.errors import UserError, check_choice, check_range
from mtl.files import read_json, write_json
from mtl.pipe import RobustPipe
from mtl.stages import stage
from mtl.torch_model import Parameters, apply_optimizer, clear_gradients, get_module, set_module

logger = logging.getLogger(__name__)
FORMAT = 1  # of a saved pipeline; raised when an older spacy-mtl could no longer read it

DEFAULT_CONFIG = """
[transformer]
not_finite = "skip"
r_drop = 0.0
cosines_on = "outputs"

[transformer.model]
@architectures = "mtl.Encoder.v1"

[transformer.balance]
@misc = "mtl.StaticBalance.v1"
"""


def make_transformer(
    nlp: Language, name: str, model: Model, balance: Callable, not_finite: str, r_drop: float, cosines_on: str
) -> "Transformer":
    """Factory `mtl_transformer`."""
    return Transformer(
        nlp.vocab, model, name, balance=balance, not_finite=not_finite, r_drop=r_drop, cosines_on=cosines_on, nlp=nlp
    )


Language.factory(
    "mtl_transformer", assigns=[], default_config=Config().from_str(DEFAULT_CONFIG)["transformer"], func=make_transformer
)


class _Words(Dict[int, str]):
    """The strings of orth ids, each looked up once."""

    def __init__(self, vocab: Vocab) -> None:
        super().__init__()
        self.strings = vocab.strings

    def __missing__(self, orth: int) -> str:
        self[orth] = word = self.strings[orth]
        return word


def tokens_of(docs: Sequence[Doc]) -> List[Tokens]:
    """Each Doc's text and where its tokens stand in it. (`doc.text` makes an object a token, five times as slow.)"""
    words = _Words(docs[0].vocab) if docs else {}
    found = []
    for doc in docs:
        table = doc.to_array([IDX, LENGTH, ORTH, SPACY])
        starts = table[:, 0].astype(np.int64)
        strings = map(words.__getitem__, table[:, 2].tolist())
        text = "".join([word + " " if space else word for word, space in zip(strings, table[:, 3].tolist())])
        found.append(Tokens(text, starts, starts + table[:, 1].astype(np.int64)))
    return found


class _Weak:
    """A weak reference, or a strong one to what takes none (spaCy's parser and ner).

    Pickled, as for the workers of `nlp.pipe(n_process=...)` where processes are spawned, what it refers to goes along.
    """

    def __init__(self, referred: Any) -> None:
        try:
            self._get: Callable[[], Any] = weakref.ref(referred)
        except TypeError:
            self._get = lambda: referred

    def __call__(self) -> Any:
        return self._get()

    def __deepcopy__(self, memo: Dict) -> "_Weak":
        return self  # as weak references are copied

    def __reduce__(self) -> tuple:
        return _Weak, (self(),)


class _Owner(_Weak):
    """The pipeline that a component was made for, which stays where it is."""

    def __reduce__(self) -> tuple:
        return _arrive, ()


def _arrive() -> _Owner:
    """In the process that a pickled component comes to."""
    enter_worker()
    return _Owner(None)


class _Encodings(weakref.WeakKeyDictionary):
    """What the encoder made of each Doc, which goes to no other process."""

    def __reduce__(self) -> tuple:
        return _Encodings, ()


class Transformer(RobustPipe, TrainablePipe):
    """Runs the encoder on each Doc once; mtl heads, and stock `TransformerListener`s, read its vectors.

    In an update every head's gradient at the encoder output is collected, and one backward runs in `finish_update`, or at
    the start of the next `update` while gradients are accumulated.

    vocab (Vocab): the shared vocabulary. model (Model): `mtl.Encoder.v1`.
    balance (Callable): the tasks' gradients and losses to the weight of each task at the encoder. not_finite (str): where a
    task's loss or gradient is no number any more, "skip" it in that batch, with a warning, or "stop". r_drop (float): how much it
    costs that a head's predictions differ between two passes under different dropout; above 0 a step takes twice as long
    (see `with_consistency`). cosines_on (str): where the logged cosines between tasks are measured, the encoder's "outputs" or
    its "parameters" (in one process). Where every document carries one task, those at the outputs are 0.
    """

    def __init__(
        self, vocab: Vocab, model: Model, name: str = "transformer", *, balance: Balance, not_finite: str = "skip",
        r_drop: float = 0.0, cosines_on: str = "outputs", nlp: Optional[Language] = None,
    ) -> None:  # fmt: skip
        check_choice(f"components.{name}.not_finite", not_finite, ("skip", "stop"))
        check_range(f"components.{name}.r_drop", r_drop, 0.0)
        check_choice(f"components.{name}.cosines_on", cosines_on, ("outputs", "parameters"))
        self.r_drop, self.cosines_on = r_drop, cosines_on
        self.stops = not_finite == "stop"
        self.vocab, self.model, self.name, self.balance = vocab, model, name, balance
        self.cfg: Dict[str, Any] = {}
        self.listener_map: Dict[str, List[Model]] = {}
        # All components that were ever linked, also while they are disabled (spaCy's own map then forgets them).
        self._linked: Dict[str, Callable[[], Any]] = {}
        self.statistics: Dict[str, float] = {}  # of the last update: see EncoderBatch.backward
        self._nlp = _Owner(nlp)
        self._encodings = _Encodings()
        self._batch: Optional[EncoderBatch] = None
        self._batch_docs: List[Doc] = []
        self._losses: Dict[str, float] = {}
        self._task_gradients = TaskGradients()  # on the trained parameters, since the last step; see `Balance.on_parameters`
        self._task_losses: Dict[str, float] = {}
        self._owed_step: Any = None  # the optimizer of a step that waits for the last head

    # Linking, spaCy's `ListenedToComponent` protocol

    @property
    def listeners(self) -> List[Model]:
        return [listener for name in self.listening_components for listener in self.listener_map[name]]

    @property
    def listening_components(self) -> List[str]:
        return list(self.listener_map)

    def add_listener(self, listener: Model, component_name: str) -> None:
        known = self.listener_map.setdefault(component_name, [])
        if listener not in known:
            known.append(listener)
        if isinstance(listener, EncoderListener):
            listener.transformer = self
        elif self.model.shims and listener.has_dim("nO") is None:
            listener.set_dim("nO", self.encoder.width)

    def remove_listener(self, listener: Model, component_name: str) -> bool:
        known = self.listener_map.get(component_name, [])
        if listener not in known:
            return False
        known.remove(listener)
        if not known:
            del self.listener_map[component_name]
        return True

    def find_listeners(self, component: Any) -> None:
        model = getattr(component, "model", None)
        if isinstance(model, Model):
            for node in model.walk():
                ours = isinstance(node, EncoderListener)
                if (ours or stock.is_stock_listener(node)) and node.upstream_name in ("*", self.name):
                    self.add_listener(node, component.name)
                    self._linked[component.name] = _Weak(component)

    @property
    def _readers(self) -> Dict[str, Any]:
        """The linked components that are still there, by name."""
        return {name: pipe for name, known in self._linked.items() if (pipe := known()) is not None}

    def _heads(self) -> List[Any]:
        """The mtl heads that read from this transformer, disabled ones too."""
        return [pipe for pipe in self._readers.values() if getattr(pipe, "reads_encoder", lambda _: False)(self)]

    def _enabled(self) -> List[str]:
        """The names of the enabled components that read from this one, in the order of the pipeline.

        A component can be shared by several pipelines (`add_pipe(source=...)`), and is not told in which of them it runs; where
        it is not in the one that made it, its links stand for the order.
        """
        nlp = self._nlp()
        if nlp is not None and any(pipe is self for _, pipe in nlp.pipeline):
            readers = self._readers
            return [name for name, pipe in nlp.pipeline if name in readers and readers[name] is pipe]
        return list(self.listener_map)

    def _stock_listeners(self) -> List[tuple]:
        return [(name, one) for name, many in self.listener_map.items() for one in many if not isinstance(one, EncoderListener)]

    # The encoder

    @property
    def encoder(self) -> Encoder:
        """The torch module. RAISES (UserError): neither initialized nor loaded."""
        return get_module(self.model, self.name)  # type: ignore[return-value]

    @property
    def width(self) -> int:
        return self.encoder.width

    def set_encoder(self, model, tokenizer) -> None:
        """Take an encoder's model and tokenizer, with the settings of the config."""
        set_module(self.model, self.model.attrs["build"](model, tokenizer))
        for _, listener in self._stock_listeners():
            if listener.has_dim("nO") is None:
                listener.set_dim("nO", self.encoder.width)

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Optional[Language] = None,
        encoder_loader: Optional[Loader] = None,
    ) -> None:
        """Load the weights. RAISES (UserError): no loader is set and there are no weights yet, or they cannot be loaded."""
        if encoder_loader is not None:
            self.set_encoder(*encoder_loader())
        elif not self.model.shims:
            raise UserError(
                f"[initialize.components.{self.name}.encoder_loader] is not set: say where the encoder's weights come from, "
                f'for example @misc = "mtl.HuggingFaceLoader.v1" with name = "sentence-transformers/all-MiniLM-L6-v2"'
            )
        if nlp is not None:
            self._nlp = _Owner(nlp)
            after = False
            for _, pipe in nlp.pipeline:
                if after:
                    self.find_listeners(pipe)
                after = after or pipe is self
        self._check_balance()

    def _check_balance(self) -> None:
        for setting in ("weights", "anneal"):
            unknown = sorted(set(getattr(self.balance, setting, {})) - set(self.listening_components))
            if unknown and self.listening_components:
                raise UserError(
                    f"components.{self.name}.balance.{setting} names {', '.join(unknown)}; the heads are "
                    f"{', '.join(self.listening_components)}"
                )

    def is_annealed(self, head: str) -> bool:
        """Whether the balance has let the head's weight fall to 0, so that its loss need not be computed."""
        return getattr(self.balance, "is_annealed", lambda _: False)(head)

    # Prediction

    def predict(self, docs: Iterable[Doc]) -> Optional[TokenVectors]:
        """Encode the Docs once. RETURNS None where nothing reads a Doc without a prompt."""
        docs = list(docs)
        known = self._readers
        readers = [known[name] for name in self._enabled() if name in known]
        if readers and not any(getattr(pipe, "reads_docs", True) for pipe in readers):
            return None
        self.settle()
        enter_process(self.encoder.device)
        with stage("align"):
            tokens = tokens_of(docs)
        return self.encoder.encode(tokens)

    def set_annotations(self, docs: Iterable[Doc], predictions: Optional[TokenVectors]) -> None:
        """Keep the vectors for the heads, until the last of them is done or the Doc is gone."""
        if predictions is None:
            return
        docs = list(docs)
        for i, doc in enumerate(docs):
            self._encodings[doc] = (predictions, i)
        if self._stock_listeners():
            stock.annotate(docs, predictions)

    def vectors(self, docs: Sequence[Doc], reader: str) -> TokenVectors:
        """The vectors of Docs that went through this component. RAISES (UserError): one did not."""
        found = [self._encodings[doc] for doc in docs if doc in self._encodings]
        if len(found) < len(docs):
            raise UserError(f"{reader!r} needs the vectors of {self.name!r}, which has not processed this Doc; do not disable it")
        if any(len(doc) != output.lengths[row] for doc, (output, row) in zip(docs, found)):
            raise UserError(
                f"the tokens of a Doc changed between {self.name!r} and {reader!r}: what merges or splits tokens goes after"
            )
        parts: List[TokenVectors] = []
        start = 0
        for i in range(1, len(found) + 1):
            if i == len(found) or found[i][0] is not found[start][0]:
                parts.append(found[start][0].select([row for _, row in found[start:i]]))
                start = i
        return TokenVectors.concatenate(parts)

    def release(self, docs: Sequence[Doc], reader: str) -> None:
        """Forget the Docs' vectors if `reader` is the last enabled head.

        Where a stock component comes after it, `doc._.trf_data` stays, as spacy-transformers leaves it.
        """
        enabled = self._enabled()
        heads = [head.name for head in self._heads()]
        if [reader] == [name for name in enabled if name in heads][-1:]:
            for doc in docs:
                self._encodings.pop(doc, None)
        if [reader] == enabled[-1:] and self._stock_listeners():
            stock.clear(docs)

    def encode(self, docs: Sequence[Doc], prompts: Sequence[str]) -> TokenVectors:
        """A second pass: each Doc behind its prompt. RAISES (UserError): a prompt is too long for the window."""
        self.settle()
        enter_process(self.encoder.device)
        distinct = list({id(doc): doc for doc in docs}.values())
        tokens = {id(doc): own for doc, own in zip(distinct, tokens_of(distinct))}
        return self.encoder.encode([tokens[id(doc)] for doc in docs], prompts)

    # Training

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Any = None,
        losses: Optional[Dict[str, float]] = None,
    ) -> Dict[str, float]:
        """Open a new batch for the heads; the encoding runs when they ask. The encoder's dropout is its own config's."""
        examples = list(examples)
        validate_examples(examples, "Transformer.update")
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        self.settle()
        self.flush()
        self._losses = losses
        self._batch = self._open([eg.predicted for eg in examples], train=True)
        for name, listener in self._stock_listeners():
            stock.send(listener, name, self._batch_docs, self._batch)
        return losses

    def _open(self, docs: List[Doc], *, train: bool) -> EncoderBatch:
        self._batch_docs = docs
        return EncoderBatch(self.encoder, tokens_of(docs), train=train)

    def batch(self, examples: Sequence[Example]) -> EncoderBatch:
        """The open batch of these examples; where `update` was not called on them, a frozen one that is only read."""
        docs = [eg.predicted for eg in examples]
        same = len(docs) == len(self._batch_docs) and all(a is b for a, b in zip(docs, self._batch_docs))
        if self._batch is None or not same:
            self.settle()
            self.flush()
            self._batch = self._open(docs, train=False)
        return self._batch

    def flush(self) -> None:
        """Run the backward that the open batch still owes."""
        if self._batch is not None and self._batch.train:
            own = self._batch.gradients.not_finite()
            for task in self._batch.drop_not_finite():
                self.not_finite(task, "gradient", self._batch_docs if task in own else [])
            if getattr(self.balance, "on_parameters", False):
                for task, loss in self._batch.losses.items():
                    self._task_losses[task] = self._task_losses.get(task, 0.0) + loss
                self._batch.backward_by_task(self._trained(), self._task_gradients)
            else:
                measured = self._trained() if self.cosines_on == "parameters" and ranks.count() == 1 else ()
                self.statistics = self._batch.backward(self.balance, measured) or self.statistics
                self._losses[self.name] = self._losses.get(self.name, 0.0) + self._batch.total_loss
        self._batch, self._batch_docs = None, []

    def not_finite(self, task: str, what: str, docs: Sequence[Doc]) -> None:
        """A task's loss or gradient is no number: leave it out of this batch, so that it poisons no weights.

        RAISES (UserError): as the setting says.
        """
        head = self._readers.get(task)
        if head is not None and getattr(head, "reads_encoder", lambda _: False)(self):
            clear_gradients(get_module(head.model, task).parameters())
        few = "; ".join(repr(doc.text[:60]) for doc in docs[:3])
        where = (
            f"in the batch of {len(docs)} documents that begins with {few}" if docs else "in another process's part of the batch"
        )
        message = f"the {what} of {task!r} is no finite number, {where}"
        if self.stops:
            raise UserError(f'{message}. Lower the learning rate, or set components.{self.name}.not_finite = "skip"')
        logger.warning("%s; the task is left out of this batch", message)

    def _trained(self) -> List[nn.Parameter]:
        return [parameter for parameter in self.encoder.model.parameters() if parameter.requires_grad]

    def _combine(self) -> None:
        """Weigh what the tasks left on the parameters since the last step, for a balance that looks there."""
        if self._task_gradients.tasks or self._task_losses:
            trained, gradients = self._trained(), self._task_gradients
            for task in self._task_losses if ranks.count() > 1 else ():
                gradients.parts[task] = ranks.summed_parts(gradients.parts.get(task, {}), trained)
            gramian = gradients.gramian()
            weights = self.balance(gramian, self._task_losses)
            for i, gradient in gradients.combined(weights):
                trained[i].grad = gradient if ranks.number() == 0 else None  # it is summed once more
            self.statistics = gramian.statistics(weights)
            total = sum(weights[task] * loss for task, loss in self._task_losses.items() if task in weights)
            self._losses[self.name] = self._losses.get(self.name, 0.0) + total
        self._task_gradients, self._task_losses = TaskGradients(), {}

    def finish_update(self, sgd: Any, reader: Optional[str] = None) -> None:
        """Backward, then one step of the encoder and all its mtl heads together.

        spaCy's training loop calls this after every component's update, `nlp.update(sgd=...)` between them. So before anything
        was collected it does nothing (but remember the step, where a stock component is to come), and from a head (`reader`) the
        step waits until the last listener is done; where that one is excluded, or is a stock component that does not call, the
        step is taken before the weights are next read.
        """
        if reader is None and not (self._batch is not None and self._batch.collected):
            self._owed_step = sgd if self._stock_listeners() else self._owed_step
            return
        self._owed_step = sgd
        if reader is None or [reader] == self._enabled()[-1:]:
            self.settle()

    def settle(self) -> None:
        """Take the step that waits, if one does."""
        if self._owed_step is not None:
            sgd, self._owed_step = self._owed_step, None
            self.flush()
            self._combine()
            ranks.sum_gradients([parameter for parameter, _ in self.parameters().values()])
            apply_optimizer(sgd, self.parameters())
            self.encoder.serving.forget()

    def parameters(self) -> Parameters:
        """All trainable parameters that are stepped together: name -> (parameter, layers below the top; -1 for heads)."""
        encoder = self.encoder
        found: Parameters = {
            f"{self.name}.{name}": (parameter, max(encoder.layers - encoder.depth(name), 0))
            for name, parameter in encoder.model.named_parameters()
            if parameter.requires_grad
        }
        for head in self._heads():
            if head.model.shims:
                found |= {
                    f"{head.name}.{name}": (parameter, -1)
                    for name, parameter in get_module(head.model, head.name).named_parameters()
                    if parameter.requires_grad
                }
        return found

    def get_loss(self, examples: Any, scores: Any) -> Any:
        """The encoder has no loss of its own."""

    # Saving

    def to_disk(self, path: Union[str, Path], *, exclude: Iterable[str] = ()) -> None:
        """Write `cfg` and the Hugging Face folder `encoder`."""
        self.settle()
        serialize = {
            "cfg": lambda p: write_json(p, {**self.cfg, "format": FORMAT, "saved_by": __version__}),
            "encoder": lambda p: save_encoder(self.encoder, p),
        }
        util.to_disk(path, serialize, exclude)

    def from_disk(self, path: Union[str, Path], *, exclude: Iterable[str] = ()) -> "Transformer":
        """Read what `to_disk` wrote. RAISES (UserError): a file is missing or broken, or a later spacy-mtl is needed."""
        deserialize = {
            "cfg": lambda p: self._restore(read_json(p)),
            "encoder": lambda p: self.set_encoder(*load_encoder(p)),
        }
        util.from_disk(path, deserialize, exclude)
        return self

    def _restore(self, saved: Dict[str, Any]) -> None:
        if saved.get("format", 1) > FORMAT:
            raise UserError(
                f"the pipeline was saved by spacy-mtl {saved.get('saved_by')}, and this is {__version__}, which cannot read it: "
                f"pip install 'spacy-mtl>={saved.get('saved_by')}'"
            )
        self.cfg.update(saved)

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """The files of `to_disk` as msgpack."""
        with tempfile.TemporaryDirectory() as folder:
            self.to_disk(folder, exclude=exclude)
            root = Path(folder)
            files = {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}
        return srsly.msgpack_dumps(files)

    def from_bytes(self, bytes_data: bytes, *, exclude: Iterable[str] = ()) -> "Transformer":
        """Read what `to_bytes` wrote."""
        with tempfile.TemporaryDirectory() as folder:
            for name, data in srsly.msgpack_loads(bytes_data).items():
                file = Path(folder) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
            return self.from_disk(folder, exclude=exclude)
