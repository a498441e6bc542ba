"""A forward pass that keeps nothing for its backward pass and is run again there. Pure torch.

Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, https://arxiv.org/abs/1604.06174.
`torch.utils.checkpoint` does not do: its reentrant form cannot be asked for the gradients of one task alone, and the other form
leaves so many small objects between large ones that the memory of the C library grows as if everything were kept.
"""

from typing import Any, Callable, Tuple

import torch
from torch import Tensor, nn


def recomputed(run: Callable[[], Tensor], model: nn.Module, device: torch.device) -> Tensor:
    """Run the function, and run it again in the backward pass, with the same dropout and precision.

    Args:
        run (Callable[[], Tensor]): The function. Nothing but the parameters of the model gets a gradient.
        model (nn.Module): The model it runs, in training mode.
        device (torch.device): Where the model is.
    """
    return _Recomputed.apply(run, model, device, *(parameter for parameter in model.parameters() if parameter.requires_grad))


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: Callable[[], Tensor], model: nn.Module, device: torch.device, *parameters: Tensor) -> Tensor:
        ctx.run, ctx.model, ctx.device = run, model, device
        ctx.autocast = {"enabled": torch.is_autocast_enabled(device.type), "dtype": torch.get_autocast_dtype(device.type)}
        ctx.rng_state = torch.get_rng_state()
        ctx.device_rng_state = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        ctx.save_for_backward(*parameters)
        return run()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tuple[Any, ...]:
        was_training, devices = ctx.model.training, [ctx.device] if ctx.device.type == "cuda" else []
        ctx.model.train()
        try:
            with torch.random.fork_rng(devices), torch.enable_grad(), torch.autocast(ctx.device.type, **ctx.autocast):
                torch.set_rng_state(ctx.rng_state)
                if ctx.device_rng_state is not None:
                    torch.cuda.set_rng_state(ctx.device_rng_state, ctx.device)
                output = ctx.run()
        finally:
            ctx.model.train(was_training)
        return None, None, None, *torch.autograd.grad(output, ctx.saved_tensors, gradients, allow_unused=True)
