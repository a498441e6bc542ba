"""An encoder's weights in the precision that predictions run in, and what runs them: torch or OpenVINO. No spaCy.

What is trained and saved stays fp32; the copy that serves is made of it in memory.
"""

import copy
import warnings
from contextlib import AbstractContextManager
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, cast

import torch
from torch import Tensor, nn

from mtl.encoder.forks import Lock
from mtl.encoder.lora import merged
from mtl.encoder.openvino_model import OpenVINOModel, installed
from mtl.errors import UserError

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("fp32", *HALF, "int8")
BACKENDS = ("torch", "openvino")
INSTALL = 'pip install "spacy-mtl[openvino]"'


def lacks(precision: str, backend: str, device: torch.device) -> str:
    """Why the device cannot run the precision at a profit, or the backend at all; "" where it can."""
    if backend == "openvino" and device.type != "cpu":
        return f"OpenVINO is for CPUs, and the device is {device}"
    if backend == "openvino" and precision != "fp16" and not installed():
        return f"OpenVINO is not installed ({INSTALL})"
    if backend == "openvino" and precision == "bf16" and not _is_x86():
        return "OpenVINO multiplies bfloat16 on an x86 only"
    if precision == "bf16":
        return "" if _multiplies_bf16(device) else f"{device} does not multiply bfloat16 natively"
    if precision == "fp16":
        return "" if device.type in ("cuda", "mps") else f"fp16 is for GPUs, and the device is {device}"
    if precision == "int8":
        if device.type != "cpu":
            return f"int8 is for CPUs, and the device is {device}"
        if backend != "openvino":
            return 'int8 runs in OpenVINO, and backend = "torch"'
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


def usable(precision: str, backend: str, device: torch.device, fallback: bool) -> Tuple[str, str]:
    """The precision and the backend themselves where the device has them, else torch, in fp32 if need be, with a warning.

    backend: "auto" is OpenVINO for int8, and for bf16 where that runs in it, and torch else.
    RAISES (UserError): it has not, without `fallback`.
    """
    named = f'precision = "{precision}"' + ("" if backend == "auto" else f', backend = "{backend}"')
    if backend == "auto":
        low = precision == "bf16" and not lacks(precision, "openvino", device)
        backend = "openvino" if low or precision == "int8" else "torch"
    reason = lacks(precision, backend, device)
    if not reason:
        return precision, backend
    instead = "fp32" if lacks(precision, "torch", device) else precision
    if not fallback:
        raise UserError(
            f'{named}: {reason}. Set precision = "{instead}" and backend = "torch", or fallback = true to have that done'
        )
    warnings.warn(f"{named}: {reason}; {instead} in torch is used instead", UserWarning, stacklevel=2)
    return instead, "torch"


def training_in(precision: str, device: torch.device) -> AbstractContextManager:
    """What a forward pass in training runs under: bf16 by autocast where that is asked for, else fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


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


def in_type(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of the model with its parameters in the type, without gradients.

    Buffers stay shared (rotary frequencies, for one, need fp32), as do parameters that have the type.
    """
    memo: Dict[int, object] = {id(tensor): tensor for tensor in (*model.buffers(), *model.parameters())}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
    return copy.deepcopy(model, memo)


def served(model: nn.Module, precision: str) -> nn.Module:
    """The torch model that predicts in the precision, which shares what it can with `model`.

    RETURNS: `model` itself where that is as good.
    """
    model = merged(model)
    device = next(model.parameters()).device
    packs = device.type == "cpu" and _is_x86() and torch.backends.mkldnn.is_available()
    if precision == "fp32" and not packs:
        return model
    copied = in_type(model, HALF.get(precision, torch.float32))
    linears = [name for name, layer in model.named_modules() if type(layer) is nn.Linear] if packs else []
    for name in linears:
        copied.set_submodule(name, PackedLinear(cast(nn.Linear, copied.get_submodule(name))))
    if precision == "fp32":
        activate_at_once(copied)
    return copied.eval()


_lock = Lock()  # what serves is made once, however many threads ask; tracing is not made for threads


class _Weights:
    """A model's modules and parameters as they stood, and how often each parameter had been changed in place.

    To look whether they still do takes a third of the time of walking through the model anew: 2% of MiniLM's on a short text.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        owners: List[Dict[str, Any]] = [own for module in model.modules() for own in (module._modules, module._parameters)]
        self._sizes = [(owner, len(owner)) for owner in owners]
        self._held = [(owner, name, one) for owner in owners for name, one in owner.items()]
        self._tensors = list(model.parameters())
        self._versions = self._count()

    def _count(self) -> List[int]:
        # A tensor made in inference mode has no count, and cannot be trained.
        return [0 if one.is_inference() else one._version for one in self._tensors]

    def still(self, model: nn.Module) -> bool:
        """Whether they are this model's, and unchanged."""
        if model is not self.model:
            return False
        for owner, name, one in self._held:
            if owner.get(name) is not one:
                return False
        for owner, size in self._sizes:
            if len(owner) != size:
                return False
        return self._count() == self._versions


class Serving:
    """The model that predictions run through; made when it is first asked for, and again once the weights have changed.

    torch counts changes in place, but not those of its fused optimizers: after their step, call `forget`.
    """

    def __init__(self, precision: str, backend: str = "torch", inputs: Sequence[str] = (), fallback: bool = True) -> None:
        """inputs: what the model is called with, by name. fallback: to torch, with a warning, where OpenVINO cannot run it."""
        self.precision, self.backend, self.inputs, self.fallback = precision, backend, tuple(inputs), fallback
        self._made: Optional[Tuple[_Weights, Any]] = None

    def model(self, trained: nn.Module, count: int = 1) -> Callable:
        """trained: the fp32 model. count: of threads that are going to call what is returned, side by side.

        RAISES (UserError): OpenVINO cannot convert the model, and there is to be no fallback.
        """
        made = self._made
        if made is None or not made[0].still(trained):
            with _lock:
                made = self._made
                if made is None or not made[0].still(trained):
                    made = self._made = _Weights(trained), self._make(trained, count)
        return made[1].for_callers(count) if isinstance(made[1], OpenVINOModel) else made[1]

    def _make(self, trained: nn.Module, count: int) -> Any:
        if self.backend == "openvino":
            rest = "fp32" if lacks("bf16", "torch", torch.device("cpu")) else "bf16"
            try:
                made = OpenVINOModel(in_type(merged(trained), torch.float32).eval(), self.inputs, self.precision, rest)
                made.for_callers(count)
                return made
            except Exception as error:  # by whatever of the model's own code cannot be traced
                first = f"{type(error).__name__}: {error}".strip().splitlines()[0]
                why = f"OpenVINO cannot run this encoder ({first[:200]})"
                instead = "fp32" if self.precision == "int8" else self.precision
                if not self.fallback:
                    raise UserError(f'{why}. Set backend = "torch" and precision = "{instead}"') from error
                warnings.warn(f"{why}; torch is used instead, in {instead}", UserWarning, stacklevel=2)
                self.precision, self.backend = instead, "torch"
        return served(trained, self.precision)

    def forget(self) -> None:
        self._made = None

    def __deepcopy__(self, memo: Dict) -> "Serving":
        return Serving(self.precision, self.backend, self.inputs, self.fallback)

    def __reduce__(self) -> Tuple:
        return Serving, (self.precision, self.backend, self.inputs, self.fallback)
