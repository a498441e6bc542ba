"""Devices: which one to use, how much fits, what is fast. Pure torch."""

import time
from pathlib import Path
from typing import Dict, List, Optional

import torch
from torch import nn

from mtl import compat
from mtl.encoder.pretrained.architecture import layer_count, layer_of
from mtl.errors import UserError

CACHED_FLOATS = 1 << 20  # size of a layer's widest activation that suits a CPU's cache
LARGE = 256_000_000  # bytes from which the free memory is checked first
ACTIVATION_BYTES = 90  # of a subword, by layer and by size of the vector; MiniLM in fp32, measured
MOST_ACTIVATIONS = 4_000_000_000  # bytes that a step keeps for its backward pass


def pick_device(name: str) -> torch.device:
    """The device of that name.

    Args:
        name (str): A torch device name, or "auto" for the first GPU, and the CPU if there is none.

    Raises:
        UserError: torch does not know the device, or there is none here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without it
        raise UserError(
            f"device = {name!r} cannot be used here ({str(error).splitlines()[0]}); allowed: auto, cpu, cuda, cuda:1, ..."
        ) from error
    return device


def faster_in_bf16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are native to the device and at least a fifth faster than fp32, as measured now.

    Having the instructions is not enough: some processors run them slower than fp32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not compat.onednn_has_bf16():
        return False
    times: Dict[torch.dtype, List[float]] = {torch.float32: [], torch.bfloat16: []}
    rows, weights = torch.ones(2048, 384), torch.ones(1536, 384)
    for _ in range(5):
        for dtype, seconds in times.items():
            started = time.perf_counter()
            nn.functional.linear(rows.to(dtype), weights.to(dtype))
            seconds.append(time.perf_counter() - started)
    return sorted(times[torch.bfloat16])[2] * 1.2 < sorted(times[torch.float32])[2]


def good_batch(model: nn.Module, device: torch.device) -> int:
    """How many padded subwords to run at once: on a CPU, as many as keep a layer's widest activation near the cache's size.

    MiniLM on two cores is 1.12 and 1.15 times as fast with 512 and 1,024 subwords in a batch as with 4,096, and 0.68 times as
    fast with 8,192 (benchmarks/serving/results/batches.json). A GPU needs many.
    """
    if device.type != "cpu":
        return 16384
    shapes = (parameter.shape for name, parameter in model.named_parameters() if layer_of(name) is not None)
    return min(max(CACHED_FLOATS // max(map(max, shapes), default=1), 128), 8192)


def check_memory(tokens: int, width: int) -> None:
    """Check that the vectors of so many tokens, with what the heads compute from them, fit in the free memory.

    Args:
        tokens (int): Number of tokens.
        width (int): Size of a vector.

    Raises:
        UserError: They do not fit.
    """
    needed = 2 * 4 * tokens * width
    free = free_memory() if needed > LARGE else None
    if free is not None and needed > free:
        raise UserError(
            f"{tokens:,} tokens at once need about {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free: split the "
            f"document, for example at its chapters, or process it where there is more memory"
        )


def subwords_to_keep(model: nn.Module, width: int, device: torch.device) -> int:
    """Of how many subwords a training step may keep what its backward pass needs; it computes that of the others once more.

    Args:
        model (nn.Module): The encoder.
        width (int): Size of a vector.
        device (torch.device): Where it is.
    """
    layers = getattr(getattr(model, "config", None), "num_hidden_layers", None) or layer_count(model)
    if device.type == "cuda":  # what torch holds in reserve is free as well
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        share = (torch.cuda.mem_get_info(device)[0] + unused) // 2
    else:
        free = free_memory()
        share = MOST_ACTIVATIONS if free is None else min(MOST_ACTIVATIONS, free // 4)
    return share // (ACTIVATION_BYTES * layers * width)


def free_memory() -> Optional[int]:
    """Bytes that this process may still allocate, by the system and its control group; None if neither tells."""
    limits = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        limits.append(int(lines["MemAvailable"].split()[0]) * 1024)
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.exists() and used.exists() and limit.read_text().strip() != "max":
        limits.append(int(limit.read_text()) - int(used.read_text()))
    return min(limits, default=None)
