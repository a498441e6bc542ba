"""An encoder's weights in the precision that predictions run in. Pure torch.

What is trained and saved stays fp32; the copy that serves is made of it in memory.
"""

import copy
import warnings
from contextlib import AbstractContextManager, ExitStack
from typing import Container, Dict, Optional, Tuple, cast

import torch
from torch import Tensor, nn

from mtl.encoder.attention import BlockedAttention
from mtl.encoder.lora import merged
from mtl.errors import UserError

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("fp32", *HALF, "int8")


def lacks(precision: str, device: torch.device) -> str:
    """Why the device cannot run the precision at a profit, "" where it can."""
    if precision == "bf16":
        return "" if _multiplies_bf16(device) else f"{device} does not multiply bfloat16 natively"
    if precision == "fp16":
        return "" if device.type in ("cuda", "mps") else f"fp16 is for GPUs, and the device is {device}"
    if precision == "int8":
        if device.type != "cpu":
            return f"int8 is for CPUs, and the device is {device}"
        return "" if _multiplies_int8() else "the processor does not multiply int8 natively (an x86 with VNNI does)"
    return ""


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return device.type == "mps"
    if _is_x86():
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _multiplies_int8() -> bool:
    return _is_x86() and torch.backends.mkldnn.is_available() and torch.cpu._is_vnni_supported()


def _is_x86() -> bool:
    return "x86" in torch.backends.quantized.supported_engines


def usable(precision: str, device: torch.device, fallback: bool) -> str:
    """The precision itself where the device has it, else "fp32" with a warning. RAISES (UserError): without `fallback`."""
    reason = lacks(precision, device)
    if not reason:
        return precision
    if not fallback:
        raise UserError(f'precision = "{precision}": {reason}. Set precision = "fp32", or fallback = true to have that done')
    warnings.warn(f'precision = "{precision}": {reason}; fp32 is used instead', UserWarning, stacklevel=2)
    return "fp32"


def training_in(precision: str, device: torch.device) -> AbstractContextManager:
    """What a forward pass in training runs under: bf16 by autocast where that is asked for, else fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def predicting_in(precision: str, device: torch.device) -> AbstractContextManager:
    """What a forward pass of the model that serves runs under."""
    stack = ExitStack()
    stack.enter_context(torch.inference_mode())
    if device.type == "cpu" and precision in ("bf16", "int8"):
        stack.enter_context(BlockedAttention())
    return stack


class PackedLinear(nn.Module):
    """A linear layer whose weights lie as the processor's matrix kernel reads them, so that it need not rearrange them each time.

    On two cores with AVX-512: 1.1 to 2 times `nn.Linear` in fp32 and 1.1 to 1.7 times in bf16, most with few rows.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias  # T5, for one, looks at a layer's weights
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self.then, self.kind = "none", ""  # what is done to the output

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(inputs, self.packed, self.bias, self.then, [], self.kind)


def activate_at_once(model: nn.Module) -> None:
    """In place: a packed layer that a GELU follows does that too, to what is still in the processor's registers.

    That is known of the modules that BERT, and who copied it, call intermediate. In fp32 on two cores 1.06 times as fast, to the
    same bits; in bf16 no faster.
    """
    for module in model.modules():
        children = dict(module.named_children())
        dense, then = children.get("dense"), children.get("intermediate_act_fn")
        if len(children) == 2 and isinstance(dense, PackedLinear) and getattr(then, "act", None) is nn.functional.gelu:
            dense.then, dense.kind = "gelu", "none"
            module.intermediate_act_fn = nn.Identity()


