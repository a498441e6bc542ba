"""Which precision and backend an encoder runs in, given what the device supports. No spaCy."""

import warnings
from contextlib import AbstractContextManager
from typing import Tuple

import torch

from mtl import compat
from mtl.encoder.runtime.openvino_model import is_installed
from mtl.errors import UserError

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
PRECISIONS = ("fp32", *HALF, "int8")
BACKENDS = ("torch", "openvino")
INSTALL = 'pip install "spacy-mtl[openvino]"'


def why_unsupported(precision: str, backend: str, device: torch.device) -> str:
    """Why this precision is unsupported or slower on the device; empty if it is fine.

    Args:
        precision (str): One of `PRECISIONS`.
        backend (str): One of `BACKENDS`.
        device (torch.device): Where the encoder is.
    """
    if backend == "openvino":
        if device.type != "cpu":
            return f"OpenVINO runs on CPUs, and the device is {device}"
        if precision != "fp16" and not is_installed():
            return f"OpenVINO is not installed ({INSTALL})"
        if precision == "bf16" and not is_x86():
            return "OpenVINO supports bfloat16 on x86 only"
    if precision == "bf16":
        return "" if _supports_bf16(device) else f"{device} has no native bfloat16 products"
    if precision == "fp16":
        return "" if device.type in ("cuda", "mps") else f"fp16 is for GPUs, and the device is {device}"
    if precision == "int8":
        if device.type != "cpu":
            return f"int8 is for CPUs, and the device is {device}"
        if backend != "openvino":
            return 'int8 needs OpenVINO, and backend = "torch"'
        return "" if _supports_int8() else "the processor has no native int8 products (an x86 with VNNI has)"
    return ""


def _supports_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return device.type == "mps"
    return compat.cpu_has_bf16_products() if is_x86() else compat.onednn_has_bf16()


def _supports_int8() -> bool:
    return is_x86() and torch.backends.mkldnn.is_available() and compat.cpu_has_vnni()


def is_x86() -> bool:
    """Whether torch was built for an x86 processor."""
    return "x86" in torch.backends.quantized.supported_engines


def usable(precision: str, backend: str, device: torch.device, fallback: bool) -> Tuple[str, str]:
    """The precision and backend to use: those asked for, or else torch, in fp32 if need be, with a warning.

    Args:
        precision (str): One of `PRECISIONS`.
        backend (str): One of `BACKENDS`, or "auto": OpenVINO for int8, and for bf16 where it is installed; otherwise torch.
        device (torch.device): Where the encoder is.
        fallback (bool): Whether to replace what is unsupported.

    Raises:
        UserError: The device does not support it, and `fallback` is off.
    """
    settings = f'precision = "{precision}"' + ("" if backend == "auto" else f', backend = "{backend}"')
    if backend == "auto":
        bf16_in_openvino = precision == "bf16" and not why_unsupported(precision, "openvino", device)
        backend = "openvino" if bf16_in_openvino or precision == "int8" else "torch"
    reason = why_unsupported(precision, backend, device)
    if not reason:
        return precision, backend
    replacement = "fp32" if why_unsupported(precision, "torch", device) else precision
    if not fallback:
        raise UserError(
            f'{settings}: {reason}. Set precision = "{replacement}" and backend = "torch", or fallback = true to do so '
            f"automatically"
        )
    warnings.warn(f"{settings}: {reason}; using {replacement} in torch instead", UserWarning, stacklevel=2)
    return replacement, "torch"


def training_autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """The context of a forward pass in training: bf16 by autocast if asked for, otherwise fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
