"""The training loop of continued pretraining: phases, schedule, steps, progress, checkpoints, evaluations."""

import math
import sys
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import torch
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedModel

from mtl.adapt.batches import DROPOUT, Batches, count_pieces, moved, seed_of, share_of
from mtl.adapt.checkpoint import Checkpoints, Progress, load_optimizer, load_progress, load_weights
from mtl.adapt.ranks import Ranks
from mtl.adapt.settings import AdaptSettings
from mtl.adapt.watch import GENERAL, Watch, perplexities
from mtl.encoder.limits import depth_of, layer_count
from mtl.encoder.lora import lora_parameters
from mtl.encoder.mlm import Loss, head_parameters, start_at_frequencies
from mtl.errors import UserError


@dataclass
class Phase:
    """A part of the run that trains some parameters; its budget ends at `steps` or `minutes` (0: no limit)."""

    name: str
    parameters: List[nn.Parameter]
    learn_rate: float
    steps: int
    minutes: float

    def spent(self, progress: Progress) -> float:
        """The share of its budget that is spent."""
        in_time = progress.phase_seconds / (60 * self.minutes) if self.minutes else 0.0
        return max(progress.phase_step / self.steps, in_time) if self.steps else 1.0

    def rate(self, progress: Progress, settings: AdaptSettings) -> float:
        """Warm-up, stable, decay (Hu et al. 2024, MiniCPM): the rate of the next step."""
        rising = (progress.phase_step + 1) / (settings.warmup * self.steps + 1)
        falling = (1 - self.spent(progress)) / settings.decay if settings.decay else 1.0
        return self.learn_rate * min(rising, falling, 1.0)


