"""`mtl_transformer`: the spaCy component that owns the encoder and runs it once for all heads."""

from contextlib import contextmanager
from functools import partial
from typing import AbstractSet, Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

from spacy.language import Language
from spacy.pipeline.trainable_pipe import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example
from spacy.vocab import Vocab
from thinc.api import Config, Model

from mtl.encoder import stock
from mtl.encoder.links import LinkedHeads, ListenerLinks
from mtl.encoder.loaders import Loader
from mtl.encoder.model.encoder import Encoder, TokenVectors
from mtl.encoder.runtime.processes import enter_process
from mtl.encoder.saving import SavedEncoder
from mtl.encoder.texts import tokenized_texts
from mtl.encoder.training import SharedTraining
from mtl.encoder.update import UpdateState
from mtl.encoder.vector_cache import VectorCache
from mtl.errors import UserError, check_choice, check_range
from mtl.pipe import RobustPipe
from mtl.timing import stage
from mtl.torch_model import building, get_module, run_by, set_module
from mtl.weighting.base import Weighting

DEFAULT_CONFIG = """
[transformer]
on_non_finite = "skip"
r_drop = 0.0
consistency = 0.0
cosines_at = "outputs"

[transformer.model]
@architectures = "mtl.Encoder.v1"

[transformer.weighting]
@misc = "mtl.StaticWeighting.v1"
"""


def make_transformer(
    nlp: Language, name: str, model: Model, weighting: Weighting, on_non_finite: str, r_drop: float, consistency: float,
    cosines_at: str,
) -> "Transformer":  # fmt: skip
    """Factory `mtl_transformer`: see `Transformer`."""
    return Transformer(
        nlp.vocab, model, name, weighting=weighting, on_non_finite=on_non_finite, r_drop=r_drop, consistency=consistency,
        cosines_at=cosines_at,
    )  # fmt: skip


Language.factory(
    "mtl_transformer", assigns=[], default_config=Config().from_str(DEFAULT_CONFIG)["transformer"], func=make_transformer
)


