"""Replaced token detection, ELECTRA's objective: which subwords did a small generator replace? Pure torch."""

from typing import Any, Callable, List, Optional, Tuple

import torch
from torch import Tensor, nn
from transformers import ElectraForPreTraining, PreTrainedModel, PreTrainedTokenizerFast

from mtl.encoder.model.masking import MaskedBatch
from mtl.encoder.model.mlm import check_encoder_weights, load_mlm, masked_logits
from mtl.encoder.pretrained.architecture import set_attention_dropout
from mtl.encoder.pretrained.sources import load_config, load_pretrained, load_tokenizer
from mtl.errors import UserError

DISCRIMINATOR_WEIGHT = 50.0  # of the discriminator's loss, relative to the generator's


class ElectraPair(nn.Module):
    """A discriminator, which is saved, and the generator it learns from, which is trained beside it and discarded.

    Source: Clark et al. 2020 (https://arxiv.org/abs/2003.10555). The two share no weights here.

    Args:
        discriminator (PreTrainedModel): Says for each subword whether it was replaced.
        generator (PreTrainedModel): A masked-language model with the same vocabulary.
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

    def gradient_checkpointing_enable(self, *arguments: Any) -> None:
        """Compute activations twice instead of storing them, in both models."""
        self.discriminator.gradient_checkpointing_enable(*arguments)
        self.generator.gradient_checkpointing_enable(*arguments)

    def save_pretrained(self, folder: Any) -> None:
        """Save the discriminator alone."""
        self.discriminator.save_pretrained(folder)

    def forward(self, batch: MaskedBatch, attention_mask: Tensor) -> Tensor:
        """The loss (nats): in training the generator's plus 50 times the discriminator's, else the discriminator's alone.

        The generator's replacements are drawn from its distribution; no gradient passes through them.
        """
        logits = masked_logits(self.generator, batch, attention_mask)
        gumbel_noise = -torch.empty_like(logits).exponential_().log()
        drawn_ids = (logits.detach() + gumbel_noise).argmax(-1)
        input_ids, original_ids = batch.input_ids.clone(), batch.input_ids.clone()
        input_ids[batch.selected], original_ids[batch.selected] = drawn_ids, batch.targets
        replaced_logits = self.discriminator(input_ids=input_ids, attention_mask=attention_mask).logits.float()
        is_subword = attention_mask.bool()
        is_replaced = (input_ids != original_ids)[is_subword].float()
        loss = nn.functional.binary_cross_entropy_with_logits(replaced_logits[is_subword], is_replaced)
        if not self.training:
            return loss
        return nn.functional.cross_entropy(logits, batch.targets) + DISCRIMINATOR_WEIGHT * loss


def load_electra(name: str, generator: str, tokenizer: PreTrainedTokenizerFast) -> Tuple[ElectraPair, List[str]]:
    """Load a discriminator and its generator.

    Args:
        name (str): The discriminator, a Hugging Face folder or a name on the hub.
        generator (str): The generator, likewise.
        tokenizer (PreTrainedTokenizerFast): The discriminator's tokenizer.

    Returns:
        Tuple[ElectraPair, List[str]]: Both, and the names of the discriminator's parameters that its checkpoint lacks.

    Raises:
        UserError: The encoder is not an ELECTRA, or the generator has no masked-LM head or another vocabulary.
    """
    config = load_config(name)
    if config.model_type != "electra":
        raise UserError(
            f'objective = "rtd" is for ELECTRA discriminators, and encoder {name!r} is a {config.model_type}; use "mlm"'
        )
    set_attention_dropout(config, 0.0)
    discriminator, info = load_pretrained(ElectraForPreTraining, name, config=config)
    check_encoder_weights(name, info["missing_keys"], "electra")
    if load_tokenizer(generator).get_vocab() != tokenizer.get_vocab():
        raise UserError(
            f"generator = {generator!r}: its vocabulary differs from that of encoder {name!r}, whose subwords it replaces"
        )
    model, missing = load_mlm(generator)
    if missing:
        raise UserError(
            f"generator = {generator!r}: the checkpoint has no masked-LM head; use the one published with the encoder"
        )
    return ElectraPair(discriminator, model), list(info["missing_keys"])


def rtd_loss(
    model: ElectraPair, batch: MaskedBatch, attention_mask: Tensor, forward: Optional[Callable[..., Any]] = None
) -> Tensor:
    """The loss of `ElectraPair.forward`. In evaluation the generator draws the same replacements every time.

    Args:
        model (ElectraPair): Both models.
        batch (MaskedBatch): What to read and to predict.
        attention_mask (Tensor): 1 for subwords, 0 for padding. Shape (blocks, block_size).
        forward (Optional[Callable[..., Any]]): What to call instead of the model in training, such as a data-parallel wrapper.
    """
    if model.training:
        return (forward or model)(batch, attention_mask)
    with torch.random.fork_rng(devices=[batch.input_ids.device] if batch.input_ids.is_cuda else []):
        torch.manual_seed(0)
        return model(batch, attention_mask)
