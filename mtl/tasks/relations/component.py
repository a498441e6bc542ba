"""`mtl_relations`: the encoder learns how a teacher's encoder relates tokens to each other, beside the other heads."""

from typing import Any, Dict, Iterable, List, Optional, Sequence

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc
from thinc.api import Config, Model
from torch import nn

from mtl.encoder.batch import EncoderBatch
from mtl.errors import UserError, check_range
from mtl.tasks.component import Head
from mtl.tasks.loss import Loss
from mtl.tasks.outputs import Names, Outputs, SoftLoss, Targets
from mtl.tasks.relations.module import Relations
from mtl.tasks.relations.task import RelationsTask
from mtl.tasks.token_rows import aligned_steps, token_names, tokens_by_item
from mtl.tasks.training import Rows
from mtl.torch_model import set_module, torch_model

DEFAULT_CONFIG = """
[relations]
relation_heads = 12
max_tokens = 256
weight = 1.0

[relations.model]
@architectures = "mtl.Relations.v1"

[relations.model.encoder]
@architectures = "mtl.EncoderListener.v1"
"""


def relations_architecture(encoder: Model) -> Model:
    """Architecture `mtl.Relations.v1`: products of token vectors; it has no weights.

    Args:
        encoder (Model): `mtl.EncoderListener.v1`.
    """
    return torch_model("mtl-relations", Relations, [encoder])


def make_relations(
    nlp: Language, name: str, model: Model, relation_heads: int, max_tokens: int, weight: float
) -> "TokenRelations":
    """Factory `mtl_relations`: see `TokenRelations`."""
    return TokenRelations(nlp.vocab, model, name, relation_heads=relation_heads, max_tokens=max_tokens, weight=weight)


class TokenRelations(Head):
    """Makes the encoder relate the tokens of a text as a teacher's does, whatever the widths and subwords of the two.

    It learns from every document, labelled or not, and predicts nothing. Its teacher is any pipeline with an `mtl_transformer`.

    Args:
        relation_heads (int): Into how many parts vectors are split; it divides the widths of both encoders.
        max_tokens (int): Tokens of a document that are related to each other, from its start.
        weight (float): Factor on the loss, before the weighting.
    """

    def __init__(
        self, vocab, model: Model, name: str = "relations", *, relation_heads: int, max_tokens: int, weight: float
    ) -> None:
        check_range(f"components.{name}.relation_heads", relation_heads, 1)
        check_range(f"components.{name}.max_tokens", max_tokens, 2)
        check_range(f"components.{name}.weight", weight, 0.0)
        super().__init__(
            vocab, model, name, task=RelationsTask(), scorer=None, relation_heads=relation_heads, max_tokens=max_tokens,
            weight=weight,
        )  # fmt: skip

    def add_label(self, label: str) -> int:
        """Raises a `UserError`: the head has no labels."""
        raise UserError(f"the head {self.name!r} relates tokens, and has no labels")

    def initialize(
        self, get_examples, *, nlp=None, labels=None, teacher: Any = None
    ) -> None:  # fmt: skip
        """Find the teacher.

        Args:
            get_examples (Callable): Returns a sample of the training data.
            nlp (Any): The pipeline.
            labels (Any): None.
            teacher (Any): `TeacherSettings`: the pipelines whose relations are learned.

        Raises:
            UserError: There is no teacher.
        """
        if teacher is None:
            raise UserError(
                f"the head {self.name!r} learns from a teacher alone: give a section [initialize.components.{self.name}.teacher]"
            )
        super().initialize(get_examples, nlp=nlp, labels=labels, teacher=teacher)

    def added_to(self, nlp: Language) -> str:
        """Give a teacher's pipeline a head with these settings, unless it has one. It has nothing to learn. Returns its name."""
        settings = {key: self.cfg[key] for key in ("relation_heads", "max_tokens")}
        name = "_".join(map(str, (RelationsTask.name, *settings.values())))
        if name not in nlp.pipe_names:
            head: Any = nlp.add_pipe(RelationsTask.factory, name=name, config=settings)
            head.cfg["width"] = head.transformer.width
            head._build()
        return name

    def _build(self, old: Optional[nn.Module] = None) -> None:
        width, parts = self.cfg["width"], self.cfg["relation_heads"]
        if width % parts:
            raise UserError(
                f"components.{self.name}.relation_heads = {parts} does not divide {width}, the width of the encoder of "
                f"{self.transformer.name!r}"
            )
        set_module(self.model, self.model.attrs["build"](width, parts))

    def _placed(self, module: nn.Module) -> Any:
        return module

    def outputs(self, rows: Rows, batch: EncoderBatch, drop: float) -> Optional[Outputs]:
        """Relations of the first tokens that have subwords."""
        tokens = batch.vectors([(i, None) for i, _ in rows])
        vectors, lengths, steps = aligned_steps(tokens)
        if not len(steps):
            return None
        kept = np.minimum(lengths, self.cfg["max_tokens"])
        starts = np.cumsum(lengths) - lengths
        index = np.concatenate([np.arange(start, start + count) for start, count in zip(starts, kept)])
        by_item = [own[:count] for own, count in zip(tokens_by_item(lengths, steps, tokens), kept)]
        names = token_names(rows, by_item, [])

        def places(example: int) -> Names:
            own = names(example).rows
            return Names(own, [own] * self.cfg["relation_heads"], are_places=True)

        tables = self.training_module(vectors[torch.from_numpy(index).to(vectors.device)].float(), kept)
        return Outputs(tables, np.repeat(np.arange(len(rows)), kept), places)

    def gold_loss(self, outputs: Outputs, rows: Rows) -> Optional[Loss]:
        """None: no document is annotated with relations."""
        return None

    def soft_loss(self, outputs: Outputs, targets: Sequence[Sequence[Targets]], temperature: float) -> Optional[SoftLoss]:
        loss = super().soft_loss(outputs, targets, temperature)
        return None if loss is None else SoftLoss(loss.mean * self.cfg["weight"], loss.count)

    def predict(self, docs: Iterable[Doc]) -> List[None]:
        return [None for _ in docs]

    def set_annotations(self, docs: Iterable[Doc], predictions: Any) -> None:
        self.transformer.release(list(docs), self.name)

    def scorer_settings(self) -> Dict[str, Any]:
        return {}


Language.factory("mtl_relations", default_config=Config().from_str(DEFAULT_CONFIG)["relations"], func=make_relations)
