"""Attention for bfloat16 on a CPU, faster there than torch's own. Pure torch."""

import math
from typing import Any, Dict, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

MOST_SCORES = 1 << 19  # at once, so that they stay in the cache: 1 MB


class BlockedAttention(TorchFunctionMode):
    """While it is active, in this thread, `scaled_dot_product_attention` of bfloat16 tensors on a CPU is `blocked_attention`.

    torch's fused kernel makes little use there of a processor's bfloat16 units: on two cores with AVX512-BF16 and MiniLM's heads
    of width 32, matrix products over blocks took 0.55 to 0.95 of its time, at 32 to 512 wordpieces. In fp32 its kernel is faster.
    """

    def __torch_function__(self, func: Any, types: Sequence, args: Tuple = (), kwargs: Optional[Dict[str, Any]] = None) -> Any:
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention and _takes(*args, **kwargs):
            return blocked_attention(*args, **kwargs)
        return func(*args, **kwargs)


def _takes(query: Tensor, key: Tensor, value: Tensor, attn_mask: Optional[Tensor] = None, *args: Any, **kwargs: Any) -> bool:
    own = (query.dtype, query.device.type, query.ndim) == (torch.bfloat16, "cpu", 4) and query.shape[:2] == key.shape[:2]
    plain = not args and not set(kwargs) - {"dropout_p", "is_causal", "scale"}
    switched_off = not kwargs.get("is_causal") and not kwargs.get("dropout_p")
    return own and plain and switched_off and (attn_mask is None or (attn_mask.ndim == 4 and attn_mask.dtype == query.dtype))


def blocked_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Optional[Tensor] = None, scale: Optional[float] = None, **_: Any
) -> Tensor:
    """softmax(query key^T * scale + mask) value, some heads at a time.

    query: (batch, heads, length, width); key, value: (batch, heads, source length, width or another). attn_mask: broadcasts to
    (batch, heads, length, source length), and is added. RETURNS: (batch, heads, length, width of value).
    """
    batch, heads, length, width = query.shape
    source = key.shape[2]
    query = query * (1 / math.sqrt(width) if scale is None else scale)
    out = query.new_empty(batch, heads, length, value.shape[3])
    items = max(1, MOST_SCORES // (heads * length * source))
    attn_mask = None if attn_mask is None else attn_mask.expand(batch, heads, -1, -1)
    some = heads if items > 1 else max(1, MOST_SCORES // (length * source))
    for i in range(0, batch, items):
        for j in range(0, heads, some):
            own = slice(i, i + items), slice(j, j + some)
            scores = torch.matmul(query[own], key[own].transpose(2, 3))
            if attn_mask is not None:
                scores += attn_mask[own]
            torch.matmul(scores.softmax(-1), value[own], out=out[own])
    return out
