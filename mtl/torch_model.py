"""A thinc model around a torch module, which keeps its device, mode and precision to itself.

thinc's own `PyTorchWrapper` toggles `train()` and `eval()` on every call, which breaks threads that share the module, and saves
with pickle. Here nothing is toggled, and weights are saved as safetensors.
"""

import copy
import weakref
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, ContextManager, Dict, Iterable, Iterator, List, Optional, Tuple

import numpy as np
import safetensors.torch
import torch
from thinc.api import Model, Optimizer, Shim
from torch import nn

from mtl import compat
from mtl.errors import UserError

# Name -> parameter, and its distance from the top of the encoder in layers (0: the top layer and what is above it; -1: a head).
Parameters = Dict[str, Tuple[nn.Parameter, int]]


DEVICES = ("cpu", "cuda")  # that autocast can be on for


@contextmanager
def building() -> Iterator[None]:
    """Inside the block new tensors are trainable and float32, whatever other code has made torch's defaults."""
    with torch.inference_mode(False):
        before = torch.get_default_dtype()
        if before == torch.float32:
            yield
            return
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


@contextmanager
def _own_state(mode: Any) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(building())
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(mode)
        yield


def _is_untouched() -> bool:
    """Whether torch's state is as it starts out, which is nearly always so."""
    return torch.get_default_dtype() == torch.float32 and not any(map(torch.is_autocast_enabled, DEVICES))


def predicting() -> ContextManager[Any]:
    """Inside the block no gradients are kept, and no state of torch that other code has set has an effect."""
    return torch.inference_mode() if _is_untouched() else _own_state(torch.inference_mode())


def training() -> ContextManager[Any]:
    """Inside the block gradients are kept, and no state of torch that other code has set has an effect."""
    is_plain = _is_untouched() and not torch.is_inference_mode_enabled()
    return torch.enable_grad() if is_plain else _own_state(torch.enable_grad())


class ModuleShim(Shim):
    """Holds the torch module. The components run it and step it themselves."""

    def __call__(self, inputs: Any, is_train: bool) -> Tuple[Any, Callable]:
        raise NotImplementedError("the component calls its module directly")

    def finish_update(self, optimizer: Optimizer) -> None:
        """Nothing: `apply_optimizer` steps all modules that share an encoder at once, as clipping the global norm requires."""

    @contextmanager
    def use_params(self, params: Any) -> Iterator[None]:
        """Inside the block, use other weights where `params` has some, such as an optimizer's averages.

        Args:
            params (Any): id of a parameter -> its replacement.
        """
        module = compat.shim_module(self)
        parameters = [parameter for parameter in module.parameters() if params and id(parameter) in params]
        replacements = [(parameter, params[id(parameter)]) for parameter in parameters]
        originals = [(parameter, parameter.detach().clone()) for parameter in parameters]
        self._set(replacements)
        try:
            yield
        finally:
            self._set(originals)

    def _set(self, values: List[Tuple[nn.Parameter, torch.Tensor]]) -> None:
        for parameter, value in values:
            parameter.data.copy_(value)
        module: Any = compat.shim_module(self)
        if values and hasattr(module, "inference"):
            module.inference.invalidate()

    def copy(self) -> "ModuleShim":
        return ModuleShim(copy.deepcopy(compat.shim_module(self)))

    def to_device(self, device_type: str, device_id: int) -> None:
        """Nothing: the module has its own device."""

    def to_bytes(self) -> bytes:
        return safetensors.torch.save(state_of(compat.shim_module(self)))

    def from_bytes(self, bytes_data: bytes) -> "ModuleShim":
        compat.shim_module(self).load_state_dict(safetensors.torch.load(bytes_data))
        return self


def state_of(module: nn.Module) -> Dict[str, torch.Tensor]:
    """The module's weights in the form that safetensors requires."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}


def torch_model(name: str, build: Callable[..., nn.Module], layers: Optional[List[Model]] = None) -> Model:
    """A thinc Model whose torch module is built once its sizes are known (`set_module`).

    Args:
        name (str): The model's name.
        build (Callable[..., nn.Module]): Builds the module.
        layers (Optional[List[Model]]): Models below it, such as a listener.
    """
    return Model(name, _forward, attrs={"build": build, "component": None}, layers=layers or [], dims={"nO": None})


def run_by(model: Model, component: Any) -> None:
    """Let `model.predict(docs)` give what the component predicts, as spaCy's own models do."""
    model.attrs["component"] = ComponentOf(component)


class ComponentOf:
    """The component of a model, not kept alive, and not copied with the model."""

    def __init__(self, component: Any) -> None:
        self._component = weakref.ref(component)

    def __call__(self) -> Any:
        return self._component()

    def __deepcopy__(self, memo: Any) -> "ComponentOf":
        return self

    def __reduce__(self) -> Tuple[Any, ...]:
        return ComponentOf, (self._component(),)


def _forward(model: Model, docs: Any, is_train: bool) -> Tuple[Any, Callable]:
    component = model.attrs["component"] and model.attrs["component"]()
    if component is None or is_train:
        raise NotImplementedError(f"{model.name} is trained by the update of its component, and runs in it")
    return component.predict(docs), lambda gradient: []


def set_module(model: Model, module: nn.Module) -> None:
    """Put a module into the model, in place of any other."""
    model.shims[:] = [ModuleShim(module)]


def get_module(model: Model, component: str) -> nn.Module:
    """The model's module.

    Raises:
        UserError: The component is neither initialized nor loaded.
    """
    if not model.shims:
        raise UserError(f"the component {component!r} has no weights yet: call nlp.initialize(), or load a trained pipeline")
    return compat.shim_module(model.shims[0])


def apply_optimizer(optimizer: Any, parameters: Parameters, learn_rate: Optional[float] = None) -> None:
    """Step all parameters that have a gradient, and clear the gradients.

    A `TorchOptimizer` takes them all at once, a stock thinc Optimizer one at a time as arrays on the CPU.

    Args:
        optimizer (Any): The optimizer.
        parameters (Parameters): What to step.
        learn_rate (Optional[float]): The rate to use in place of the optimizer's current one.
    """
    with_gradient = {name: entry for name, entry in parameters.items() if entry[0].grad is not None}
    if not with_gradient:
        return
    if hasattr(optimizer, "step_parameters"):
        optimizer.step_parameters(parameters, learn_rate)
    else:
        scale = learn_rate / optimizer.learn_rate if learn_rate and optimizer.learn_rate else 1.0
        for name, (parameter, _) in with_gradient.items():
            weights = parameter.detach().cpu().numpy()
            assert parameter.grad is not None
            gradient = parameter.grad.detach().cpu().numpy()
            stepped, _ = optimizer((id(parameter), name), weights.reshape(-1), gradient.reshape(-1), lr_scale=scale)
            with torch.no_grad():
                parameter.copy_(torch.from_numpy(np.asarray(stepped).reshape(weights.shape)))
    clear_gradients(parameter for parameter, _ in with_gradient.values())


def clear_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Drop the gradients."""
    for parameter in parameters:
        parameter.grad = None
