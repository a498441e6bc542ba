"""What an encoder does otherwise on a GPU: uploads that are not waited for, and attention without plans. Pure torch."""

from contextlib import contextmanager
from typing import Iterator

import numpy as np
import torch
from torch import Tensor

from mtl.encoder.forks import Lock

_lock = Lock()
_inside, _enabled = 0, True  # how many threads are in `planless_attention`; whether cuDNN's was allowed before the first came


def upload(array: np.ndarray, device: torch.device) -> Tensor:
    """The array on the device. A GPU takes it from pinned memory, without being waited for."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@contextmanager
def planless_attention(device: torch.device) -> Iterator[None]:
    """On a GPU: attention by torch's own kernels, not by cuDNN's.

    From compute capability 9 on torch prefers cuDNN's in half precision, which makes a plan for every shape of a batch that it
    meets (https://github.com/pytorch/pytorch/pull/155958): on an H200 MiniLM's bare pass over documents that nobody had met did
    82,000 words/s in bf16, and 212,000 in fp32. The switch is the process's, so the last thread that leaves turns it back; it
    stays as it is where nothing but cuDNN is allowed (`torch.nn.attention.sdpa_kernel`).
    """
    global _inside, _enabled
    if device.type != "cuda" or not _others():
        yield
        return
    with _lock:
        if _inside == 0:
            _enabled = torch.backends.cuda.cudnn_sdp_enabled()
            torch.backends.cuda.enable_cudnn_sdp(False)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                torch.backends.cuda.enable_cudnn_sdp(_enabled)


def _others() -> bool:
    """Whether torch may take another kernel than cuDNN's."""
    backends = torch.backends.cuda
    return backends.flash_sdp_enabled() or backends.mem_efficient_sdp_enabled() or backends.math_sdp_enabled()