class Trainer:
    """One training of a masked-language model. new_head: the checkpoint had no masked-LM head, which is trained alone first."""

    def __init__(
        self, model: PreTrainedModel, new_head: bool, settings: AdaptSettings, ranks: Ranks, batches: Batches, watch: Watch,
        checkpoints: Checkpoints, autocast: Callable[[], AbstractContextManager], loss_of: Loss, echo: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.model, self.new_head, self.settings, self.ranks, self.batches = model, new_head, settings, ranks, batches
        self.watch, self.checkpoints, self.autocast, self.loss_of, self.echo = watch, checkpoints, autocast, loss_of, echo
        self.progress, self.interrupted = Progress(), False
        self.began = 0, 0.0  # the step and the seconds at which this process took over

    def train(self) -> None:
        """Go on from the newest checkpoint or begin, until the budget is spent; then take the weights of the best evaluation.

        RAISES (UserError): the loss is no number any more, or nothing was learned; the checkpoint is of another run, or broken.
        """
        steps = self._planned_steps()
        checkpoint = self._begin()
        seldom = 0.1 if sys.stderr.isatty() else 10.0  # seconds between lines, which a log file keeps
        shown = {"unit": "step", "dynamic_ncols": True, "mininterval": seldom, "disable": not self.ranks.main}
        with tqdm(total=steps, initial=self.progress.step, **shown) as bar:
            for phase in self._phases(steps):
                bar.set_description(phase.name)
                self._phase(phase, checkpoint, bar)
                checkpoint = None
                if phase.name == "head":
                    self.progress.head_steps = self.progress.step
                    self._evaluate(bar)
                if self.interrupted:
                    break
                if phase.name == "head":
                    self.progress.enter("encoder")
        if not self.progress.step:
            raise UserError("interrupted before the first step: nothing was learned, and nothing was saved")
        if self.progress.evaluations[-1]["step"] != self.progress.step:
            self._evaluate(None, keep=not self.interrupted)
        if self.ranks.main:
            self.watch.restore(self.model, self.progress)

    def _begin(self) -> Optional[Path]:
        checkpoint = self.checkpoints.newest()
        if checkpoint is not None:
            self.progress = load_progress(checkpoint)
            load_weights(checkpoint, self.model)
            self.echo(f"going on from {checkpoint}, after {self.progress.seconds / 60:.1f} minutes of training")
        elif self.new_head and hasattr(self.model, "get_output_embeddings"):
            start_at_frequencies(self.model, count_pieces(self.batches.blocks, self.model.config.vocab_size))
        self.began = self.progress.step, self.progress.seconds
        return checkpoint

    def _planned_steps(self) -> int:
        """The steps of the whole run, if the minutes allow."""
        settings = self.settings
        blocks = settings.tokens / settings.length if settings.tokens else math.inf
        several = self.batches.batches_for(settings.passes, blocks)
        steps = math.ceil(several / settings.accumulate)
        return min(steps, settings.max_steps) if settings.max_steps else steps

    def _phases(self, steps: int) -> Iterator[Phase]:
        """What is left of the run, each part as large as the one before has left it."""
        settings = self.settings
        share = settings.head_share if self.new_head else 0.0
        if self.progress.phase == "head":
            head_steps = round(share * steps)
            head = head_parameters(self.model) if head_steps else []
            yield Phase("head", head, settings.head_learn_rate, head_steps, settings.minutes * share)
        left = max(1, steps - self.progress.head_steps)
        every = list(self.model.parameters())
        if settings.lora:
            every = lora_parameters(self.model) + head_parameters(self.model)
        yield Phase("encoder", every, settings.learn_rate, left, settings.minutes * (1 - share))

    def _phase(self, phase: Phase, start: Optional[Path], bar: tqdm) -> None:
        """Train until the phase's budget is spent, or Ctrl-C ends it. start: the checkpoint it goes on from."""
        chosen = {id(parameter) for parameter in phase.parameters}
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in chosen)
        optimizer = self.optimizer(phase)
        if start is not None:
            load_optimizer(start, self.model, optimizer)
        self.model.train()
        forward = self.ranks.wrap(self.model) if phase.parameters else self.model
        writes = self.settings.checkpoint_minutes > 0 and self.ranks.main
        saved, progress = time.monotonic(), self.progress
        try:
            while phase.spent(progress) < 1 and not progress.stopped:
                stepped = time.monotonic()
                for group in optimizer.param_groups:
                    group["lr"] = phase.rate(progress, self.settings) * group["factor"]
                loss = self.step(optimizer, progress.step, phase.parameters, forward)
                progress.count(self.ranks.agree(time.monotonic() - stepped))
                self._check_minutes(phase)
                self._show(bar, phase, loss)
                if phase.name == "encoder" and self.watch.due(phase.spent(progress), progress):
                    self._evaluate(bar)
                if writes and time.monotonic() - saved >= 60 * self.settings.checkpoint_minutes:
                    self.checkpoints.save(self.model, optimizer, progress)
                    saved = time.monotonic()
        except KeyboardInterrupt:
            self.echo("\ninterrupted: what was learned so far is evaluated and saved; the same command goes on from here")
            if writes and progress.phase_step:
                self.checkpoints.save(self.model, optimizer, progress)
            self.interrupted = True
        finally:
            for parameter in self.model.parameters():
                parameter.requires_grad_(True)

    def optimizer(self, phase: Phase) -> torch.optim.Optimizer:
        """AdamW, with weight decay for matrices, and in the encoder's training a rate that falls from layer to layer below."""
        chosen = {id(parameter) for parameter in phase.parameters}
        top = layer_count(self.model) + 1
        groups: Dict[Tuple[float, float], List[nn.Parameter]] = {(1.0, 0.0): []}
        for name, parameter in self.model.named_parameters():
            if id(parameter) in chosen:
                factor = self.settings.layer_decay ** (top - depth_of(name, top - 1)) if phase.name == "encoder" else 1.0
                decay = self.settings.weight_decay if parameter.ndim > 1 else 0.0
                groups.setdefault((factor, decay), []).append(parameter)
        made = [{"params": own, "weight_decay": decay, "factor": factor} for (factor, decay), own in groups.items()]
        return torch.optim.AdamW(made, lr=phase.learn_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)

    def step(
        self, optimizer: torch.optim.Optimizer, number: int, parameters: List[nn.Parameter],
        forward: Optional[Callable[..., Any]] = None,
    ) -> float:  # fmt: skip
        """One step of the optimizer, over this process's share of each batch; RETURNS its loss.

        Dropout has the step's own seed, so that a resumed run draws the same.
        """
        several = self.settings.accumulate
        torch.manual_seed(seed_of(self.settings.seed, DROPOUT, number) + self.ranks.number)
        total = 0.0
        for batch in range(number * several, (number + 1) * several):
            share, weight = share_of(self.batches[batch], self.ranks.number, self.ranks.count)
            with self.autocast():
                loss = self.loss_of(self.model, *moved(share, self.ranks.device), forward) * (weight / several)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    def _evaluate(self, bar: Optional[tqdm], keep: bool = True) -> None:
        """RAISES (UserError): the loss is no number any more."""
        progress = self.progress
        found = self.watch.evaluate(self.model, progress, keep)
        if self.watch.diverged(progress):
            if self.ranks.main:
                self.checkpoints.remove()
            rate = self.settings.learn_rate
            raise UserError(f"learn-rate = {rate} is too high: the loss has gone out of bounds. Nothing was saved")
        if self.watch.forgot(progress):
            risen = found["losses"][GENERAL] - progress.evaluations[0]["losses"][GENERAL]
            most = self.settings.max_forgetting
            progress.stopped = f"the loss on general text rose by {risen:.3f} nats, more than max-forgetting = {most}"
        if bar is not None and self.ranks.main:
            said = ", ".join(f"{where} {value:.2f}" for where, value in perplexities(found["losses"]).items())
            probed = ", ".join(f"{task} {100 * score:.1f}" for task, score in found.get("probe", {}).items())
            bar.write(f"step {progress.step:,}: perplexity, {said}" + (f"; probe, {probed}" if probed else ""), file=sys.stderr)

    def _show(self, bar: tqdm, phase: Phase, loss: float) -> None:
        bar.update()
        if bar.n % 10 == 0:
            self._estimate(bar, phase)
            rate = self.tokens() / max(self.progress.seconds - self.began[1], 1e-9)
            bar.set_postfix_str(f"loss {loss:.3f}, {rate:,.0f} tokens/s", refresh=False)

    def _check_minutes(self, phase: Phase) -> None:
        """RAISES (UserError): the first step alone took longer than the whole phase was to take."""
        progress = self.progress
        if progress.phase_step == 1 and 0 < 60 * phase.minutes < progress.phase_seconds:
            raise UserError(
                f"minutes = {self.settings.minutes}: one step takes {progress.phase_seconds:.2g} s, which is more than the "
                f"{60 * phase.minutes:.2g} s that are for the {phase.name}. Give more minutes, or a smaller batch-blocks"
            )

    def _estimate(self, bar: tqdm, phase: Phase) -> None:
        """Where the time is what ends the phase: as many steps as it will do at this rate, for the time left on the bar."""
        progress = self.progress
        if phase.minutes and phase.name == "encoder":
            expected = progress.phase_step / (progress.phase_seconds / (60 * phase.minutes))
            bar.total = progress.head_steps + min(phase.steps, max(progress.phase_step, round(expected)))

    def tokens(self) -> int:
        """Wordpieces that this process has learned from, since it took over."""
        several = self.settings.accumulate
        blocks = [self.batches.blocks_before(step * several) for step in (self.began[0], self.progress.step)]
        return (blocks[1] - blocks[0]) * self.settings.length

    def report(self) -> Dict[str, Any]:
        """How the run went, all processes that had a part in it together, and at what speed this one went."""
        progress, several = self.progress, self.settings.accumulate
        best = self.watch.best(progress)
        return {
            "steps": progress.step,
            "head_steps": progress.head_steps,
            "best_step": best["step"],
            "tokens": self.batches.blocks_before(progress.step * several) * self.settings.length,
            "passes": self.batches.domain_blocks_before(progress.step * several) / len(self.batches.blocks),
            "seconds": round(progress.seconds, 1),
            "tokens_per_second": round(self.tokens() / max(progress.seconds - self.began[1], 1e-9)),
            "interrupted": self.interrupted,
            "stopped": progress.stopped,
            "evaluations": progress.evaluations,
            "perplexity_before": perplexities(progress.evaluations[0]["losses"]),
            "perplexity_after": perplexities(best["losses"]),
        }
