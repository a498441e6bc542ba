"""What transformers configurations do not say in the same way for all architectures. Pure torch."""

import inspect
from typing import Optional

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from mtl import compat
from mtl.errors import UserError

# The names of these settings in different architectures.
ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")
DROPOUT = ("hidden_dropout_prob", "hidden_dropout", "dropout", "resid_pdrop", "embd_pdrop", "mlp_dropout", "embedding_dropout")


def max_length(model: nn.Module, config: PretrainedConfig) -> int:
    """The longest input of the model, in subwords with special tokens.

    `tokenizer.model_max_length` is often unset, or means something else. RoBERTa and MPNet count positions from their padding
    index + 1, so two of their 514 are never used.
    """
    length = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - offset
    return int(length) if length and length > 0 else 512  # XLNet says -1


def set_attention_dropout(config: PretrainedConfig, rate: float) -> None:
    """Set the dropout rate of attention weights, before the model is made. Dropout of hidden states is unchanged.

    Above 0, torch cannot use its fused attention on a CPU: a training step of MiniLM then takes 1.1 times as long at 128
    subwords, and 3 times as long at 384.
    """
    for name in ATTENTION_DROPOUT:
        if hasattr(config, name):
            setattr(config, name, rate)


def set_dropout(config: PretrainedConfig, rate: float) -> None:
    """Set the dropout rate of hidden states, before the model is made."""
    for name in DROPOUT:
        if hasattr(config, name):
            setattr(config, name, rate)


def without_pooler(model: PreTrainedModel) -> PreTrainedModel:
    """Remove what sums up a sequence, which nothing reads, where the architecture can do without."""
    if getattr(model, "pooler", None) is not None:
        if "add_pooling_layer" in inspect.signature(type(model).__init__).parameters:
            model.pooler = None
        else:  # SqueezeBERT calls it
            model.pooler.requires_grad_(False)
    return model


def reinit_top_layers(model: PreTrainedModel, count: int) -> None:
    """Give the top layers the random weights that the architecture starts with, in place.

    Raises:
        UserError: The model has fewer layers.
    """
    layers = layer_count(model)
    if count > layers:
        raise UserError(f"reinit_layers = {count} is more than the encoder's {layers} layers")
    for name, module in model.named_modules():
        has_parameters = any(True for _ in module.parameters(recurse=False))
        weight = f"{name}.weight"
        if has_parameters and depth_of(weight, layers) > layers - count and layer_of(weight) is not None:
            compat.init_weights(model, module)


def layer_of(parameter: str) -> Optional[int]:
    """The index of the transformer layer that a parameter belongs to, by its name; None for embeddings or a final norm.

    It is the first number in the name, whatever an architecture calls its layers. ALBERT counts groups of layers, which share
    their weights.
    """
    parts = parameter.split(".")
    for before, part in zip(parts, parts[1:]):
        if part.isdigit() and "embed" not in before:
            return int(part)
    return None


def layer_count(model: nn.Module) -> int:
    """Number of transformer layers, by the parameters' names."""
    return 1 + max((n for name, _ in model.named_parameters() if (n := layer_of(name)) is not None), default=-1)


def depth_of(parameter: str, layers: int) -> int:
    """A parameter's depth: 0 for embeddings, 1 + the index of its layer, or `layers` + 1 for what is above the layers.

    Args:
        parameter (str): Its name.
        layers (int): Number of layers of the model.
    """
    layer = layer_of(parameter)
    if layer is not None:
        return layer + 1
    return 0 if any(part in parameter for part in ("embed", "wte", "wpe", "rel_")) else layers + 1
