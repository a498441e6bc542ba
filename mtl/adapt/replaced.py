"""Replaced-token detection, the objective of ELECTRA: which wordpieces did a small generator put in? Pure torch."""

from typing import Any, Callable, List, Optional, Tuple

import torch
from torch import Tensor, nn
from transformers import ElectraForPreTraining, PreTrainedModel, PreTrainedTokenizerFast

from mtl.encoder.limits import set_attention_dropout
from mtl.encoder.masking import MaskedBatch
from mtl.encoder.mlm import load_mlm, masked_logits
from mtl.encoder.sources import load_config, load_pretrained, load_tokenizer
from mtl.errors import UserError

WEIGHT = 50.0  # of the discriminator's loss beside the generator's


class ReplacedTokens(nn.Module):
    """A discriminator, which is kept, and the generator that it learns from, which is trained beside it and thrown away.

    Source: Clark et al. 2020 (https://arxiv.org/abs/2003.10555). The two share no weights here.
    """

    def __init__(self, discriminator: PreTrainedModel, generator: PreTrainedModel) -> None:
        super().__init__()
        self.discriminator, self.generator = discriminator, generator

    @property
    def base_model(self) -> nn.Module:
        return self.discriminator.base_model

    @property
    def config(self) -> Any:
        return self.discriminator.config

    def gradient_checkpointing_enable(self, *given: Any) -> None:
        self.discriminator.gradient_checkpointing_enable(*given)
        self.generator.gradient_checkpointing_enable(*given)

    def save_pretrained(self, folder: Any) -> None:
        """The discriminator alone."""
        self.discriminator.save_pretrained(folder)

    def forward(self, batch: MaskedBatch, attention: Tensor) -> Tensor:
        """The loss (nats): in training the generator's and 50 times the discriminator's, else the discriminator's alone.

        The generator's choices are drawn from its distribution; no gradient passes through them.
        """
        logits = masked_logits(self.generator, batch, attention)
        noise = -torch.empty_like(logits).exponential_().log()
        drawn = (logits.detach() + noise).argmax(-1)
        text, original = batch.pieces.clone(), batch.pieces.clone()
        text[batch.chosen], original[batch.chosen] = drawn, batch.targets
        found = self.discriminator(input_ids=text, attention_mask=attention).logits.float()
        real = attention.bool()
        loss = nn.functional.binary_cross_entropy_with_logits(found[real], (text != original)[real].float())
        if not self.training:
            return loss
        return nn.functional.cross_entropy(logits, batch.targets) + WEIGHT * loss


def load_replaced(name: str, generator: str, tokenizer: PreTrainedTokenizerFast) -> Tuple[ReplacedTokens, List[str]]:
    """Both models, and the names of the discriminator's parameters that its checkpoint lacks.

    RAISES (UserError): not an ELECTRA; the generator has no masked-LM head, or another vocabulary.
    """
    config = load_config(name)
    if config.model_type != "electra":
        raise UserError(
            f'objective = "replaced" is for ELECTRA discriminators, and encoder {name!r} is a {config.model_type}; use "words"'
        )
    set_attention_dropout(config, 0.0)
    discriminator, info = load_pretrained(ElectraForPreTraining, name, config=config)
    lost = [key for key in info["missing_keys"] if key.startswith("electra.")]
    if lost:
        raise UserError(f"encoder {name!r}: the checkpoint lacks {len(lost)} weights of the encoder, {lost[0]} among them")
    if load_tokenizer(generator).get_vocab() != tokenizer.get_vocab():
        raise UserError(
            f"generator = {generator!r}: its vocabulary is not that of encoder {name!r}, whose wordpieces it replaces"
        )
    model, missing = load_mlm(generator)
    if missing:
        raise UserError(
            f"generator = {generator!r}: the checkpoint has no masked-LM head; take the one published with the encoder"
        )
    return ReplacedTokens(discriminator, model), list(info["missing_keys"])


def replaced_loss(
    model: ReplacedTokens, batch: MaskedBatch, attention: Tensor, forward: Optional[Callable[..., Any]] = None
) -> Tensor:
    """See `ReplacedTokens.forward`. When measuring, chance is the same every time."""
    if model.training:
        return (forward or model)(batch, attention)
    with torch.random.fork_rng(devices=[batch.pieces.device] if batch.pieces.is_cuda else []):
        torch.manual_seed(0)
        return model(batch, attention)
