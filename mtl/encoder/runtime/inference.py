"""The copy of an encoder that predictions run through, in a precision and backend of its own. No spaCy.

What is trained and saved stays fp32; the copy is made from it in memory.
"""

import copy
import warnings
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, cast

import torch
from torch import Tensor, nn

from mtl import compat
from mtl.encoder.pretrained.lora import merged
from mtl.encoder.runtime.openvino_model import OpenVINOModel
from mtl.encoder.runtime.precision import HALF, is_x86, why_unsupported
from mtl.encoder.runtime.processes import Lock
from mtl.errors import UserError

_lock = Lock()  # the copy is made once, however many threads ask; tracing is not thread-safe


class PackedLinear(nn.Module):
    """A linear layer with its weights in the layout of the processor's matrix kernel, so that no call repacks them.

    On two cores with AVX-512, 1.1 to 2 times as fast as `nn.Linear` in fp32 and 1.1 to 1.7 times in bf16; most with few rows.

    Args:
        linear (nn.Linear): The layer to replace.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias  # some architectures, such as T5, look at a layer's weights
        self.packed = compat.pack_linear_weight(linear.weight.detach())
        self.activation, self.algorithm = "none", ""

    def forward(self, inputs: Tensor) -> Tensor:
        return compat.packed_linear(inputs, self.packed, self.bias, self.activation, self.algorithm)


def fuse_gelu(model: nn.Module) -> None:
    """Let a packed layer apply the GELU that follows it, while its output is still in registers. In place.

    This covers the modules that BERT, and architectures derived from it, call intermediate. In fp32 on two cores 1.06 times as
    fast, with identical bits; no faster in bf16.
    """
    for module in model.modules():
        children = dict(module.named_children())
        dense, activation = children.get("dense"), children.get("intermediate_act_fn")
        if len(children) == 2 and isinstance(dense, PackedLinear) and getattr(activation, "act", None) is nn.functional.gelu:
            dense.activation, dense.algorithm = "gelu", "none"
            module.intermediate_act_fn = nn.Identity()


def in_dtype(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of the model with its parameters in a dtype, without gradients.

    Buffers stay shared (rotary frequencies need fp32), as do parameters that have the dtype already.
    """
    memo: Dict[int, object] = {id(tensor): tensor for tensor in (*model.buffers(), *model.parameters())}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
    return copy.deepcopy(model, memo)


def torch_inference_model(model: nn.Module, precision: str) -> nn.Module:
    """The torch model that predicts in a precision. It shares what it can with `model`, and is `model` if nothing is gained."""
    model = merged(model)
    device = next(model.parameters()).device
    can_pack = device.type == "cpu" and is_x86() and torch.backends.mkldnn.is_available()
    if precision == "fp32" and not can_pack:
        return model
    copied = in_dtype(model, HALF.get(precision, torch.float32))
    names = [name for name, layer in model.named_modules() if type(layer) is nn.Linear] if can_pack else []
    for name in names:
        copied.set_submodule(name, PackedLinear(cast(nn.Linear, copied.get_submodule(name))))
    if precision == "fp32":
        fuse_gelu(copied)
    return copied.eval()


class _Snapshot:
    """A model's modules and parameters as they were, and how often each parameter had been changed in place.

    Comparing takes a third of the time of walking the model again, which is 2% of MiniLM's time on a short text.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        owners: List[Dict[str, Any]] = [members for module in model.modules() for members in compat.module_members(module)]
        self._sizes = [(owner, len(owner)) for owner in owners]
        self._members = [(owner, name, member) for owner in owners for name, member in owner.items()]
        self._tensors = list(model.parameters())
        self._versions = self._count()

    def _count(self) -> List[int]:
        return [compat.tensor_version(tensor) for tensor in self._tensors]

    def matches(self, model: nn.Module) -> bool:
        """Whether this is the same model, unchanged."""
        if model is not self.model:
            return False
        for owner, name, member in self._members:
            if owner.get(name) is not member:
                return False
        for owner, size in self._sizes:
            if len(owner) != size:
                return False
        return self._count() == self._versions


class InferenceModel:
    """The model that predictions run through. It is made when first asked for, and again once the weights have changed.

    torch counts changes in place, but not those of its fused optimizers: after their step, call `invalidate`.

    Args:
        precision (str): One of `PRECISIONS`.
        backend (str): One of `BACKENDS`.
        inputs (Sequence[str]): Names of the model's arguments.
        fallback (bool): If OpenVINO cannot run the model, use torch and warn; otherwise fail.
    """

    def __init__(self, precision: str, backend: str = "torch", inputs: Sequence[str] = (), fallback: bool = True) -> None:
        self.precision, self.backend, self.inputs, self.fallback = precision, backend, tuple(inputs), fallback
        self._made: Optional[Tuple[_Snapshot, Any]] = None

    def model(self, trained: nn.Module, callers: int = 1) -> Callable:
        """What to call in place of the trained model.

        Args:
            trained (nn.Module): The fp32 model.
            callers (int): How many threads will call it side by side.

        Raises:
            UserError: OpenVINO cannot convert the model, and `fallback` is off.
        """
        made = self._made
        if made is None or not made[0].matches(trained):
            with _lock:
                made = self._made
                if made is None or not made[0].matches(trained):
                    made = self._made = _Snapshot(trained), self._make(trained, callers)
        return made[1].for_callers(callers) if isinstance(made[1], OpenVINOModel) else made[1]

    def _make(self, trained: nn.Module, callers: int) -> Any:
        if self.backend == "openvino":
            other_precision = "fp32" if why_unsupported("bf16", "torch", torch.device("cpu")) else "bf16"
            try:
                made = OpenVINOModel(
                    in_dtype(merged(trained), torch.float32).eval(), self.inputs, self.precision, other_precision
                )
                made.for_callers(callers)
                return made
            except Exception as error:  # of any type: whatever in the architecture's code cannot be traced
                self._use_torch(error)
        return torch_inference_model(trained, self.precision)

    def _use_torch(self, error: Exception) -> None:
        """Switch to torch with a warning, or raise."""
        first_line = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        reason = f"OpenVINO cannot run this encoder ({first_line[:200]})"
        replacement = "fp32" if self.precision == "int8" else self.precision
        if not self.fallback:
            raise UserError(f'{reason}. Set backend = "torch" and precision = "{replacement}"') from error
        warnings.warn(f"{reason}; using torch instead, in {replacement}", UserWarning, stacklevel=4)
        self.precision, self.backend = replacement, "torch"

    def invalidate(self) -> None:
        """The weights have changed."""
        self._made = None

    def __deepcopy__(self, memo: Dict) -> "InferenceModel":
        return InferenceModel(self.precision, self.backend, self.inputs, self.fallback)

    def __reduce__(self) -> Tuple:
        return InferenceModel, (self.precision, self.backend, self.inputs, self.fallback)
