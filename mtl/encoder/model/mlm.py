"""Language models that compute logits at the selected positions only, for any architecture. Pure torch."""

from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, Optional, Tuple

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel

from mtl import compat
from mtl.encoder.model.masking import MaskedBatch
from mtl.encoder.pretrained.architecture import set_attention_dropout
from mtl.encoder.pretrained.sources import load_config, load_pretrained
from mtl.errors import UserError


def load_mlm(name: str, causal: bool = False) -> Tuple[PreTrainedModel, List[str]]:
    """Load an encoder with its tied language-model head.

    Args:
        name (str): A Hugging Face folder or a name on the hub.
        causal (bool): Load a decoder in the form that predicts the next subword.

    Returns:
        Tuple[PreTrainedModel, List[str]]: The model, and the names of the head's parameters that the checkpoint lacks.

    Raises:
        UserError: The architecture has no such form, or the checkpoint lacks weights of the encoder.
    """
    config = load_config(name)
    set_attention_dropout(config, 0.0)
    if causal and compat.has_masked_lm_form(config.model_type):
        raise UserError(
            f'objective = "clm" is for decoders, and encoder {name!r} is a {config.model_type}; use "mlm" or "span_mlm"'
        )
    try:
        model, info = load_pretrained(AutoModelForCausalLM if causal else AutoModelForMaskedLM, name, config=config)
    except ValueError as error:
        if "Unrecognized configuration class" in str(error):
            form = "causal" if causal else "masked"
            raise UserError(
                f"encoder {name!r}: {config.model_type} has no {form}-LM form; use an encoder of the BERT kind"
            ) from None
        raise
    check_encoder_weights(name, info["missing_keys"], model.base_model_prefix)
    model.tie_weights()
    head_ids = {id(parameter) for parameter in head_parameters(model)}
    head_names = {name for name, parameter in model.named_parameters(remove_duplicate=False) if id(parameter) in head_ids}
    return model, [key for key in info["missing_keys"] if key in head_names]


def check_encoder_weights(name: str, missing_keys: List[str], prefix: str) -> None:
    """Refuse a checkpoint that lacks weights of the encoder itself.

    Args:
        name (str): The encoder, for the message.
        missing_keys (List[str]): The parameters that the checkpoint lacks.
        prefix (str): What the names of the encoder's parameters start with, before a dot.

    Raises:
        UserError: There are such weights.
    """
    encoder_keys = [key for key in missing_keys if key.startswith(prefix + ".")]
    if encoder_keys:
        raise UserError(
            f"encoder {name!r}: the checkpoint lacks {len(encoder_keys)} weights of the encoder, {encoder_keys[0]} among them"
        )


def head_parameters(model: PreTrainedModel) -> List[nn.Parameter]:
    """The parameters of the language-model head that it does not share with the encoder."""
    shared = {id(parameter) for parameter in model.base_model.parameters()}
    owner = getattr(model, "discriminator", model)  # an ELECTRA pair holds a generator too, which is not the head
    return [parameter for parameter in owner.parameters() if id(parameter) not in shared]


def start_at_frequencies(model: PreTrainedModel, counts: Tensor) -> None:
    """Set a new head's output bias to the log frequency of each subword, so that it starts at the unigram perplexity.

    Args:
        model (PreTrainedModel): The model, changed in place.
        counts (Tensor): How often each subword occurs in the training text; one is added to each. Shape (vocabulary,).
    """
    bias = model.get_output_embeddings().bias
    smoothed = counts.float()[: len(bias)] + 1
    with torch.no_grad():
        bias.copy_((smoothed / smoothed.sum()).log())


def causal_mask(attention_mask: Tensor) -> Tensor:
    """The attention mask with which subwords see only those before them and themselves.

    Args:
        attention_mask (Tensor): 1 for subwords, 0 for padding. Shape (blocks, block_size).

    Returns:
        Tensor: Shape (blocks, block_size, block_size): 1 where the first subword sees the second.
    """
    size = attention_mask.shape[-1]
    return attention_mask[:, None, :] * torch.ones(size, size, dtype=attention_mask.dtype, device=attention_mask.device).tril()


def masked_loss(
    model: PreTrainedModel, batch: MaskedBatch, attention_mask: Tensor, forward: Optional[Callable[..., Any]] = None
) -> Tensor:
    """Mean cross-entropy (nats) over the selected positions. The vocabulary matrix is applied to no other position.

    At 22M parameters that matrix outweighs the encoder. A hook on the encoder passes only the selected rows to the head, so
    the head stays the model's own, whatever the architecture.

    Args:
        model (PreTrainedModel): The language model.
        batch (MaskedBatch): What to read and to predict.
        attention_mask (Tensor): 1 for subwords, 0 for padding. Shape (blocks, block_size), or that of `causal_mask`.
        forward (Optional[Callable[..., Any]]): What to call instead of the model, such as a data-parallel wrapper of it.
    """
    return nn.functional.cross_entropy(masked_logits(model, batch, attention_mask, forward), batch.targets)


def masked_logits(
    model: PreTrainedModel, batch: MaskedBatch, attention_mask: Tensor, forward: Optional[Callable[..., Any]] = None
) -> Tensor:
    """Logits at the selected positions alone. Shape (selected positions, vocabulary)."""
    with _selected_only(model, batch.selected):
        logits = (forward or model)(input_ids=batch.input_ids, attention_mask=attention_mask).logits
    return logits.view(-1, logits.shape[-1]).float()


@contextmanager
def _selected_only(model: PreTrainedModel, selected: Tensor) -> Iterator[None]:
    """The encoder's output holds only the selected positions within the block."""

    def keep_selected(module: nn.Module, inputs: tuple, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[selected].unsqueeze(0)
        return output

    handle = model.base_model.register_forward_hook(keep_selected)
    try:
        yield
    finally:
        handle.remove()
