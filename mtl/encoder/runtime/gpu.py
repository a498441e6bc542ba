"""What an encoder does differently on a GPU: asynchronous uploads, and attention without plans. Pure torch."""

from contextlib import contextmanager
from typing import Iterator

import numpy as np
import torch
from torch import Tensor

from mtl.encoder.runtime.processes import Lock

_lock = Lock()
_threads_inside = 0  # `plan_free_attention`
_was_enabled = True  # cuDNN's attention, before the first of those threads came


def upload(array: np.ndarray, device: torch.device) -> Tensor:
    """The array on the device. For a GPU it is copied from pinned memory, without waiting."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@contextmanager
def plan_free_attention(device: torch.device) -> Iterator[None]:
    """Inside the block, attention on a GPU uses torch's own kernels, not cuDNN's.

    From compute capability 9 on, torch prefers cuDNN's in half precision, which makes a plan for every new shape of a batch
    (https://github.com/pytorch/pytorch/pull/155958). On an H200, MiniLM's forward pass alone over new documents ran at 82,000
    words/s in bf16 and at 212,000 in fp32. The switch is the process's, so the last thread that leaves turns it back. It is not
    touched if only cuDNN is allowed (`torch.nn.attention.sdpa_kernel`).
    """
    global _threads_inside, _was_enabled
    if device.type != "cuda" or not _other_kernel_allowed():
        yield
        return
    with _lock:
        if _threads_inside == 0:
            _was_enabled = torch.backends.cuda.cudnn_sdp_enabled()
            torch.backends.cuda.enable_cudnn_sdp(False)
        _threads_inside += 1
    try:
        yield
    finally:
        with _lock:
            _threads_inside -= 1
            if _threads_inside == 0:
                torch.backends.cuda.enable_cudnn_sdp(_was_enabled)


def _other_kernel_allowed() -> bool:
    """Whether torch may use a kernel other than cuDNN's."""
    backends = torch.backends.cuda
    return backends.flash_sdp_enabled() or backends.mem_efficient_sdp_enabled() or backends.math_sdp_enabled()
