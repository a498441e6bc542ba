"""Low-rank updates beside frozen weights (LoRA, Hu et al. 2021, https://arxiv.org/abs/2106.09685), by way of peft. Pure torch.

They are merged into the weights when an encoder is saved.
"""

import copy
from typing import List

from torch import nn

from mtl import compat
from mtl.errors import UserError


def add_lora(encoder: nn.Module, rank: int) -> None:
    """Add a low-rank update to every linear layer of the encoder, in place. It starts at zero.

    Args:
        encoder (nn.Module): A transformer. Only the updates remain trainable.
        rank (int): Rank of the updates.

    Raises:
        UserError: peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError('lora needs peft: pip install "spacy-mtl[lora]"') from None
    names = {name.rpartition(".")[2] for name, layer in encoder.named_modules() if isinstance(layer, compat.linear_layer_types())}
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=sorted(names)), encoder)


def has_lora(encoder: nn.Module) -> bool:
    """Whether the encoder has low-rank updates."""
    return any("lora_" in name for name, _ in encoder.named_parameters())


def merged(encoder: nn.Module) -> nn.Module:
    """The encoder without low-rank updates: itself, or a copy into whose weights they are merged."""
    if not has_lora(encoder):
        return encoder
    plain = copy.deepcopy(encoder)
    merge_lora(plain)
    return plain


def lora_parameters(encoder: nn.Module) -> List[nn.Parameter]:
    """The parameters of the low-rank updates."""
    return [parameter for name, parameter in encoder.named_parameters() if "lora_" in name]


def merge_lora(encoder: nn.Module) -> None:
    """Merge the low-rank updates into the weights, in place."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(encoder.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            encoder.set_submodule(name, layer.get_base_layer())
