"""`mtl_masked_lm`: masks words of the training documents and learns to predict them, beside the other heads."""

from typing import Any, Iterable, List, Optional

from spacy.language import Language
from spacy.tokens import Doc
from thinc.api import Config, Model
from torch import nn
from transformers import AutoConfig

from mtl.encoder.batch import EncoderBatch
from mtl.encoder.model.masking import MaskSettings
from mtl.encoder.model.mlm import load_mlm
from mtl.errors import UserError, check_choice, check_range
from mtl.tasks.component import Head
from mtl.tasks.loss import Loss
from mtl.tasks.masked_lm.module import MaskedLMHead
from mtl.tasks.masked_lm.task import MaskedLMTask
from mtl.tasks.training import Rows
from mtl.torch_model import set_module, torch_model

DEFAULT_CONFIG = """
[masked_lm]
mlm_probability = 0.2
documents = "all"

[masked_lm.model]
@architectures = "mtl.MaskedLM.v1"

[masked_lm.model.encoder]
@architectures = "mtl.EncoderListener.v1"
"""
DOCUMENTS = ("all", "unlabelled")


def masked_lm_architecture(encoder: Model) -> Model:
    """Architecture `mtl.MaskedLM.v1`: the masked-LM head of the encoder's own architecture.

    Args:
        encoder (Model): `mtl.EncoderListener.v1`.
    """
    return torch_model("mtl-masked-lm", MaskedLMHead, [encoder])


def make_masked_lm(nlp: Language, name: str, model: Model, mlm_probability: float, documents: str) -> "MaskedLM":
    """Factory `mtl_masked_lm`: see `MaskedLM`."""
    return MaskedLM(nlp.vocab, model, name, mlm_probability=mlm_probability, documents=documents)


class MaskedLM(Head):
    """Continued pretraining as an auxiliary task of joint training (TLM: Yao et al. 2022; TARTAN: Dery et al. 2022).

    Its gradient at the encoder is weighted like that of every head. `weighting.anneal` lets its weight fall to 0, after which it
    costs nothing. It predicts nothing.

    Args:
        mlm_probability (float): Fraction of words that are masked.
        documents (str): What it learns from: "all" documents, or "unlabelled", those that no other head learns from.
    """

    learned_settings = ("labels", "width", "architecture")
    reads_docs = False
    has_outputs = False

    def __init__(self, vocab, model: Model, name: str = "masked_lm", *, mlm_probability: float, documents: str) -> None:
        check_range(f"components.{name}.mlm_probability", mlm_probability, 0.01, 0.9)
        check_choice(f"components.{name}.documents", documents, DOCUMENTS)
        super().__init__(
            vocab, model, name, task=MaskedLMTask(documents), scorer=None, mlm_probability=mlm_probability,
            documents=documents, architecture=None,
        )  # fmt: skip

    def add_label(self, label: str) -> int:
        """Raises a `UserError`: the head has no labels."""
        raise UserError(f"the head {self.name!r} predicts words, and has no labels")

    def initialize(self, get_examples, *, nlp=None, labels=None, teacher: Any = None, name: Optional[str] = None) -> None:
        """Create the head with the weights of a checkpoint.

        Args:
            get_examples (Callable): Returns a sample of the training data.
            nlp (Any): The pipeline.
            labels (Any): None.
            teacher (Any): Not supported.
            name (Optional[str]): The checkpoint that the encoder comes from, with its masked-LM head.

        Raises:
            UserError: The name is not set, or the checkpoint has no masked-LM head: a new one's random gradients would damage the
                encoder. Or a teacher is set.
        """
        setting = f"[initialize.components.{self.name}] name"
        if teacher is not None:
            raise UserError(
                f"initialize.components.{self.name}.teacher: the head {self.name!r} learns from text, and takes no teacher"
            )
        if name is None:
            raise UserError(f"{setting} is not set: give the checkpoint that the encoder comes from, with its masked-LM head")
        whole, missing = load_mlm(name)
        if missing:
            raise UserError(
                f"{setting} = {name!r}: the checkpoint has no masked-LM head, and a new one would damage the encoder. "
                f"`mtl adapt` trains one first; its folder has both"
            )
        encoder_config = self.transformer.encoder.model.config
        if type(whole.config) is not type(encoder_config) or whole.config.vocab_size != encoder_config.vocab_size:
            raise UserError(
                f"{setting} = {name!r} is not the checkpoint that the encoder of {self.transformer.name!r} comes from: its "
                f"architecture or vocabulary size differs"
            )
        self.cfg["architecture"] = {**whole.config.to_diff_dict(), "model_type": whole.config.model_type}
        super().initialize(get_examples, nlp=nlp, labels=labels)
        self.module.copy_head(whole)

    def _build(self, old: Optional[nn.Module] = None) -> None:
        settings = dict(self.cfg["architecture"])
        module = self.model.attrs["build"](AutoConfig.for_model(settings.pop("model_type"), **settings))
        set_module(self.model, module.to(self._device()).eval())

    def loss(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Loss]:
        if self.transformer.weighting.is_annealed(self.name) or not batch.train:  # it only exists to train the encoder
            return None
        encoder = batch.encoder
        mask_id = encoder.tokenizer.mask_token_id
        if mask_id is None:
            raise UserError(f"the head {self.name!r} needs a tokenizer with a mask token, and the encoder's has none")
        masks = MaskSettings(mask_id, len(encoder.tokenizer), self.cfg["mlm_probability"])
        vectors, targets = batch.masked([i for i, _ in rows], masks)
        if not len(targets):
            return None
        logits = self.training_module(vectors, encoder.model.get_input_embeddings().weight)
        return Loss(nn.functional.cross_entropy(logits, targets), len(targets))

    def predict(self, docs: Iterable[Doc]) -> List[None]:
        return [None for _ in docs]

    def set_annotations(self, docs: Iterable[Doc], predictions: Any) -> None:
        self.transformer.release(list(docs), self.name)

    def scorer_settings(self) -> dict:
        return {}


Language.factory("mtl_masked_lm", default_config=Config().from_str(DEFAULT_CONFIG)["masked_lm"], func=make_masked_lm)
