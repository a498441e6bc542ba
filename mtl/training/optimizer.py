"""torch optimizers for a spaCy config: parameter groups, clipping of the global norm, thinc's schedules."""

import logging
import re
from typing import Any, Callable, Dict, Iterable, List, Optional, Union

import torch
from thinc.api import Optimizer

from mtl.encoder.pretrained.architecture import layer_of
from mtl.errors import UserError, check_range
from mtl.optimization import parameter_groups
from mtl.settings import ByName, by_name
from mtl.torch_model import Parameters

Rate = Union[float, Iterable[float]]
logger = logging.getLogger(__name__)


class TorchOptimizer(Optimizer):
    """The thinc Optimizer that `[training.optimizer]` asks for, with a torch optimizer for our encoder and heads.

    Stock thinc components in the same pipeline are stepped by thinc's Adam at `head_lr_multiplier` times the rate.

    Args:
        make (Callable): Makes the torch optimizer from parameter groups.
        learn_rate (Rate): Learning rate of the encoder's top layer: a number or a schedule.
        weight_decay (float): Decay of matrices. Vectors (biases and norms) are not decayed.
        head_lr_multiplier (float): Factor on the rate for heads, which start from scratch.
        layer_lr_decay (float): Factor on the rate for each layer further down.
        grad_clip (float): Maximum norm of the gradient over all parameters; 0 for none.
        lr_multipliers (ByName[float]): Regular expression -> factor on the rate of the parameters whose name it matches, such
            as "transformer.encoder.layer.0..." or "ner.output.weight". 0 freezes them.
        ema_decay (float): Keep an exponential moving average of all weights, which evaluations and saved pipelines use; 0
            for none.
        l2_sp (float): Pull the encoder's weights back to where they started, in place of their decay (Li, Grandvalet and Davoine
            2018, https://arxiv.org/abs/1802.01483; decoupled as in AdamW).
        unfreeze_every (int): Train one more layer each so many steps, from the top down; heads from the start (Howard and Ruder
            2018, https://arxiv.org/abs/1801.06146). 0: all from the start.

    Raises:
        UserError: A setting is out of range.
    """

    def __init__(
        self, make: Callable[..., torch.optim.Optimizer], learn_rate: Rate, *, weight_decay: float, head_lr_multiplier: float,
        layer_lr_decay: float, grad_clip: float, lr_multipliers: ByName[float], ema_decay: float, l2_sp: float,
        unfreeze_every: int,
    ) -> None:  # fmt: skip
        check_range("optimizer.weight_decay", weight_decay, 0.0)
        check_range("optimizer.head_lr_multiplier", head_lr_multiplier, 0.0)
        check_range("optimizer.layer_lr_decay", layer_lr_decay, 0.01, 1.0)
        check_range("optimizer.grad_clip", grad_clip, 0.0)
        check_range("optimizer.ema_decay", ema_decay, 0.0, 0.99999)
        check_range("optimizer.l2_sp", l2_sp, 0.0)
        check_range("optimizer.unfreeze_every", unfreeze_every, 0)
        lr_multipliers = by_name("training.optimizer.lr_multipliers", lr_multipliers)
        for pattern, factor in lr_multipliers.items():
            check_range(f"optimizer.lr_multipliers.{pattern}", factor, 0.0)
        super().__init__(
            learn_rate,
            L2=weight_decay,
            grad_clip=grad_clip,
            use_averages=ema_decay > 0,
            L2_is_weight_decay=True,  # type: ignore[arg-type]
        )
        self.make, self.weight_decay, self.head_lr_multiplier = make, weight_decay, head_lr_multiplier
        self.layer_lr_decay, self.max_norm, self.lr_multipliers = layer_lr_decay, grad_clip, lr_multipliers
        self.ema_decay, self.l2_sp, self.unfreeze_every, self.steps = ema_decay, l2_sp, unfreeze_every, 0
        self.initial: Dict[str, torch.Tensor] = {}  # weights that are pulled back, as they started
        self.torch: Optional[torch.optim.Optimizer] = None
        self.named: Dict[str, torch.nn.Parameter] = {}  # the parameters that are in a group
        self.skipped = 0

    def __call__(self, key: Any, weights: Any, gradient: Any, *, lr_scale: float = 1.0) -> Any:
        return super().__call__(key, weights, gradient, lr_scale=lr_scale * self.head_lr_multiplier)

    def step_parameters(self, parameters: Parameters, learn_rate: Optional[float] = None) -> None:
        """Clip and step. A gradient that is NaN or infinite is reported and skipped, since it would ruin every weight.

        Args:
            parameters (Parameters): Name -> (parameter, layers below the top; -1 for heads).
            learn_rate (Optional[float]): The rate of this step, by default the current one.

        Raises:
            UserError: A pattern in `lr_multipliers` matches nothing; `layer_lr_decay` is set for an encoder without known layers.
        """
        self._add(parameters)
        assert self.torch is not None
        with_gradient = [parameter for parameter, _ in parameters.values() if parameter.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(with_gradient, self.max_norm or float("inf"))
        if not torch.isfinite(norm):
            self.skipped += 1
            logger.warning(
                "the gradient is NaN or infinite: step skipped (%d so far). Lower the learning rate if it recurs", self.skipped
            )
            return
        rate = self.learn_rate if learn_rate is None else learn_rate
        for group in self.torch.param_groups:
            is_frozen = self.unfreeze_every and group["below"] * self.unfreeze_every > self.steps
            group["lr"] = 0.0 if is_frozen else rate * group["lr_multiplier"]
        self._pull_back()
        self.torch.step()
        self.steps += 1
        self._update_averages()

    @torch.no_grad()
    def _pull_back(self) -> None:
        assert self.torch is not None
        rates = {id(parameter): group["lr"] for group in self.torch.param_groups for parameter in group["params"]}
        for name, start in self.initial.items():
            parameter = self.named[name]
            parameter.lerp_(start, min(rates[id(parameter)] * self.l2_sp, 1.0))

    @torch.no_grad()
    def _update_averages(self) -> None:
        """The average of the first steps is shorter, so that it does not hold on to the initial weights."""
        if not self.ema_decay:
            return
        decay = min(self.ema_decay, self.steps / (self.steps + 10))
        for parameter in self.named.values():
            average = self.averages.get(id(parameter))
            if average is None:
                self.averages[id(parameter)] = parameter.detach().clone()
            else:
                average.lerp_(parameter, 1 - decay)

    def tensors(self) -> Dict[str, torch.Tensor]:
        """The state of every parameter, by "NAME/KIND"."""
        tensors: Dict[str, torch.Tensor] = {}
        names = {id(parameter): name for name, parameter in self.named.items()}
        for parameter, state in (self.torch.state if self.torch is not None else {}).items():
            for kind, value in state.items():
                if isinstance(value, torch.Tensor):
                    tensors[f"{names[id(parameter)]}/{kind}"] = value.detach().clone().contiguous()
        for name, parameter in self.named.items():
            if self.ema_decay and id(parameter) in self.averages:
                tensors[f"{name}/average"] = self.averages[id(parameter)].clone()
        tensors |= {f"{name}/initial": value for name, value in self.initial.items()}
        return tensors | {"/steps": torch.tensor(self.steps)}

    def load_tensors(self, parameters: Parameters, tensors: Dict[str, torch.Tensor]) -> None:
        """Restore the state that `tensors` returned.

        Raises:
            UserError: As `step_parameters`.
        """
        self.torch, self.named, self.initial = None, {}, {}
        self._add(parameters)
        assert self.torch is not None
        self.steps = int(tensors.pop("/steps"))
        for key, value in tensors.items():
            name, _, kind = key.rpartition("/")
            parameter = self.named[name]
            value = value.to(parameter.device)
            if kind == "average":
                self.averages[id(parameter)] = value
            elif kind == "initial":
                self.initial[name] = value
            else:
                self.torch.state[parameter][kind] = value

    def _add(self, parameters: Parameters) -> None:
        """Add parameters that are new, or were replaced, to the torch optimizer."""
        new = {name: entry for name, entry in parameters.items() if self.named.get(name) is not entry[0]}
        if not new:
            return
        names = {id(parameter): name for name, parameter in self.named.items()}
        for name, (parameter, _) in list(new.items()):
            if (old := names.get(id(parameter))) is not None:  # its component was renamed
                self.named[name] = self.named.pop(old)
                if old in self.initial:
                    self.initial[name] = self.initial.pop(old)
                del new[name]
        if not new:
            return
        if not self.named:
            self._check(parameters)
        members = []
        for name, (parameter, below) in new.items():
            is_pulled = self.l2_sp > 0 and below >= 0
            extra = {"below": below if self.unfreeze_every else 0}  # otherwise layers may share a group
            members.append((parameter, self._lr_multiplier(name, below), 0.0 if is_pulled else self.weight_decay, extra))
            self.named[name] = parameter
            if is_pulled:
                self.initial[name] = parameter.detach().clone()
        groups = parameter_groups(members)
        if self.torch is None:
            self.torch = self.make(groups, lr=self.learn_rate)
        else:
            for group in groups:
                self.torch.add_param_group(group)

    def _lr_multiplier(self, name: str, below: int) -> float:
        multiplier = self.head_lr_multiplier if below < 0 else self.layer_lr_decay**below
        for pattern, factor in self.lr_multipliers.items():
            if re.search(pattern, name):
                multiplier *= factor
        return multiplier

    def _check(self, parameters: Parameters) -> None:
        for pattern in self.lr_multipliers:
            if not any(re.search(pattern, name) for name in parameters):
                examples = ", ".join(list(parameters)[:3])
                raise UserError(
                    f"[training.optimizer.lr_multipliers] {pattern!r} matches no parameter; names look like {examples}"
                )
        encoder = [name for name, (_, below) in parameters.items() if below >= 0]
        if self.layer_lr_decay < 1 and encoder and all(layer_of(name) is None for name in encoder):
            raise UserError("[training.optimizer] layer_lr_decay is set, but the encoder's parameter names show no layers")


def adamw(
    learn_rate: Rate = 5e-5, weight_decay: float = 0.01, head_lr_multiplier: float = 10.0, layer_lr_decay: float = 1.0,
    grad_clip: float = 1.0, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, lr_multipliers: ByName[float] = {},
    ema_decay: float = 0.0, l2_sp: float = 0.0, unfreeze_every: int = 0,
) -> TorchOptimizer:  # fmt: skip
    """Optimizer `mtl.AdamW.v1` (Loshchilov and Hutter 2019). See `TorchOptimizer` and `torch.optim.AdamW`."""

    def make(groups: List[dict], lr: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2), eps=eps, fused=True)

    return TorchOptimizer(
        make, learn_rate, weight_decay=weight_decay, head_lr_multiplier=head_lr_multiplier, layer_lr_decay=layer_lr_decay,
        grad_clip=grad_clip, lr_multipliers=lr_multipliers, ema_decay=ema_decay, l2_sp=l2_sp, unfreeze_every=unfreeze_every,
    )  # fmt: skip


