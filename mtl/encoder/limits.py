"""What the transformers configuration does not say in one way for all families. Pure torch."""

import time
from pathlib import Path
from typing import Dict, List, Optional

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from mtl.errors import UserError


def real_length(model: nn.Module, config: PretrainedConfig) -> int:
    """The most wordpieces, specials included, that `model` can take.

    `tokenizer.model_max_length` is often unset or about something else. RoBERTa and MPNet count positions from their
    padding index + 1, so two of their 514 are never used.
    """
    length = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - offset
    if not length:
        return 512
    return int(length)


ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")  # as the families call it


def set_attention_dropout(config: PretrainedConfig, rate: float) -> None:
    """Set the dropout of attention weights, before the model is made.

    Above 0 it keeps torch's fused attention from being used on a CPU: a training step of MiniLM then takes 1.1 times as long at
    128 wordpieces and 3 times at 384. Dropout of the hidden states stays.
    """
    for name in ATTENTION_DROPOUT:
        if hasattr(config, name):
            setattr(config, name, rate)


DROPOUT = ("hidden_dropout_prob", "hidden_dropout", "dropout", "resid_pdrop", "embd_pdrop", "mlp_dropout", "embedding_dropout")


def set_dropout(config: PretrainedConfig, rate: float) -> None:
    """Set the dropout of hidden states, before the model is made."""
    for name in DROPOUT:
        if hasattr(config, name):
            setattr(config, name, rate)


def reinit_top_layers(model: PreTrainedModel, count: int) -> None:
    """Give the top layers the weights that the architecture begins with, in place. RAISES (UserError): it has not so many."""
    layers = layer_count(model)
    if count > layers:
        raise UserError(f"reinit_layers = {count} is more than the encoder's {layers} layers")
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if own and depth_of(f"{name}.weight", layers) > layers - count and layer_of(f"{name}.weight") is not None:
            model._init_weights(module)


def faster_in_bf16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products are native to `device` and at least a fifth faster there than fp32, as measured now.

    Having the instructions is not enough: some processors run them slower than fp32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu" or not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    times: Dict[torch.dtype, List[float]] = {torch.float32: [], torch.bfloat16: []}
    rows, weights = torch.ones(2048, 384), torch.ones(1536, 384)
    for _ in range(5):
        for dtype, own in times.items():
            started = time.perf_counter()
            nn.functional.linear(rows.to(dtype), weights.to(dtype))
            own.append(time.perf_counter() - started)
    return sorted(times[torch.bfloat16])[2] * 1.2 < sorted(times[torch.float32])[2]


CACHED_FLOATS = 1 << 20  # of a layer's widest activation


def good_batch(model: nn.Module, device: torch.device) -> int:
    """How many padded wordpieces to run at once: on a CPU, as many as keep a layer's widest activation near the cache.

    MiniLM on two cores does 1.12 and 1.15 times the words/s with 512 and 1,024 wordpieces a batch that it does with 4,096, and
    0.68 times with 8,192 (benchmarks/serving/results/batches.json). A GPU wants many.
    """
    if device.type != "cpu":
        return 16384
    widest = max((max(p.shape) for name, p in model.named_parameters() if layer_of(name) is not None), default=1)
    return min(max(CACHED_FLOATS // widest, 128), 8192)


LARGE = 256_000_000  # bytes from which the memory is looked at before they are taken


def check_memory(tokens: int, width: int) -> None:
    """RAISES (UserError): the vectors of so many tokens, with what the heads make of them, do not fit the memory that is free."""
    needed = 2 * 4 * tokens * width
    free = free_memory() if needed > LARGE else None
    if free is not None and needed > free:
        raise UserError(
            f"{tokens:,} tokens at once need about {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free: split the "
            f"document, for example at its chapters, or process it where there is more memory"
        )


def free_memory() -> Optional[int]:
    """Bytes that this process may still take, by the system and by its control group; None where neither says."""
    found = []
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    most, now = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if most.exists() and now.exists() and most.read_text().strip() != "max":
        found.append(int(most.read_text()) - int(now.read_text()))
    return min(found, default=None)


def pick_device(name: str) -> torch.device:
    """`"auto"` is the first GPU where there is one, else the CPU; any other name is torch's own.

    RAISES (UserError): torch does not know it, or has none here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the latter: torch was built without it
        raise UserError(
            f"device = {name!r} cannot be used here ({str(error).splitlines()[0]}); allowed: auto, cpu, cuda, cuda:1, ..."
        ) from error
    return device


def layer_of(parameter: str) -> Optional[int]:
    """The transformer layer a parameter's name belongs to, or None (embeddings, final norm)."""
    parts = parameter.split(".")
    for before, part in zip(parts, parts[1:]):
        if part.isdigit() and before in ("layer", "layers", "h", "block", "blocks"):
            return int(part)
    return None


def layer_count(model: nn.Module) -> int:
    """How many layers a transformer has, by its parameters' names."""
    return 1 + max((n for name, _ in model.named_parameters() if (n := layer_of(name)) is not None), default=-1)


def depth_of(parameter: str, layers: int) -> int:
    """0 for embeddings, 1 + its layer for a layer's parameter, one more for what stands above the layers."""
    layer = layer_of(parameter)
    if layer is not None:
        return layer + 1
    return 0 if any(part in parameter for part in ("embed", "wte", "wpe", "rel_")) else layers + 1
