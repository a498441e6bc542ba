"""What an encoder does otherwise on a GPU: uploads and a stream that are not waited for, attention without plans. Pure torch."""

from contextlib import contextmanager
from functools import cache
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


@cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


@contextmanager
def own_stream(device: torch.device) -> Iterator[torch.cuda.Stream]:
    """What is run inside goes to the encoder's stream, after all that this thread has given to the GPU."""
    stream = _stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        yield stream


@contextmanager
def planless_attention(device: torch.device) -> Iterator[None]:
    """On a GPU: attention by torch's own kernels, not by cuDNN's.

    From compute capability 9 on torch prefers cuDNN's in half precision, which makes a plan for every shape of a batch that it
    meets: on an H200 documents that nobody had met were three times as slow in bf16 as in fp32
    (https://github.com/pytorch/pytorch/pull/155958). The switch is the process's, so the last thread that leaves turns it back.
    """
    global _inside, _enabled
    if device.type != "cuda":
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