def adam(
    learn_rate: Rate = 5e-5, head_lr_multiplier: float = 10.0, layer_lr_decay: float = 1.0, grad_clip: float = 1.0,
    beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, lr_multipliers: ByName[float] = {},
    ema_decay: float = 0.0, l2_sp: float = 0.0, unfreeze_every: int = 0,
) -> TorchOptimizer:  # fmt: skip
    """Optimizer `mtl.Adam.v1`: without weight decay. See `TorchOptimizer`."""
    return adamw(
        learn_rate, 0.0, head_lr_multiplier, layer_lr_decay, grad_clip, beta1, beta2, eps, lr_multipliers, ema_decay, l2_sp,
        unfreeze_every,
    )  # fmt: skip


def sgd(
    learn_rate: Rate = 1e-2, weight_decay: float = 0.0, head_lr_multiplier: float = 1.0, layer_lr_decay: float = 1.0,
    grad_clip: float = 1.0, momentum: float = 0.9, lr_multipliers: ByName[float] = {},
    ema_decay: float = 0.0, l2_sp: float = 0.0, unfreeze_every: int = 0,
) -> TorchOptimizer:  # fmt: skip
    """Optimizer `mtl.SGD.v1`, with momentum. See `TorchOptimizer` and `torch.optim.SGD`."""

    def make(groups: List[dict], lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=lr, momentum=momentum)

    return TorchOptimizer(
        make, learn_rate, weight_decay=weight_decay, head_lr_multiplier=head_lr_multiplier, layer_lr_decay=layer_lr_decay,
        grad_clip=grad_clip, lr_multipliers=lr_multipliers, ema_decay=ema_decay, l2_sp=l2_sp, unfreeze_every=unfreeze_every,
    )  # fmt: skip


def rmsprop(
    learn_rate: Rate = 1e-4, weight_decay: float = 0.0, head_lr_multiplier: float = 1.0, layer_lr_decay: float = 1.0,
    grad_clip: float = 1.0, alpha: float = 0.99, lr_multipliers: ByName[float] = {},
    ema_decay: float = 0.0, l2_sp: float = 0.0, unfreeze_every: int = 0,
) -> TorchOptimizer:  # fmt: skip
    """Optimizer `mtl.RMSprop.v1`. See `TorchOptimizer` and `torch.optim.RMSprop`."""

    def make(groups: List[dict], lr: float) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(groups, lr=lr, alpha=alpha)

    return TorchOptimizer(
        make, learn_rate, weight_decay=weight_decay, head_lr_multiplier=head_lr_multiplier, layer_lr_decay=layer_lr_decay,
        grad_clip=grad_clip, lr_multipliers=lr_multipliers, ema_decay=ema_decay, l2_sp=l2_sp, unfreeze_every=unfreeze_every,
    )  # fmt: skip