class Int8Linear(nn.Module):
    """A linear layer in int8: its weights have a scale for each output, its input one for each row.

    A row's scale is its own, so that a wordpiece's vector does not depend on what else is in the batch; with one scale for the
    whole input, which is faster, MiniLM's vectors have a cosine of 0.991 with fp32's, here 0.998 (ZeroQuant,
    Yao et al. 2022, does the same).
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        """dtype: of the output, and of the sums with the bias."""
        super().__init__()
        weight = linear.weight.detach().float()
        self.dtype = dtype
        self.scales = (weight.abs().amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
        rows = (weight / self.scales[:, None]).round().to(torch.int8)
        self.packed = torch.ops.onednn.qlinear_prepack(rows, None)
        self.zeros = torch.zeros(len(weight), dtype=torch.int64)
        self.bias = None if linear.bias is None else linear.bias.detach().to(dtype)

    def forward(self, inputs: Tensor) -> Tensor:
        rows, scale = _in_int8(inputs.flatten(0, -2), self.dtype)
        # Of one scale and a zero point for the input, scales for the weights, no bias yet, and nothing done to the output.
        product = torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, 128, self.packed, self.scales, self.zeros, None, 1.0, 0, self.dtype, "none", [], ""
        )
        outputs = product.mul_(scale) if self.bias is None else torch.addcmul(self.bias, product, scale, out=product)
        return outputs.view(*inputs.shape[:-1], -1)


def _in_int8(rows: Tensor, dtype: torch.dtype) -> Tuple[Tensor, Tensor]:
    """rows: (rows, width). RETURNS: them as unsigned bytes with 0 at 128, which is what VNNI multiplies with signed weights, and
    their scales, (rows, 1), rounded to the type.
    """
    # Rounded before it is divided by, so that dividing by it and multiplying with it cancel.
    scales = (rows.abs().amax(1, keepdim=True).float() / 127).clamp_min(1e-12).to(dtype)
    # Where so much is added, a float's last bits are the rounded number's, and the low byte is taken: conversion is slower.
    unsigned = torch.empty(rows.shape, dtype=torch.uint8)
    unsigned[:] = rows.to(torch.float32, copy=True).mul_(1 / scales.float()).add_(1.5 * 2**23 + 128).view(torch.int32)
    return unsigned, scales


def half(model: nn.Module, dtype: torch.dtype, leave: Container[str] = ()) -> nn.Module:
    """A copy of the model with its parameters in the type.

    Buffers stay shared (rotary frequencies, for one, need fp32), as do parameters that have the type, and those of the modules
    named in `leave`.
    """
    memo: Dict[int, object] = {id(tensor): tensor for tensor in (*model.buffers(), *model.parameters())}
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[0] not in leave:
            memo[id(parameter)] = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
    return copy.deepcopy(model, memo)


def served(model: nn.Module, precision: str) -> nn.Module:
    """The model that predicts in the precision, which shares what it can with `model`.

    int8 keeps what is no linear layer in bf16 where the processor multiplies that. RETURNS: `model` itself where that is as good.
    """
    model = merged(model)
    device = next(model.parameters()).device
    packs = device.type == "cpu" and _is_x86() and torch.backends.mkldnn.is_available()
    if precision == "fp32" and not packs:
        return model
    linears = {name: layer for name, layer in model.named_modules() if type(layer) is nn.Linear}
    if precision == "int8":
        dtype = torch.float32 if lacks("bf16", device) else torch.bfloat16
        copied = half(model, dtype, leave=linears)
        layers: Dict[str, nn.Module] = {name: Int8Linear(layer, dtype) for name, layer in linears.items()}
    else:
        copied = half(model, HALF.get(precision, torch.float32))
        layers = {name: PackedLinear(cast(nn.Linear, copied.get_submodule(name))) for name in linears} if packs else {}
    for name, layer in layers.items():
        copied.set_submodule(name, layer)
    if precision == "fp32":
        activate_at_once(copied)
    return copied.eval()


class Serving:
    """The model that predictions run through; made when it is first asked for, and again once the weights have changed.

    torch counts changes in place, but not those of its fused optimizers: after their step, call `forget`.
    """

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self._made: Optional[Tuple[Tuple[int, ...], nn.Module]] = None

    def model(self, trained: nn.Module) -> nn.Module:
        """trained: the fp32 model. Threads may call it: at worst it is made twice."""
        # A tensor made in inference mode has no count, and cannot be trained.
        versions = tuple(0 if one.is_inference() else one._version for one in trained.parameters())
        made = self._made
        if made is None or made[0] != versions:
            made = self._made = versions, served(trained, self.precision)
        return made[1]

    def forget(self) -> None:
        self._made = None

    def __deepcopy__(self, memo: Dict) -> "Serving":
        return Serving(self.precision)

    def __reduce__(self) -> Tuple:
        return Serving, (self.precision,)
