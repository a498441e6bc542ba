"""`mtl_tagger`: sets `token.tag_`, or `token.pos_`."""

from typing import Any, Callable, Dict, Iterable, List, Optional

import numpy as np
import torch
from spacy.attrs import IDS
from spacy.language import Language
from spacy.parts_of_speech import IDS as POS_IDS
from spacy.scorer import Scorer
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Config, Model
from torch import nn

from mtl.encoder.batch import EncoderBatch
from mtl.errors import UserError, check_choice
from mtl.heads.head import Head, Rows, vectors_of
from mtl.heads.loss import Loss
from mtl.heads.tagger.module import Tagger
from mtl.torch_model import torch_model

DEFAULT_CONFIG = """
[tagger]
attr = "TAG"

[tagger.model]
@architectures = "mtl.Tagger.v1"

[tagger.model.encoder]
@architectures = "mtl.EncoderListener.v1"

[tagger.scorer]
@scorers = "mtl.tagger_scorer.v1"
"""


def tagger_architecture(encoder: Model) -> Model:
    """Architecture `mtl.Tagger.v1`: a linear layer on each token's vector. encoder: `mtl.EncoderListener.v1`."""
    return torch_model("mtl-tagger", Tagger, [encoder])


def make_tagger(nlp: Language, name: str, model: Model, attr: str, scorer: Optional[Callable]) -> "TokenTagger":
    """Factory `mtl_tagger`."""
    return TokenTagger(nlp.vocab, model, name, attr=attr, scorer=scorer)


def make_tagger_scorer() -> Callable:
    """`mtl.tagger_scorer.v1`: `tag_acc` or `pos_acc`, as spaCy's own scorer counts it."""
    return score_tags


def score_tags(examples: Iterable[Example], *, attr: str, **kwargs: Any) -> Dict[str, Any]:
    """Accuracy over the tokens that are annotated and lie as the pipeline's tokenizer cut them."""
    return Scorer.score_token_attr(examples, attr.lower())


class TokenTagger(Head):
    """A tag a token.

    attr (str): "TAG", any tags, in `token.tag_`; or "POS", the universal parts of speech, in `token.pos_`.
    """

    def __init__(self, vocab, model: Model, name: str = "tagger", *, attr: str, scorer=None) -> None:
        check_choice(f"components.{name}.attr", attr, ("TAG", "POS"))
        super().__init__(vocab, model, name, scorer=scorer, attr=attr)

    def is_annotated(self, reference: Doc) -> bool:
        return reference.has_annotation(self.cfg["attr"])

    def labels_of(self, reference: Doc) -> Iterable[str]:
        return {tag for token in reference if (tag := token.tag_ if self.cfg["attr"] == "TAG" else token.pos_)}

    def add_label(self, label: str) -> int:
        """RAISES (UserError): it is no universal part of speech, and the head gives these."""
        if self.cfg["attr"] == "POS" and label not in POS_IDS:
            raise UserError(f'the head {self.name!r}: {label!r} is no universal part of speech; for other tags set attr = "TAG"')
        return super().add_label(label)

    def loss(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Loss]:
        """Cross-entropy, the mean over the annotated tokens that have wordpieces."""
        tokens = batch.vectors([(i, None) for i, _ in rows])
        place = {label: i for i, label in enumerate(self.labels)}
        gold = [place.get(tag, -1) for _, eg in rows for tag in eg.get_aligned(self.cfg["attr"], as_string=True)]
        kept = np.flatnonzero((np.array(gold) >= 0) & tokens.aligned)
        if not len(kept):
            return None
        device = tokens.vectors.device
        logits = self._placed()(tokens.vectors[torch.from_numpy(kept).to(device)], drop)
        mean = nn.functional.cross_entropy(logits, torch.tensor(gold)[torch.from_numpy(kept)].to(device))
        owners = np.repeat(np.arange(len(rows)), tokens.lengths)[kept]
        return Loss(mean, len(kept), (logits,), owners)

    def predict(self, docs: Iterable[Doc]) -> List[np.ndarray]:
        """For each Doc the tags' places among the labels: (tokens,)."""
        docs = list(docs)
        with torch.inference_mode():
            tokens = vectors_of(self, docs)
            best = self._placed()(tokens.vectors).argmax(-1).cpu().numpy()
        return np.split(best, np.cumsum(tokens.lengths)[:-1]) if docs else []

    def set_annotations(self, docs: Iterable[Doc], predictions: List[np.ndarray]) -> None:
        docs = list(docs)
        if self.cfg["attr"] == "TAG":
            ids = np.array([self.vocab.strings.add(label) for label in self.labels], dtype=np.uint64)
        else:
            ids = np.array([POS_IDS[label] for label in self.labels], dtype=np.uint64)
        for doc, places in zip(docs, predictions):
            if len(doc):
                doc.from_array([IDS[self.cfg["attr"]]], ids[places].reshape(-1, 1))
        self.transformer.release(docs, self.name)

    def score_settings(self) -> Dict[str, Any]:
        return {"attr": self.cfg["attr"]}


Language.factory(
    "mtl_tagger",
    assigns=["token.tag"],
    default_config=Config().from_str(DEFAULT_CONFIG)["tagger"],
    default_score_weights={"tag_acc": 1.0, "pos_acc": 1.0},
    func=make_tagger,
)
