"""The phases of a run: the head alone, if the checkpoint has none; a causal detour, if there is one; the encoder. Their budgets
and optimizers.
"""

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Tuple

import torch
from torch import nn

from mtl.adaptation.checkpoint import Progress
from mtl.adaptation.objective import Objective
from mtl.adaptation.settings import AdaptSettings
from mtl.adaptation.watch import is_plateau
from mtl.encoder.pretrained.architecture import depth_of, layer_count
from mtl.optimization import parameter_groups, warmup_stable_decay

NAMES = ("head", "causal", "encoder")


def after(name: str) -> str:
    """The phase that follows; "" after the last."""
    return dict(zip(NAMES, (*NAMES[1:], "")))[name]


@dataclass
class Phase:
    """A part of the run that trains some parameters.

    Args:
        name (str): "head", "causal" or "encoder".
        parameters (List[nn.Parameter]): What is trained.
        peak_learning_rate (float): The highest learning rate.
        steps (int): The phase ends after so many steps; 0 if there is nothing to do.
        minutes (float): It also ends after so many minutes; 0 for no limit.
    """

    name: str
    parameters: List[nn.Parameter]
    peak_learning_rate: float
    steps: int
    minutes: float

    def spent(self, progress: Progress) -> float:
        """Fraction of the budget that is spent."""
        time_spent = progress.phase_seconds / (60 * self.minutes) if self.minutes else 0.0
        return max(progress.phase_step / self.steps, time_spent) if self.steps else 1.0

    def is_over(self, progress: Progress) -> bool:
        """Whether the budget is spent, or the head learns no more."""
        return self.spent(progress) >= 1 or (self.name == "head" and is_plateau(progress.losses))

    def learning_rate(self, progress: Progress, settings: AdaptSettings) -> float:
        """The learning rate of the next step: warmup, constant, decay. A detour does not decay."""
        decay_ratio = 0.0 if self.name == "causal" else settings.decay_ratio
        return self.peak_learning_rate * warmup_stable_decay(
            progress.phase_step, self.steps, self.spent(progress), settings.warmup_ratio, decay_ratio
        )


def remaining_phases(objective: Objective, settings: AdaptSettings, progress: Progress, total_steps: int) -> Iterator[Phase]:
    """The phases that are left of a run. Each is planned when it begins, with the steps that the one before has left.

    Args:
        objective (Objective): Whose parameters are trained.
        settings (AdaptSettings): Learning rates and budget.
        progress (Progress): The run's progress, which the caller moves on.
        total_steps (int): Steps of the whole run.
    """
    head_ratio = settings.head_only_ratio if objective.missing else 0.0
    if progress.phase == "head":
        head_steps = round(head_ratio * total_steps)
        head = objective.head_parameters() if head_steps else []
        yield Phase("head", head, settings.head_learning_rate, head_steps, settings.max_minutes * head_ratio)
    encoder = objective.trainable_parameters()
    steps, minutes = _left(settings, progress, total_steps)
    if progress.phase == "causal":
        ratio = settings.causal_ratio
        yield Phase("causal", encoder if ratio else [], settings.learning_rate, round(ratio * steps), ratio * minutes)
        steps, minutes = _left(settings, progress, total_steps)
    yield Phase("encoder", encoder, settings.learning_rate, steps, minutes)


def _left(settings: AdaptSettings, progress: Progress, total_steps: int) -> Tuple[int, float]:
    """Steps and minutes that the phases before this one have left; 0 minutes for no limit."""
    minutes = settings.max_minutes - (progress.seconds - progress.phase_seconds) / 60
    return max(1, total_steps - (progress.step - progress.phase_step)), max(minutes, 1e-9) if settings.max_minutes else 0.0


def make_optimizer(model: nn.Module, phase: Phase, settings: AdaptSettings) -> torch.optim.Optimizer:
    """AdamW with weight decay for matrices only; while the encoder is trained, the learning rate decays from layer to layer."""
    trained = {id(parameter) for parameter in phase.parameters}
    top = layer_count(model) + 1
    members: List[Tuple[nn.Parameter, float, float, Dict[str, Any]]] = []
    for name, parameter in model.named_parameters():
        if id(parameter) in trained:
            layers_below_top = top - depth_of(name, top - 1)
            multiplier = settings.layer_lr_decay**layers_below_top if phase.name != "head" else 1.0
            members.append((parameter, multiplier, settings.weight_decay, {}))
    groups = parameter_groups(members)
    return torch.optim.AdamW(groups, lr=phase.peak_learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)
