"""`mtl_tagger`: sets `token.tag_`, or `token.pos_`."""

from typing import Any, Callable, Dict, Iterable, List, Optional, Set

import numpy as np
import torch
from spacy.attrs import IDS, IS_SPACE
from spacy.language import Language
from spacy.parts_of_speech import IDS as POS_IDS
from spacy.scorer import Scorer
from spacy.tokens import Doc
from spacy.training import Example
from thinc.api import Config, Model
from torch import nn

from mtl.encoder.batch import EncoderBatch
from mtl.errors import UserError, check_choice
from mtl.tasks.component import Head
from mtl.tasks.loss import Loss
from mtl.tasks.outputs import Outputs
from mtl.tasks.tagger.module import TokenClassifier
from mtl.tasks.tagger.task import ATTRIBUTES, TaggerTask
from mtl.tasks.token_rows import aligned_steps, token_names, tokens_by_item
from mtl.tasks.training import Rows
from mtl.torch_model import predicting, torch_model

SPACE_TAGS = ("_SP", "SP", "SPACE")  # the first is spaCy's, in every language

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
    """Architecture `mtl.Tagger.v1`: a linear layer on each token's vector.

    Args:
        encoder (Model): `mtl.EncoderListener.v1`.
    """
    return torch_model("mtl-tagger", TokenClassifier, [encoder])


def make_tagger(nlp: Language, name: str, model: Model, attr: str, scorer: Optional[Callable]) -> "TokenTagger":
    """Factory `mtl_tagger`: see `TokenTagger`."""
    return TokenTagger(nlp.vocab, model, name, attr=attr, scorer=scorer)


def make_tagger_scorer() -> Callable:
    """Scorer `mtl.tagger_scorer.v1`: `tag_acc` or `pos_acc`, see `score_tags`."""
    return score_tags


def score_tags(examples: Iterable[Example], *, attr: str, **kwargs: Any) -> Dict[str, Any]:
    """Accuracy over the annotated tokens that the pipeline's tokenizer gives too, as spaCy's own scorer computes it.

    Args:
        examples (Iterable[Example]): The examples.
        attr (str): "TAG" or "POS".
    """
    return Scorer.score_token_attr(examples, attr.lower())


class TokenTagger(Head):
    """A tag for each token.

    Args:
        attr (str): "TAG" for any tags, in `token.tag_`; "POS" for the universal parts of speech, in `token.pos_`.
    """

    def __init__(self, vocab, model: Model, name: str = "tagger", *, attr: str, scorer=None) -> None:
        check_choice(f"components.{name}.attr", attr, ATTRIBUTES)
        super().__init__(vocab, model, name, task=TaggerTask(attr), scorer=scorer, attr=attr)

    def add_label(self, label: str) -> int:
        """Add a tag; see `HeadLabels.add_label`.

        Raises:
            UserError: The head predicts universal parts of speech, and this is not one.
        """
        if self.cfg["attr"] == "POS" and label not in POS_IDS:
            raise UserError(
                f"the head {self.name!r}: {label!r} is not a universal part of speech; for other tags set "
                f'components.{self.name}.attr = "TAG"'
            )
        return super().add_label(label)

    def places(self) -> Set[str]:
        return {f"token.{self.cfg['attr'].lower()}_"}

    def score_names(self) -> Set[str]:
        return {f"{self.cfg['attr'].lower()}_acc"}

    def outputs(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Outputs]:
        """Logits of the tokens that have subwords."""
        tokens = batch.vectors([(i, None) for i, _ in rows])
        vectors, lengths, steps = aligned_steps(tokens)
        if not len(steps):
            return None
        names = token_names(rows, tokens_by_item(lengths, steps, tokens), self.labels)
        owners = np.repeat(np.arange(len(rows)), lengths)
        return Outputs((self.training_module(vectors, drop),), owners, names, steps)

    def gold_loss(self, outputs: Outputs, rows: Rows) -> Optional[Loss]:
        """Cross-entropy, the mean over the annotated tokens that have subwords."""
        label_index = {label: i for i, label in enumerate(self.labels)}
        tags = [label_index.get(tag, -1) for _, eg in rows for tag in eg.get_aligned(self.cfg["attr"], as_string=True)]
        (logits,) = outputs.tables
        gold = torch.tensor(tags)[torch.from_numpy(outputs.detail)].to(logits.device)
        count = int((gold >= 0).sum())
        if not count:
            return None
        return Loss(nn.functional.cross_entropy(logits, gold, ignore_index=-1), count, outputs)

    def predict(self, docs: Iterable[Doc]) -> List[np.ndarray]:
        """For each Doc the index of each token's label. Shape (tokens,)."""
        docs = list(docs)
        module = self.prediction_module
        with predicting():
            tokens = self.vectors(docs)
            best = module(tokens.vectors).argmax(-1).cpu().numpy()
        return np.split(best, np.cumsum(tokens.lengths)[:-1]) if docs else []

    def set_annotations(self, docs: Iterable[Doc], predictions: List[np.ndarray]) -> None:
        """Write the tags to the tokens."""
        docs = list(docs)
        if self.cfg["attr"] == "TAG":
            ids = np.array([self.vocab.strings.add(label) for label in self.labels], dtype=np.uint64)
        else:
            ids = np.array([POS_IDS[label] for label in self.labels], dtype=np.uint64)
        for doc, label_indices in zip(docs, predictions):
            if len(doc):
                values = np.where(doc.to_array(IS_SPACE).astype(bool), self._space_id(), ids[label_indices])
                doc.from_array([IDS[self.cfg["attr"]]], values.astype(np.uint64).reshape(-1, 1))
        self.transformer.release(docs, self.name)

    def _space_id(self) -> int:
        """What white space is tagged, which has no vector: as spaCy's own pipelines tag it, or as the training data does."""
        if self.cfg["attr"] == "POS":
            return POS_IDS["SPACE"]
        return self.vocab.strings.add(next((tag for tag in SPACE_TAGS if tag in self.labels), SPACE_TAGS[0]))

    def scorer_settings(self) -> Dict[str, Any]:
        return {"attr": self.cfg["attr"]}


Language.factory(
    "mtl_tagger",
    assigns=["token.tag"],
    default_config=Config().from_str(DEFAULT_CONFIG)["tagger"],
    default_score_weights={"tag_acc": 1.0, "pos_acc": 1.0},
    func=make_tagger,
)
