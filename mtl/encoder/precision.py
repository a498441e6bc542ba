"""An encoder's weights in the precision that predictions run in. Pure torch.

What is trained and saved stays fp32; the copy that serves is made of it in memory, and shares with it all but the linear layers.
"""

import copy
import warnings
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Callable, Dict, Optional, Tuple

import torch
from torch import Tensor, nn

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
        return "" if _multiplies_int8() else "the processor does not multiply int8 natively (VNNI)"
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
    return torch.cpu._is_vnni_supported() if _is_x86() else "qnnpack" in torch.backends.quantized.supported_engines


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


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """What a forward pass in the precision runs under."""
    return torch.autocast(device.type, HALF[precision]) if precision in HALF else nullcontext()


class Int8Linear(nn.Module):
    """A linear layer whose weights are int8, a scale for each output, and whose input is made int8 with one scale for all.

    That scale is of the whole batch, so what else is in the batch moves a document's scores a little, as it does not in fp32.
    The input takes all 8 bits: torch's own `quantize_dynamic` leaves one out for processors without VNNI, and MiniLM's vectors
    then have a cosine of 0.967 with fp32's, here 0.991.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scale = (weight.abs().amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny).double()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # quantized tensors are to go in a release after those that we allow
            rows = torch.quantize_per_channel(weight, scale, torch.zeros(len(scale), dtype=torch.long), 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(rows, None if linear.bias is None else linear.bias.detach().float())

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic(inputs, self.packed, False)


def _half_linear(dtype: torch.dtype) -> Callable[[nn.Linear], nn.Module]:
    def make(linear: nn.Linear) -> nn.Module:
        return copy.deepcopy(linear).to(dtype).requires_grad_(False)

    return make


def with_linears(model: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> nn.Module:
    """A copy of the model with its linear layers made anew, that shares every other tensor with it."""
    shared: Dict[int, object] = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    copied = copy.deepcopy(model, shared)
    for name, layer in list(copied.named_modules()):
        if isinstance(layer, nn.Linear):
            copied.set_submodule(name, make(layer))
    return copied


class Serving:
    """The model that predictions run through; made when it is first asked for, and again once the weights have changed.

    torch counts changes in place, but not those of its fused optimizers: after their step, call `forget`.
    """

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self._made: Optional[Tuple[Tuple[int, ...], nn.Module]] = None

    def model(self, trained: nn.Module) -> nn.Module:
        """trained: the fp32 model. RETURNS: itself where fp32 serves. Threads may call it: at worst it is made twice."""
        if self.precision == "fp32":
            return trained
        # A tensor made in inference mode has no count, and cannot be trained.
        versions = tuple(0 if one.is_inference() else one._version for one in trained.parameters())
        made = self._made
        if made is None or made[0] != versions:
            make = Int8Linear if self.precision == "int8" else _half_linear(HALF[self.precision])
            made = self._made = versions, with_linears(trained, make).eval()
        return made[1]

    def forget(self) -> None:
        self._made = None

    def __deepcopy__(self, memo: Dict) -> "Serving":
        return Serving(self.precision)

    def __reduce__(self) -> Tuple:
        return Serving, (self.precision,)
