"""torch optimizers for a spaCy config: parameter groups, global-norm clipping, thinc's schedules."""

import logging
import re
from typing import Any, Callable, Dict, Iterable, List, Optional, Union

import torch
from thinc.api import Optimizer

from mtl.encoder.limits import layer_of
from mtl.errors import UserError, check_range
from mtl.torch_model import Parameters

Rate = Union[float, Iterable[float]]
logger = logging.getLogger(__name__)


class TorchOptimizer(Optimizer):
    """A thinc Optimizer, as `[training.optimizer]` asks, whose work on our encoder and heads a torch optimizer does.

    The encoder's top layer learns at `learn_rate`, each layer below at `layer_decay` times the rate of the one above, and heads
    at `head_factor` times `learn_rate`. `factors` multiplies the rate of parameters whose name ("transformer.encoder.layer.0...",
    "ner.output.weight") the regular expression matches; 0 freezes them. Vectors (biases, norms) are not decayed. The gradient's
    norm over all parameters is clipped at `clip` (0: not). `average` keeps an exponential moving average of all weights, which
    evaluations and saved pipelines then use (0: none). `l2_sp` pulls the encoder's weights back to where they started, in place
    of their decay (Li, Grandvalet and Davoine 2018, decoupled as in AdamW). `unfreeze` lets one layer more learn each so many
    steps, from the top down, heads from the start (Howard and Ruder 2018). Stock thinc components in the same pipeline are
    stepped by thinc's Adam at `head_factor` times the rate.
    """

    def __init__(
        self,
        make: Callable[..., torch.optim.Optimizer],
        learn_rate: Rate,
        *,
        weight_decay: float,
        head_factor: float,
        layer_decay: float,
        clip: float,
        factors: Dict[str, float],
        average: float,
        l2_sp: float,
        unfreeze: int,
    ) -> None:
        check_range("optimizer.weight_decay", weight_decay, 0.0)
        check_range("optimizer.head_factor", head_factor, 0.0)
        check_range("optimizer.layer_decay", layer_decay, 0.01, 1.0)
        check_range("optimizer.clip", clip, 0.0)
        check_range("optimizer.average", average, 0.0, 0.99999)
        check_range("optimizer.l2_sp", l2_sp, 0.0)
        check_range("optimizer.unfreeze", unfreeze, 0)
        for pattern, factor in factors.items():
            check_range(f"optimizer.factors.{pattern}", factor, 0.0)
        super().__init__(learn_rate, L2=weight_decay, grad_clip=clip, use_averages=average > 0, L2_is_weight_decay=True)  # type: ignore[arg-type]
        self.make, self.weight_decay, self.head_factor = make, weight_decay, head_factor
        self.layer_decay, self.clip, self.factors = layer_decay, clip, dict(factors)
        self.average, self.l2_sp, self.unfreeze, self.steps = average, l2_sp, unfreeze, 0
        self.starts: Dict[str, torch.Tensor] = {}  # of the parameters that are pulled back
        self.torch: Optional[torch.optim.Optimizer] = None
        self.known: Dict[str, int] = {}  # parameter name -> id, for those in a group
        self.named: Dict[str, torch.nn.Parameter] = {}
        self.skipped = 0

    def __call__(self, key: Any, weights: Any, gradient: Any, *, lr_scale: float = 1.0) -> Any:
        return super().__call__(key, weights, gradient, lr_scale=lr_scale * self.head_factor)

    def step_parameters(self, parameters: Parameters) -> None:
        """Clip and step. A gradient that is not finite is reported and skipped, since it would ruin every weight.

        parameters: name -> (parameter, layers below the top; -1 for heads).
        RAISES (UserError): a pattern in `factors` matches nothing; layer_decay is set for an encoder without known layers.
        """
        self._add(parameters)
        assert self.torch is not None
        live = [parameter for parameter, _ in parameters.values() if parameter.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(live, self.clip or float("inf"))
        if not torch.isfinite(norm):
            self.skipped += 1
            logger.warning(
                "the gradient is not finite: step skipped (%d so far). Lower the learning rate if it recurs", self.skipped
            )
            return
        for group in self.torch.param_groups:
            waits = self.unfreeze and group["below"] * self.unfreeze > self.steps
            group["lr"] = 0.0 if waits else self.learn_rate * group["factor"]
        self._pull_back()
        self.torch.step()
        self.steps += 1
        self._average(parameters)

    @torch.no_grad()
    def _pull_back(self) -> None:
        assert self.torch is not None
        rates = {id(parameter): group["lr"] for group in self.torch.param_groups for parameter in group["params"]}
        for name, start in self.starts.items():
            parameter = self.named[name]
            parameter.lerp_(start, min(rates[id(parameter)] * self.l2_sp, 1.0))

    @torch.no_grad()
    def _average(self, parameters: Parameters) -> None:
        """The average of the first steps is shorter, so that it does not hold on to where training began."""
        if not self.average:
            return
        keep = min(self.average, self.steps / (self.steps + 10))
        for parameter, _ in parameters.values():
            known = self.averages.get(id(parameter))
            if known is None:
                self.averages[id(parameter)] = parameter.detach().clone()
            else:
                known.lerp_(parameter, 1 - keep)

    def tensors(self) -> Dict[str, torch.Tensor]:
        """The state of every parameter, by "NAME/KIND"."""
        found: Dict[str, torch.Tensor] = {}
        named = {id(parameter): name for name, parameter in self.named.items()}
        for parameter, state in (self.torch.state if self.torch is not None else {}).items():
            for kind, value in state.items():
                if isinstance(value, torch.Tensor):
                    found[f"{named[id(parameter)]}/{kind}"] = value.detach().clone().contiguous()
        for name, parameter in self.named.items():
            if self.average and id(parameter) in self.averages:
                found[f"{name}/average"] = self.averages[id(parameter)].clone()
        return found | {f"{name}/start": start for name, start in self.starts.items()} | {"/steps": torch.tensor(self.steps)}

    def take(self, parameters: Parameters, tensors: Dict[str, torch.Tensor]) -> None:
        """Go on with these parameters in the state that `tensors` gave. RAISES (UserError): as `step_parameters`."""
        self.torch, self.known, self.named, self.starts = None, {}, {}, {}
        self._add(parameters)
        assert self.torch is not None
        self.steps = int(tensors.pop("/steps"))
        for key, value in tensors.items():
            name, _, kind = key.rpartition("/")
            parameter = self.named[name]
            value = value.to(parameter.device)
            if kind == "average":
                self.averages[id(parameter)] = value
            elif kind == "start":
                self.starts[name] = value
            else:
                self.torch.state[parameter][kind] = value

    def _add(self, parameters: Parameters) -> None:
        fresh = {name: entry for name, entry in parameters.items() if self.known.get(name) != id(entry[0])}
        if not fresh:
            return
        if not self.known:
            self._check(parameters)
        groups: Dict[tuple, List[torch.nn.Parameter]] = {}
        for name, (parameter, below) in fresh.items():
            pulled = self.l2_sp > 0 and below >= 0
            decay = self.weight_decay if parameter.ndim > 1 and not pulled else 0.0
            waiting = below if self.unfreeze else 0  # else layers may share a group
            groups.setdefault((self._factor(name, below), decay, waiting), []).append(parameter)
            self.known[name], self.named[name] = id(parameter), parameter
            if pulled:
                self.starts[name] = parameter.detach().clone()
        made = [
            {"params": members, "weight_decay": decay, "factor": factor, "below": below}
            for (factor, decay, below), members in groups.items()
        ]
        if self.torch is None:
            self.torch = self.make(made, lr=self.learn_rate)
        else:
            for group in made:
                self.torch.add_param_group(group)

    def _factor(self, name: str, below: int) -> float:
        factor = self.head_factor if below < 0 else self.layer_decay**below
        for pattern, own in self.factors.items():
            if re.search(pattern, name):
                factor *= own
        return factor

    def _check(self, parameters: Parameters) -> None:
        for pattern in self.factors:
            if not any(re.search(pattern, name) for name in parameters):
                some = ", ".join(list(parameters)[:3])
                raise UserError(f"[training.optimizer.factors] {pattern!r} matches no parameter; names are like {some}")
        encoder = [name for name, (_, below) in parameters.items() if below >= 0]
        if self.layer_decay < 1 and encoder and all(layer_of(name) is None for name in encoder):
            raise UserError("[training.optimizer] layer_decay is set, but no layers are found in the encoder's parameter names")


def adamw(
    learn_rate: Rate = 5e-5, weight_decay: float = 0.01, head_factor: float = 10.0, layer_decay: float = 1.0, clip: float = 1.0,
    beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, factors: Dict[str, float] = {},
    average: float = 0.0, l2_sp: float = 0.0, unfreeze: int = 0,
) -> TorchOptimizer:  # fmt: skip
    """`mtl.AdamW.v1` (Loshchilov and Hutter 2019). See `TorchOptimizer`."""

    def make(groups: List[dict], lr: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=lr, betas=(beta1, beta2), eps=eps, fused=True)

    return TorchOptimizer(
        make, learn_rate, weight_decay=weight_decay, head_factor=head_factor, layer_decay=layer_decay, clip=clip, factors=factors,
        average=average, l2_sp=l2_sp, unfreeze=unfreeze,
    )  # fmt: skip


def adam(
    learn_rate: Rate = 5e-5, head_factor: float = 10.0, layer_decay: float = 1.0, clip: float = 1.0,
    beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, factors: Dict[str, float] = {},
    average: float = 0.0, l2_sp: float = 0.0, unfreeze: int = 0,
) -> TorchOptimizer:  # fmt: skip
    """`mtl.Adam.v1`, without weight decay. See `TorchOptimizer`."""
    return adamw(learn_rate, 0.0, head_factor, layer_decay, clip, beta1, beta2, eps, factors, average, l2_sp, unfreeze)


def sgd(
    learn_rate: Rate = 1e-2, weight_decay: float = 0.0, head_factor: float = 1.0, layer_decay: float = 1.0, clip: float = 1.0,
    momentum: float = 0.9, factors: Dict[str, float] = {},
    average: float = 0.0, l2_sp: float = 0.0, unfreeze: int = 0,
) -> TorchOptimizer:  # fmt: skip
    """`mtl.SGD.v1`, with momentum. See `TorchOptimizer`."""

    def make(groups: List[dict], lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=lr, momentum=momentum)

    return TorchOptimizer(
        make, learn_rate, weight_decay=weight_decay, head_factor=head_factor, layer_decay=layer_decay, clip=clip, factors=factors,
        average=average, l2_sp=l2_sp, unfreeze=unfreeze,
    )  # fmt: skip


def rmsprop(
    learn_rate: Rate = 1e-4, weight_decay: float = 0.0, head_factor: float = 1.0, layer_decay: float = 1.0, clip: float = 1.0,
    alpha: float = 0.99, factors: Dict[str, float] = {},
    average: float = 0.0, l2_sp: float = 0.0, unfreeze: int = 0,
) -> TorchOptimizer:  # fmt: skip
    """`mtl.RMSprop.v1`. See `TorchOptimizer`."""

    def make(groups: List[dict], lr: float) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(groups, lr=lr, alpha=alpha)

    return TorchOptimizer(
        make, learn_rate, weight_decay=weight_decay, head_factor=head_factor, layer_decay=layer_decay, clip=clip, factors=factors,
        average=average, l2_sp=l2_sp, unfreeze=unfreeze,
    )  # fmt: skip
