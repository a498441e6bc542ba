"""Remove layers, or neurons of feed-forward layers, from an encoder in place: where a student starts."""

from typing import List, Optional, Sequence, Tuple

import torch
from torch import nn

from mtl.encoder.model.encoder import Encoder
from mtl.errors import UserError

LAYER_LISTS = ("layer", "layers", "h", "block", "blocks")  # what architectures call the list of layers
WIDTH_SETTINGS = ("intermediate_size", "hidden_dim", "ffn_dim", "d_ff")  # what they call the width of feed-forward layers
SAMPLE_TEXTS = 32  # on which the outputs of neurons are measured
NEURON_MULTIPLE = 8  # matrix kernels are fast for multiples of it


def keep_layers(encoder: Encoder, count: int) -> None:
    """Keep some layers of the transformer: the first, the last, and others evenly spaced between them, in place.

    DistilBERT starts in the same way (Sanh et al. 2019, https://arxiv.org/abs/1910.01108).

    Args:
        encoder (Encoder): The encoder.
        count (int): Number of layers to keep.

    Raises:
        UserError: The layers cannot be removed: they are not in a list, or differ by position.
    """
    if count == encoder.layers:
        return
    if hasattr(encoder.model.config, "global_attn_every_n_layers"):
        raise UserError(f"the layers of a {encoder.model.config.model_type} differ by position, so none can be removed")
    owner, name, layers = _find_layers(encoder)
    positions = [round(i * (len(layers) - 1) / max(count - 1, 1)) for i in range(count)]
    setattr(owner, name, nn.ModuleList(layers[i] for i in positions))
    encoder.model.config.num_hidden_layers = count
    encoder.inference.invalidate()


def narrow_layers(encoder: Encoder, width: float, texts: Sequence[str]) -> None:
    """Keep the most important neurons of every feed-forward layer, in place.

    The importance of a neuron is the mean magnitude of its output on the texts, times the norm of its outgoing weights. DynaBERT
    (Hou et al. 2020, https://arxiv.org/abs/2004.04037) selects neurons in this way too, but by gradients. Attention and the size
    of token vectors stay the same.

    Args:
        encoder (Encoder): The encoder.
        width (float): Fraction of the neurons to keep.
        texts (Sequence[str]): Texts to measure on; the first 32 are used.

    Raises:
        UserError: The feed-forward layers are not pairs of linear layers.
    """
    config = encoder.model.config
    setting = next((name for name in WIDTH_SETTINGS if isinstance(getattr(config, name, None), int)), None)
    old_width = getattr(config, setting) if setting else 0
    pairs = _feed_forward_pairs(encoder, old_width)
    if setting is None or pairs is None:
        raise UserError(f"the feed-forward layers of a {config.model_type} are not pairs of linear layers and cannot be narrowed")
    new_width = min(max(NEURON_MULTIPLE, round(width * old_width / NEURON_MULTIPLE) * NEURON_MULTIPLE), old_width)
    importances = _neuron_importances(encoder, [down for _, down in pairs], texts)
    for (up, down), importance in zip(pairs, importances):
        neurons = importance.topk(new_width).indices.sort().values
        up.weight = nn.Parameter(up.weight.detach()[neurons])
        down.weight = nn.Parameter(down.weight.detach()[:, neurons].contiguous())
        if up.bias is not None:
            up.bias = nn.Parameter(up.bias.detach()[neurons])
        up.out_features = down.in_features = new_width
    setattr(config, setting, new_width)
    encoder.inference.invalidate()


def _find_layers(encoder: Encoder) -> Tuple[nn.Module, str, nn.ModuleList]:
    """The list of the transformer's layers, with the module that owns it and its name there."""
    for module in encoder.model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == encoder.layers and name in LAYER_LISTS:
                return module, name, child
    raise UserError(f"the layers of a {encoder.model.config.model_type} are not in a list, so none can be removed")


def _feed_forward_pairs(encoder: Encoder, width: int) -> Optional[List[Tuple[nn.Linear, nn.Linear]]]:
    """For each layer, the linear layers into and out of that width. None if a layer does not have exactly one of each."""
    try:
        layers = _find_layers(encoder)[2]
    except UserError:
        return None
    pairs = []
    for layer in layers:
        linear = [module for module in layer.modules() if isinstance(module, nn.Linear)]
        ups = [module for module in linear if module.out_features == width]
        downs = [module for module in linear if module.in_features == width]
        if len(ups) != 1 or len(downs) != 1:
            return None
        pairs.append((ups[0], downs[0]))
    return pairs


@torch.inference_mode()
def _neuron_importances(encoder: Encoder, downs: List[nn.Linear], texts: Sequence[str]) -> List[torch.Tensor]:
    """For each of the layers, the importance of each of its inputs."""
    sums = [torch.zeros(down.in_features, device=encoder.device) for down in downs]
    handles = [
        down.register_forward_pre_hook(lambda _, inputs, total=total: total.add_(inputs[0].float().abs().flatten(0, -2).sum(0)))
        for down, total in zip(downs, sums)
    ]
    try:
        for text in texts[:SAMPLE_TEXTS]:
            ids = encoder.tokenizer.backend_tokenizer.encode(text).ids
            ids = ids if len(ids) <= encoder.window else [*ids[: encoder.window - 1], ids[-1]]
            token_ids = torch.tensor([ids], device=encoder.device)
            encoder.model(input_ids=token_ids, attention_mask=torch.ones_like(token_ids))
    finally:
        for handle in handles:
            handle.remove()
    return [total * down.weight.float().norm(dim=0) for total, down in zip(sums, downs)]
