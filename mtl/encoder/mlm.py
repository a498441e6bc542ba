"""A masked-language model that computes logits at the masked positions only, for any architecture. Pure torch."""

from contextlib import contextmanager
from typing import Any, Callable, Iterator, List, Optional, Tuple

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from mtl.encoder.limits import set_attention_dropout
from mtl.encoder.masking import MaskedBatch
from mtl.encoder.sources import load_config, load_pretrained
from mtl.errors import UserError

Loss = Callable[..., Tensor]  # as `masked_loss` is


def load_mlm(name: str, causal: bool = False) -> Tuple[PreTrainedModel, List[str]]:
    """The encoder with its tied language-model head, and the names of the head's parameters that the checkpoint lacks.

    causal: for a decoder, the form that predicts the next wordpiece. RAISES (UserError): the architecture has no such form.
    """
    config = load_config(name)
    set_attention_dropout(config, 0.0)
    kind = "causal" if causal else "masked"
    if causal and config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise UserError(
            f'objective = "next" is for decoders, and encoder {name!r} is a {config.model_type}; use "words" or "spans"'
        )
    try:
        model, info = load_pretrained(AutoModelForCausalLM if causal else AutoModelForMaskedLM, name, config=config)
    except ValueError as error:
        if "Unrecognized configuration class" in str(error):
            raise UserError(
                f"encoder {name!r}: {config.model_type} has no {kind}-LM form; use an encoder of the BERT kind"
            ) from None
        raise
    base = model.base_model_prefix + "."
    lost = [key for key in info["missing_keys"] if key.startswith(base)]
    if lost:
        raise UserError(f"encoder {name!r}: the checkpoint lacks {len(lost)} weights of the encoder, {lost[0]} among them")
    model.tie_weights()
    own = {id(parameter) for parameter in head_parameters(model)}
    named = {name for name, parameter in model.named_parameters(remove_duplicate=False) if id(parameter) in own}
    return model, [key for key in info["missing_keys"] if key in named]


def head_parameters(model: PreTrainedModel) -> List[nn.Parameter]:
    """The parameters of the language-model head that it does not share with the encoder."""
    shared = {id(parameter) for parameter in model.base_model.parameters()}
    owner = getattr(model, "discriminator", model)  # beside which a generator may stand
    return [parameter for parameter in owner.parameters() if id(parameter) not in shared]


def start_at_frequencies(model: PreTrainedModel, counts: Tensor) -> None:
    """Set a new head's output bias to the log frequency of each wordpiece, so that it starts at the unigram perplexity.

    counts: (vocabulary,), how often each occurs in the training text; one is added to each.
    """
    bias = model.get_output_embeddings().bias
    smoothed = counts.float()[: len(bias)] + 1
    with torch.no_grad():
        bias.copy_((smoothed / smoothed.sum()).log())


def masked_loss(
    model: PreTrainedModel, batch: MaskedBatch, attention: Tensor, forward: Optional[Callable[..., Any]] = None
) -> Tensor:
    """Mean cross-entropy (nats) over the chosen positions; the vocabulary matrix meets no other position.

    At 22M parameters that matrix outweighs the encoder. A hook on the encoder hands its head the chosen rows alone, so
    the head stays the model's own, whatever the architecture. forward: what calls the model, where that is not itself.
    """
    return nn.functional.cross_entropy(masked_logits(model, batch, attention, forward), batch.targets)


def masked_logits(
    model: PreTrainedModel, batch: MaskedBatch, attention: Tensor, forward: Optional[Callable[..., Any]] = None
) -> Tensor:
    """(chosen, vocabulary), for the chosen positions alone."""
    with _only(model, batch.chosen):
        logits = (forward or model)(input_ids=batch.pieces, attention_mask=attention).logits
    return logits.view(-1, logits.shape[-1]).float()


@contextmanager
def _only(model: PreTrainedModel, chosen: Tensor) -> Iterator[None]:
    def keep_chosen(module: nn.Module, inputs: tuple, output):
        output.last_hidden_state = output.last_hidden_state[chosen].unsqueeze(0)
        return output

    handle = model.base_model.register_forward_hook(keep_chosen)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def mean_loss(model: Any, batches: List[Tuple[MaskedBatch, Tensor]], autocast: Callable, loss_of: Loss = masked_loss) -> float:
    """Mean loss (nats per masked wordpiece) over fixed batches; its exponential is the perplexity."""
    was_training = model.training
    model.eval()
    total = count = 0.0
    for batch, attention in batches:
        with autocast():
            loss = loss_of(model, batch, attention)
        total += loss.item() * len(batch.targets)
        count += len(batch.targets)
    model.train(was_training)
    return total / count
