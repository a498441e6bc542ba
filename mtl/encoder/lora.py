"""Low-rank updates beside frozen weights (Hu et al. 2021, LoRA), by way of peft, merged into the weights when they are saved.

Pure torch.
"""

import copy
from typing import List

from torch import nn
from transformers.pytorch_utils import Conv1D

from mtl.errors import UserError


def add_lora(encoder: nn.Module, rank: int) -> None:
    """Put an update of that rank, which starts at nothing, beside every linear layer of the encoder, in place.

    RAISES (UserError): peft is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError('lora needs peft: pip install "spacy-mtl[lora]"') from None
    names = {name.rpartition(".")[2] for name, layer in encoder.named_modules() if isinstance(layer, (nn.Linear, Conv1D))}
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=sorted(names)), encoder)


def has_lora(encoder: nn.Module) -> bool:
    return any("lora_" in name for name, _ in encoder.named_parameters())


def merged(encoder: nn.Module) -> nn.Module:
    """The encoder without updates beside its weights: itself, or a copy in which they are merged."""
    if not has_lora(encoder):
        return encoder
    plain = copy.deepcopy(encoder)
    merge_lora(plain)
    return plain


def lora_parameters(encoder: nn.Module) -> List[nn.Parameter]:
    return [parameter for name, parameter in encoder.named_parameters() if "lora_" in name]


def merge_lora(encoder: nn.Module) -> None:
    """Add the updates to the weights they stand beside, and take them away, in place."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(encoder.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            encoder.set_submodule(name, layer.get_base_layer())
