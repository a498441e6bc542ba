"""`mtl_masked_lm`: hides words of the training documents and learns to predict them, beside the other heads."""

from typing import Any, Iterable, List, Optional

from spacy.language import Language
from spacy.tokens import Doc
from thinc.api import Config, Model
from torch import nn
from transformers import AutoConfig

from mtl.encoder.batch import EncoderBatch
from mtl.encoder.masking import MaskSettings
from mtl.encoder.mlm import load_mlm
from mtl.errors import UserError, check_choice, check_range
from mtl.heads.head import Head, Rows
from mtl.heads.loss import Loss
from mtl.heads.masked_lm.module import MaskedLMHead
from mtl.torch_model import set_module, torch_model

DEFAULT_CONFIG = """
[masked_lm]
rate = 0.2
documents = "all"

[masked_lm.model]
@architectures = "mtl.MaskedLM.v1"

[masked_lm.model.encoder]
@architectures = "mtl.EncoderListener.v1"
"""
DOCUMENTS = ("all", "unlabelled")


def masked_lm_architecture(encoder: Model) -> Model:
    """Architecture `mtl.MaskedLM.v1`: the masked-LM head of the encoder's own architecture. encoder: `mtl.EncoderListener.v1`."""
    return torch_model("mtl-masked-lm", MaskedLMHead, [encoder])


def make_masked_lm(nlp: Language, name: str, model: Model, rate: float, documents: str) -> "MaskedLM":
    """Factory `mtl_masked_lm`."""
    return MaskedLM(nlp.vocab, model, name, rate=rate, documents=documents)


class MaskedLM(Head):
    """Continued pretraining as an auxiliary task of the joint training (TLM: Yao et al. 2022; TARTAN: Dery et al. 2022).

    Its gradient at the encoder is weighed like every head's; `balance.anneal` lets its weight fall to 0 over so many updates,
    after which it costs nothing. Where it predicts, it does nothing.
    rate (float): share of words that are hidden. documents (str): which it learns from, "all" or "unlabelled", that is those
    that no other head learns from.
    """

    learned = ("labels", "width", "architecture")
    reads_docs = False

    def __init__(self, vocab, model: Model, name: str = "masked_lm", *, rate: float, documents: str) -> None:
        check_range(f"components.{name}.rate", rate, 0.01, 0.9)
        check_choice(f"components.{name}.documents", documents, DOCUMENTS)
        super().__init__(vocab, model, name, scorer=None, rate=rate, documents=documents, architecture=None)

    def is_annotated(self, reference: Doc) -> bool:
        return self.cfg["documents"] == "all" or not _is_labelled(reference)

    def add_label(self, label: str) -> int:
        """RAISES (UserError): it has no labels."""
        raise UserError(f"the head {self.name!r} predicts words, and has no labels")

    def initialize(
        self, get_examples, *, nlp=None, labels=None, teacher: Optional[str] = None, teacher_steps: int = 0,
        name: Optional[str] = None,
    ) -> None:  # fmt: skip
        """name: the checkpoint that the head's weights come from, the one that the encoder's came from.

        RAISES (UserError): none is given, or it has no masked-LM head: a new one's random gradients would damage the encoder.
        """
        setting = f"[initialize.components.{self.name}] name"
        if teacher is not None:
            raise UserError(
                f"initialize.components.{self.name}.teacher: the head {self.name!r} learns from text, and has no teacher"
            )
        if name is None:
            raise UserError(f"{setting} is not set: the checkpoint with a masked-LM head that the encoder comes from")
        whole, missing = load_mlm(name)
        if missing:
            raise UserError(
                f"{setting} = {name!r}: the checkpoint has no masked-LM head, and a new one would damage the encoder. "
                f"`mtl adapt` trains one first; its folder has both"
            )
        theirs, ours = whole.config.vocab_size, self.transformer.encoder.model.config.vocab_size
        if type(whole.config) is not type(self.transformer.encoder.model.config) or theirs != ours:
            raise UserError(f"{setting} = {name!r} is not what the encoder of {self.transformer.name!r} comes from")
        self.cfg["architecture"] = {**whole.config.to_diff_dict(), "model_type": whole.config.model_type}
        super().initialize(get_examples, nlp=nlp, labels=labels)
        self.module.take(whole)

    def _build(self, old: Optional[nn.Module] = None) -> None:
        settings = dict(self.cfg["architecture"])
        module = self.model.attrs["build"](AutoConfig.for_model(settings.pop("model_type"), **settings))
        set_module(self.model, module.to(self._device()).eval())

    def loss(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Loss]:
        if self.transformer.is_annealed(self.name) or not batch.train:  # it is there for the encoder
            return None
        encoder = self.transformer.encoder
        mask_id = encoder.tokenizer.mask_token_id
        if mask_id is None:
            raise UserError(f"the head {self.name!r} needs a tokenizer with a mask token, and the encoder's has none")
        masks = MaskSettings(mask_id, len(encoder.tokenizer), self.cfg["rate"])
        vectors, targets = batch.masked([i for i, _ in rows], masks)
        if not len(targets):
            return None
        logits = self._placed()(vectors, encoder.model.get_input_embeddings().weight)
        return Loss(nn.functional.cross_entropy(logits, targets), len(targets))

    def predict(self, docs: Iterable[Doc]) -> List[None]:
        return [None for _ in docs]

    def set_annotations(self, docs: Iterable[Doc], predictions: Any) -> None:
        self.transformer.release(list(docs), self.name)

    def score_settings(self) -> dict:
        return {}


def _is_labelled(doc: Doc) -> bool:
    return bool(doc.cats or doc.spans) or any(doc.has_annotation(kind) for kind in ("ENT_IOB", "TAG", "POS", "DEP"))


Language.factory("mtl_masked_lm", default_config=Config().from_str(DEFAULT_CONFIG)["masked_lm"], func=make_masked_lm)
