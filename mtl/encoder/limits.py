"""What the transformers configuration does not say in one way for all families. Pure torch."""

from typing import Optional

import torch
from torch import nn
from transformers import PretrainedConfig


def real_length(model: nn.Module, config: PretrainedConfig) -> int:
    """The most wordpieces, specials included, that `model` can take.

    `tokenizer.model_max_length` is often unset or about something else. RoBERTa and MPNet count positions from their
    padding index + 1, so two of their 514 are never used.
    """
    length = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - offset
    if not length:
        return 512
    return int(length)


def native_bf16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 matrices in hardware (where not, it is slower than fp32)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pick_device(name: str) -> torch.device:
    """`"auto"` is the first GPU where there is one, else the CPU; any other name is torch's own."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def layer_of(parameter: str) -> Optional[int]:
    """The transformer layer a parameter's name belongs to, or None (embeddings, final norm)."""
    parts = parameter.split(".")
    for before, part in zip(parts, parts[1:]):
        if part.isdigit() and before in ("layer", "layers", "h", "block", "blocks"):
            return int(part)
    return None