class Transformer(ListenerLinks, SharedTraining, SavedEncoder, RobustPipe, TrainablePipe):
    """Runs the encoder on each Doc once. Our heads, and stock `TransformerListener`s, read its vectors.

    In training, the heads' gradients at the encoder output are collected for one backward pass and step: see `UpdateState`.

    Args:
        vocab (Vocab): The shared vocabulary.
        model (Model): `mtl.Encoder.v1`.
        name (str): The component's name.
        weighting (Weighting): From the tasks' gradients and losses to the weight of each task at the encoder.
        on_non_finite (str): Where a loss or gradient is NaN or infinite: "skip" the task in that batch with a warning, or "stop".
        r_drop (float): Weight of the divergence of predictions under two dropout masks (see `with_consistency`).
        consistency (float): The same on documents without annotation for a head (Xie et al. 2020,
            https://arxiv.org/abs/1904.12848): what such a document counts, relative to an annotated one.
        cosines_at (str): Where cosines between tasks are measured: at the encoder's "outputs", where they are 0 if every document
            carries one task, or at its "parameters" (in one process).
    """

    def __init__(
        self, vocab: Vocab, model: Model, name: str = "transformer", *, weighting: Weighting, on_non_finite: str = "skip",
        r_drop: float = 0.0, consistency: float = 0.0, cosines_at: str = "outputs",
    ) -> None:  # fmt: skip
        check_choice(f"components.{name}.on_non_finite", on_non_finite, ("skip", "stop"))
        for setting, weight in (("r_drop", r_drop), ("consistency", consistency)):
            check_range(f"components.{name}.{setting}", weight, 0.0)
        check_choice(f"components.{name}.cosines_at", cosines_at, ("outputs", "parameters"))
        self.vocab, self.model, self.name = vocab, model, name
        run_by(model, self)
        self.r_drop, self.consistency, self.on_non_finite = r_drop, consistency, on_non_finite
        self.cfg: Dict[str, Any] = {}
        self.listener_map = {}
        self._heads = LinkedHeads()
        self._stock_listeners: List[Tuple[str, Model]] = []
        self._cache = VectorCache()
        self._docs: List[Doc] = []  # of the open batch
        self._losses: Dict[str, float] = {}
        self._checked_weights = False
        self.words_seen = 0  # in training, for the progress bar
        self.run_steps: Optional[int] = None  # of the training that is under way: see `announce_run`
        self.updates = UpdateState(weighting, cosines_at, self._report_non_finite)

    @property
    def weighting(self) -> Weighting:
        """How much each task moves the encoder."""
        return self.updates.weighting

    @weighting.setter
    def weighting(self, weighting: Weighting) -> None:
        self.updates.weighting = weighting

    # The encoder

    @property
    def encoder(self) -> Encoder:
        """The torch module, with every step that is due taken.

        Raises:
            UserError: The component is neither initialized nor loaded.
        """
        self.take_due_step()
        return self._module

    @property
    def _module(self) -> Encoder:
        """The torch module as it is, which may be one step behind."""
        return get_module(self.model, self.name)  # type: ignore[return-value]

    @property
    def width(self) -> int:
        """Size of a token vector."""
        return self._module.width

    @property
    def device(self) -> Any:
        """The torch device the encoder is on."""
        return self._module.device

    def set_encoder(self, model: Any, tokenizer: Any) -> None:
        """Use this transformers model and tokenizer, with the settings of the config."""
        with building():
            set_module(self.model, self.model.attrs["build"](model, tokenizer))
        for _, listener in self._stock_listeners:
            if listener.has_dim("nO") is None:
                listener.set_dim("nO", self.width)

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Optional[Language] = None,
        encoder_loader: Optional[Loader] = None,
    ) -> None:
        """Load the encoder's weights.

        Raises:
            UserError: No loader is set and there are no weights yet, or they cannot be loaded; a weighting names a component
                that is not there.
        """
        if encoder_loader is not None:
            self.set_encoder(*encoder_loader())
            self._module.check_window()
        elif not self.model.shims:
            raise UserError(
                f"[initialize.components.{self.name}.encoder_loader] is not set: say where the encoder's weights come from, "
                f'for example @misc = "mtl.HuggingFaceLoader.v1" with name = "sentence-transformers/all-MiniLM-L6-v2"'
            )
        if nlp is not None:
            self.announce_run(nlp)
            names = [name for name, _ in nlp.pipeline]
            for _, pipe in nlp.pipeline[names.index(self.name) + 1 :] if self.name in names else ():
                self.find_listeners(pipe)
        self._check_weighting()

    def _check_weighting(self) -> None:
        for setting, unknown in self.unknown_in_weighting().items():
            if self._heads:
                raise UserError(f"{setting} names {', '.join(unknown)}; the heads are {', '.join(self.listening_components)}")

    # Prediction

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Encode a stream of Docs for the heads behind this component in it. See `RobustPipe.pipe`."""
        yield from self.run_in_batches(partial(self._encode_for, self._cache.take_announced()), stream, batch_size)

    def _encode_for(self, readers: Set[str], docs: List[Doc]) -> None:
        if readers or self._stock_listeners or not self._heads:
            with stage(self.name):
                vectors = self.encode(docs)
            self._keep(docs, vectors, readers)

    def predict(self, docs: Iterable[Doc]) -> Optional[TokenVectors]:
        """Encode the Docs. Returns None if there are heads and none of them reads a Doc without a prompt."""
        if self._heads and not self._doc_readers and not self._stock_listeners:
            return None
        return self.encode(list(docs))

    def set_annotations(self, docs: Iterable[Doc], predictions: Optional[TokenVectors]) -> None:
        """Keep the vectors for the heads."""
        if predictions is not None:
            self._keep(list(docs), predictions, self._doc_readers)

    def _keep(self, docs: List[Doc], vectors: TokenVectors, readers: AbstractSet[str]) -> None:
        if readers:
            self._cache.put(docs, vectors, readers)
        if self._stock_listeners:
            stock.annotate(docs, vectors)

    def encode(self, docs: Sequence[Doc], prompts: Optional[Sequence[str]] = None) -> TokenVectors:
        """Encode Docs, each behind its prompt if there are prompts.

        Raises:
            UserError: A prompt is too long for the window.
        """
        encoder = self.encoder
        enter_process(encoder.device)
        with stage("align"):
            distinct = list({id(doc): doc for doc in docs}.values())
            texts = {id(doc): text for doc, text in zip(distinct, tokenized_texts(distinct))}
        return encoder.encode([texts[id(doc)] for doc in docs], prompts)

    def encoder_fits(self, prompt: str) -> bool:
        """Whether a prompt leaves enough room for text in the encoder's window."""
        return self._module.prompt_fits(prompt)

    def vectors(self, docs: Sequence[Doc], reader: str) -> TokenVectors:
        """The vectors of Docs, from the cache where it has them.

        Raises:
            UserError: The tokens of a Doc have changed since it was encoded.
        """
        places = dict(zip(map(id, docs), self._cache.get(docs)))
        missing = [doc for doc in docs if places[id(doc)] is None]
        if missing:
            encoded = self.encode(missing)
            self._cache.put(missing, encoded, self._doc_readers)
            places |= {id(doc): (encoded, row) for row, doc in enumerate(missing)}
        rows = [place for doc in docs if (place := places[id(doc)]) is not None]
        if any(len(doc) != vectors.lengths[row] for doc, (vectors, row) in zip(docs, rows)):
            raise UserError(
                f"the tokens of a Doc changed between {self.name!r} and {reader!r}: move the component that merges or splits "
                f"tokens behind them"
            )
        return TokenVectors.gather(rows)

    def release(self, docs: Sequence[Doc], reader: str) -> None:
        """Forget the vectors of Docs once all heads have read them. `doc._.trf_data` stays, as in spacy-transformers."""
        self._cache.release(docs, reader)

    def forget(self, docs: Sequence[Doc]) -> None:
        """Forget the vectors of Docs at once."""
        self._cache.forget(docs)

    @contextmanager
    def stream(self, reader: str) -> Iterator[None]:
        """Around the stream of a head that reads Docs: see `VectorCache.announce`."""
        self._cache.announce(reader)
        try:
            yield
        finally:
            self._cache.withdraw(reader)
