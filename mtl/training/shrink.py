"""Fewer layers, and narrower ones, of an encoder in place: what a student begins with."""

from typing import List, Optional, Sequence, Tuple

import torch
from torch import nn

from mtl.encoder.torch_encoder import Encoder
from mtl.errors import UserError

LAYERS = ("layer", "layers", "h", "block", "blocks")
WIDTHS = ("intermediate_size", "hidden_dim", "ffn_dim", "d_ff")  # of feed-forward layers, by the names of several configs
SHOWN = 32  # texts, of which the neurons' outputs are looked at
MULTIPLE = 8  # of neurons, for the sake of matrix kernels


def keep_layers(encoder: Encoder, count: int) -> None:
    """Leave so many layers of the transformer, the first and the last and others evenly between, in place.

    Sanh et al. 2019, DistilBERT, begin in the same way. RAISES (UserError): its layers stand in no list.
    """
    if count == encoder.layers:
        return
    if hasattr(encoder.model.config, "global_attn_every_n_layers"):
        raise UserError(f"the layers of a {encoder.model.config.model_type} differ by their number, and cannot be taken out")
    owner, name, layers = _layers(encoder)
    chosen = [round(i * (len(layers) - 1) / max(count - 1, 1)) for i in range(count)]
    setattr(owner, name, nn.ModuleList(layers[i] for i in chosen))
    encoder.model.config.num_hidden_layers = count
    encoder.serving.forget()


def narrow(encoder: Encoder, width: float, texts: Sequence[str]) -> None:
    """Leave that share of the neurons of every feed-forward layer, in place: those whose outputs weigh most on the texts.

    A neuron weighs as much as the mean size of its output times the norm of the weights that take it on; after Hou et al. 2020,
    DynaBERT (https://arxiv.org/abs/2004.04037), who ask gradients instead. Attention, and a token's vector, stay as they are.
    RAISES (UserError): the architecture's feed-forward layers are not two linear ones.
    """
    config = encoder.model.config
    setting = next((name for name in WIDTHS if isinstance(getattr(config, name, None), int)), None)
    whole = getattr(config, setting) if setting else 0
    try:
        found = [_feed_forward(layer, whole) for layer in _layers(encoder)[2]]
    except UserError:
        found = [None]
    pairs = [pair for pair in found if pair is not None]
    if setting is None or len(pairs) < len(found):
        raise UserError(f"the feed-forward layers of a {config.model_type} are not two linear ones, and cannot be narrowed")
    kept = max(MULTIPLE, round(width * whole / MULTIPLE) * MULTIPLE)
    weights = _weights(encoder, [down for _, down in pairs], texts)
    for (up, down), weight in zip(pairs, weights):
        best = weight.topk(min(kept, whole)).indices.sort().values
        up.weight, down.weight = nn.Parameter(up.weight.detach()[best]), nn.Parameter(down.weight.detach()[:, best].contiguous())
        if up.bias is not None:
            up.bias = nn.Parameter(up.bias.detach()[best])
        up.out_features = down.in_features = len(best)
    setattr(config, setting, min(kept, whole))
    encoder.serving.forget()


def _layers(encoder: Encoder) -> Tuple[nn.Module, str, nn.ModuleList]:
    """What holds the transformer's layers, under which name, and they. RAISES (UserError): there is no such list."""
    for module in encoder.model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == encoder.layers and name in LAYERS:
                return module, name, child
    raise UserError(f"the layers of a {encoder.model.config.model_type} cannot be taken out")


def _feed_forward(layer: nn.Module, width: int) -> Optional[Tuple[nn.Linear, nn.Linear]]:
    """The linear layers into and out of that width, where there is one of each."""
    linear = [module for module in layer.modules() if isinstance(module, nn.Linear)]
    ups, downs = [one for one in linear if one.out_features == width], [one for one in linear if one.in_features == width]
    return (ups[0], downs[0]) if len(ups) == len(downs) == 1 else None


@torch.inference_mode()
def _weights(encoder: Encoder, downs: List[nn.Linear], texts: Sequence[str]) -> List[torch.Tensor]:
    """For each of the layers how much each of its inputs weighs."""
    sums = [torch.zeros(down.in_features, device=encoder.device) for down in downs]
    handles = [
        down.register_forward_pre_hook(lambda _, given, total=total: total.add_(given[0].float().abs().flatten(0, -2).sum(0)))
        for down, total in zip(downs, sums)
    ]
    try:
        for text in texts[:SHOWN]:
            ids = encoder.tokenizer.backend_tokenizer.encode(text).ids
            ids = ids if len(ids) <= encoder.window else [*ids[: encoder.window - 1], ids[-1]]
            pieces = torch.tensor([ids], device=encoder.device)
            encoder.model(input_ids=pieces, attention_mask=torch.ones_like(pieces))
    finally:
        for handle in handles:
            handle.remove()
    return [total * down.weight.float().norm(dim=0) for total, down in zip(sums, downs)]
