"""The training loop of continued pretraining: phases, steps, checkpoints, evaluations."""

import math
import time
from pathlib import Path
from typing import Any, Callable, List, Optional

import torch
from torch import nn

from mtl import distributed
from mtl.adaptation.batches import DROPOUT, TrainingBatches, seed_of, shard_of
from mtl.adaptation.checkpoint import AdaptCheckpoints, Progress, load_optimizer, load_progress, load_weights
from mtl.adaptation.monitor import DOMAIN, GENERAL, Monitor
from mtl.adaptation.objective import Objective
from mtl.adaptation.phases import Phase, after, make_optimizer, remaining_phases
from mtl.adaptation.progress_bar import ProgressBar
from mtl.adaptation.settings import AdaptSettings
from mtl.adaptation.watch import judge_rate, weight_size
from mtl.errors import UserError
from mtl.progress import Echo


class Trainer:
    """Trains an objective on batches, from the newest checkpoint or from the start.

    Args:
        objective (Objective): The model and its loss.
        batches (TrainingBatches): What to train on.
        monitor (Monitor): Evaluates and keeps the best weights.
        checkpoints (AdaptCheckpoints): Where to resume from and what to write.
        settings (AdaptSettings): Budget, schedule and optimizer.
        echo (Echo): Shows messages.

    Attributes:
        progress (Progress): How far the run is.
        interrupted (bool): Whether Ctrl-C ended the run.
    """

    def __init__(
        self, objective: Objective, batches: TrainingBatches, monitor: Monitor, checkpoints: AdaptCheckpoints,
        settings: AdaptSettings, echo: Echo = print,
    ) -> None:  # fmt: skip
        self.objective, self.batches, self.monitor, self.checkpoints = objective, batches, monitor, checkpoints
        self.settings, self.echo = settings, echo
        self.progress, self.interrupted = Progress(), False
        self._steps_before, self._seconds_before = 0, 0.0  # when this process took over

    def train(self) -> None:
        """Train until the budget is spent, then give the model the weights of the best evaluation.

        Raises:
            UserError: The loss is NaN or infinite, nothing was learned, or the checkpoint is damaged or of another run.
        """
        total_steps = self._planned_steps()
        checkpoint = self._start()
        with ProgressBar(total_steps, self.progress.step, self.settings.max_minutes) as bar:
            for phase in remaining_phases(self.objective, self.settings, self.progress, total_steps):
                if phase.parameters:
                    bar.begin(phase)
                self._train_phase(phase, checkpoint, bar)
                checkpoint = None
                if phase.name == "head":
                    self.progress.head_steps = self.progress.step
                    self._evaluate(bar)
                if self.interrupted:
                    break
                if after(phase.name):
                    self.progress.enter(after(phase.name))
        if not self.progress.step:
            raise UserError("interrupted before the first step: nothing was learned, and nothing was saved")
        if self.progress.evaluations[-1]["step"] != self.progress.step:
            self._evaluate(None, keep_best=not self.interrupted)
        if distributed.is_main():
            self.monitor.restore(self.objective.model, self.progress)

    def _planned_steps(self) -> int:
        """Steps of the whole run, if time allows."""
        settings = self.settings
        blocks = settings.max_tokens / settings.block_size if settings.max_tokens else math.inf
        steps = math.ceil(self.batches.batches_for(settings.epochs, blocks) / settings.gradient_accumulation_steps)
        return min(steps, settings.max_steps) if settings.max_steps else steps

    def _start(self) -> Optional[Path]:
        """Load progress and weights of the newest checkpoint, if there is one, and return it."""
        checkpoint = self.checkpoints.newest()
        if checkpoint is not None:
            self.progress = load_progress(checkpoint)
            load_weights(checkpoint, self.objective.model)
            self.echo(f"resuming from {checkpoint}, after {self.progress.seconds / 60:.1f} minutes of training")
        else:
            self.objective.start_new_head(self.batches.blocks)
        self._steps_before, self._seconds_before = self.progress.step, self.progress.seconds
        return checkpoint

    def _train_phase(self, phase: Phase, checkpoint: Optional[Path], bar: ProgressBar) -> None:
        """Train until the phase's budget is spent, or until Ctrl-C. The optimizer resumes from the checkpoint, if any."""
        if not phase.parameters:
            return
        model = self.objective.model
        trained = {id(parameter) for parameter in phase.parameters}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in trained)
        optimizer = make_optimizer(model, phase, self.settings)
        if checkpoint is not None:
            load_optimizer(checkpoint, model, optimizer)
        self.batches.masks = self.objective.start(is_causal=phase.name == "causal")
        model.train()
        try:
            self._train_steps(phase, optimizer, bar)
        except KeyboardInterrupt:
            self.echo("\ninterrupted: evaluating and saving what was learned so far; the same command resumes from here")
            if self._writes_checkpoints and self.progress.phase_step:
                self.checkpoints.save(model, optimizer, self.progress)
            self.interrupted = True
        finally:
            self.objective.start(is_causal=False)
            for parameter in model.parameters():
                parameter.requires_grad_(True)

    def _train_steps(self, phase: Phase, optimizer: torch.optim.Optimizer, bar: ProgressBar) -> None:
        """Take the steps of a phase, with checkpoints and evaluations in between."""
        progress = self.progress
        forward = distributed.data_parallel(self.objective.model)
        saved = time.monotonic()
        while not phase.is_over(progress) and not progress.stopped:
            started = time.monotonic()
            learning_rate = phase.learning_rate(progress, self.settings)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group["lr_multiplier"]
            loss = self.step(optimizer, progress.step, phase.parameters, forward)
            seconds = distributed.from_rank_zero(time.monotonic() - started)
            progress.count(seconds, distributed.sum_over_ranks(loss) / distributed.world_size(), learning_rate)
            self._check_minutes(phase)
            bar.step(progress, loss, self.tokens_per_second())
            if phase.name == "encoder" and self.monitor.due(phase.spent(progress), progress):
                self._evaluate(bar)
            if self._writes_checkpoints and time.monotonic() - saved >= 60 * self.settings.checkpoint_minutes:
                self.checkpoints.save(self.objective.model, optimizer, progress)
                saved = time.monotonic()

    @property
    def _writes_checkpoints(self) -> bool:
        return self.settings.checkpoint_minutes > 0 and distributed.is_main()

    def step(
        self, optimizer: torch.optim.Optimizer, number: int, parameters: List[nn.Parameter],
        forward: Optional[Callable[..., Any]] = None,
    ) -> float:  # fmt: skip
        """Take one optimizer step on this rank's part of each batch. Dropout has a seed for each step, so runs resume exactly.

        Args:
            optimizer (torch.optim.Optimizer): The optimizer.
            number (int): The step, from 0.
            parameters (List[nn.Parameter]): Whose gradient is clipped.
            forward (Optional[Callable[..., Any]]): What to call instead of the model, such as a data-parallel wrapper of it.

        Returns:
            float: The loss on this rank's part.
        """
        rank, world_size = distributed.rank(), distributed.world_size()
        accumulated = self.settings.gradient_accumulation_steps
        torch.manual_seed(seed_of(self.settings.seed, DROPOUT, number) + rank)
        batches = [self.batches[i] for i in range(number * accumulated, (number + 1) * accumulated)]
        counts = [self.objective.count(batch) for batch in batches]
        total = 0.0
        for whole, count in zip(batches, counts):
            batch, weight = shard_of(whole, rank, world_size)
            loss = self.objective.loss(batch, forward) * (weight * count / sum(counts))
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    def _evaluate(self, bar: Optional[ProgressBar], keep_best: bool = True) -> None:
        """Evaluate, and stop the run if it has diverged (with an error) or forgotten too much."""
        progress, settings = self.progress, self.settings
        evaluation = self.monitor.evaluate(self.objective.model, progress, keep_best)
        if self.monitor.diverged(progress):
            if distributed.is_main():
                self.checkpoints.remove()
            raise UserError(
                f"learning-rate = {settings.learning_rate} is too high: the loss is NaN or infinite. Nothing was saved"
            )
        if self.monitor.forgot(progress):
            rise = evaluation["losses"][GENERAL] - progress.evaluations[0]["losses"][GENERAL]
            progress.stopped = (
                f"the loss on general text rose by {rise:.3f} nats, more than max-forgetting = {settings.max_forgetting}"
            )
        if bar is not None:
            bar.evaluation(evaluation)

    def _check_minutes(self, phase: Phase) -> None:
        """Refuse a time budget for a phase that its first step already exceeds."""
        progress = self.progress
        if progress.phase_step == 1 and 0 < 60 * phase.minutes < progress.phase_seconds:
            raise UserError(
                f"max-minutes = {self.settings.max_minutes}: one step takes {progress.phase_seconds:.2g} s, more than the "
                f"{60 * phase.minutes:.2g} s planned for the {phase.name}. Give more minutes or a smaller batch-size"
            )

    def judge_rate(self) -> str:
        """What to say of the learning rate after the run; "" if it is not plainly wrong, or was not used to the end."""
        progress, parameters = self.progress, self.objective.trainable_parameters()
        if progress.phase != "encoder" or self.interrupted or progress.stopped or self.settings.lora_rank:
            return ""
        return judge_rate(self.settings.learning_rate, progress.path, weight_size(parameters), progress.evaluations, DOMAIN)

    def tokens_per_second(self) -> float:
        """The speed since this process took over."""
        accumulated = self.settings.gradient_accumulation_steps
        before, now = (self.batches.blocks_before(step * accumulated) for step in (self._steps_before, self.progress.step))
        tokens = (now - before) * self.settings.block_size
        return tokens / max(self.progress.seconds - self._seconds_before, 1e-9)
