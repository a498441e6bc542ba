"""A thinc Model around a torch module, which keeps its device, mode and precision to itself.

thinc's own `PyTorchWrapper` toggles `train()`/`eval()` on every call, which breaks threads that share the module, and saves
with pickle. Here nothing is toggled, and weights are safetensors.
"""

from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple

import numpy as np
import safetensors.torch
import torch
from thinc.api import Model, Optimizer, Shim
from torch import nn

from mtl.errors import UserError

# name -> parameter, how many layers it stands below the encoder's top (0: the top layer and what is above it; -1: a head)
Parameters = Dict[str, Tuple[nn.Parameter, int]]


class ModuleShim(Shim):
    """Holds the torch module. The components run it and step it themselves."""

    def __call__(self, inputs: Any, is_train: bool) -> Tuple[Any, Callable]:
        raise NotImplementedError("the component calls its module directly")

    def finish_update(self, optimizer: Optimizer) -> None:
        """Nothing: `apply_optimizer` steps all modules that share an encoder at once, as global clipping needs."""

    @contextmanager
    def use_params(self, params: Any) -> Iterator[None]:
        """The module with other weights, where `params` has some by a parameter's id: an optimizer's averages."""
        given = [(own, params[id(own)]) for own in self._model.parameters() if params and id(own) in params]
        kept = [own.detach().clone() for own, _ in given]
        self._put(given)
        try:
            yield
        finally:
            self._put([(own, before) for (own, _), before in zip(given, kept)])

    def _put(self, pairs: List[Tuple[nn.Parameter, torch.Tensor]]) -> None:
        for own, value in pairs:
            own.data.copy_(value)
        if pairs and hasattr(self._model, "serving"):
            self._model.serving.forget()  # what is made of the weights in another precision

    def copy(self) -> "ModuleShim":
        import copy

        return ModuleShim(copy.deepcopy(self._model))

    def to_device(self, device_type: str, device_id: int) -> None:
        """Nothing: the module owns its device."""

    def to_bytes(self) -> bytes:
        return safetensors.torch.save(state(self._model))

    def from_bytes(self, bytes_data: bytes) -> "ModuleShim":
        self._model.load_state_dict(safetensors.torch.load(bytes_data))
        return self


def state(module: nn.Module) -> Dict[str, torch.Tensor]:
    """The module's weights as safetensors takes them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def torch_model(name: str, build: Callable[..., nn.Module], layers: Optional[List[Model]] = None) -> Model:
    """A thinc Model whose torch module is made by `build` once its sizes are known (`set_module`)."""
    return Model(name, _no_forward, attrs={"build": build}, layers=layers or [], dims={"nO": None})


def _no_forward(model: Model, inputs: Any, is_train: bool) -> Tuple[Any, Callable]:
    raise NotImplementedError(f"{model.name} is run by its component")


def set_module(model: Model, module: nn.Module) -> None:
    """Put the module into the model, in place of the one before."""
    model.shims[:] = [ModuleShim(module)]


def get_module(model: Model, component: str) -> nn.Module:
    """The model's module. RAISES (UserError): the component is neither initialized nor loaded."""
    if not model.shims:
        raise UserError(f"the component {component!r} has no weights yet: call nlp.initialize(), or load a trained pipeline")
    return model.shims[0]._model


def apply_optimizer(optimizer: Any, parameters: Parameters) -> None:
    """Step all parameters that have a gradient, and clear it.

    A `TorchOptimizer` takes them all at once; a stock thinc Optimizer takes them one by one, as arrays on the CPU.
    """
    live = {name: entry for name, entry in parameters.items() if entry[0].grad is not None}
    if not live:
        return
    if hasattr(optimizer, "step_parameters"):
        optimizer.step_parameters(parameters)
    else:
        for name, (parameter, _) in live.items():
            weights = parameter.detach().cpu().numpy()
            assert parameter.grad is not None
            gradient = parameter.grad.detach().cpu().numpy()
            flat, _ = optimizer((id(parameter), name), weights.reshape(-1), gradient.reshape(-1))
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(np.asarray(flat).reshape(weights.shape)))
    clear_gradients(entry[0] for entry in live.values())


def clear_gradients(parameters: Iterable[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None
