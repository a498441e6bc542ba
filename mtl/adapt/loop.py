"""The training loop of continued pretraining: budget, schedule, progress, checkpoints, report."""

import json
import math
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import torch
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from mtl.adapt.batches import DROPOUT, Batch, Batches, count_pieces, fixed_batches, seed_of, share_of
from mtl.adapt.blocks import BlockSettings, Corpus, load_corpus
from mtl.adapt.checkpoint import Checkpoints, Progress, load_optimizer, load_progress, load_weights, shape_of
from mtl.adapt.cleaning import CleanSettings
from mtl.adapt.masking import MaskedBatch, MaskSettings
from mtl.adapt.mlm import head_parameters, load_mlm, masked_loss, mean_loss, start_at_frequencies
from mtl.adapt.ranks import Ranks
from mtl.encoder.limits import faster_in_bf16, real_length
from mtl.encoder.sources import load_tokenizer
from mtl.errors import UserError, check_choice, check_range
from mtl.files import check_target, replacing


@dataclass
class AdaptSettings:
    """How to continue pretraining. A budget ends the run at whichever of passes, tokens, steps and minutes comes first."""

    passes: float = 3.0
    tokens: float = 0  # 0: no limit
    max_steps: int = 0  # 0: no limit
    minutes: float = 0.0  # 0: no limit; covers the training, not reading and evaluation
    length: int = 128  # wordpieces a block
    batch_blocks: int = 16  # in one forward pass
    accumulate: int = 1  # forward passes a step
    learn_rate: float = 1e-4
    head_learn_rate: float = 2e-3  # while the head alone is trained
    head_share: float = 0.3  # of the budget, spent on the head alone where the checkpoint has none
    warmup: float = 0.06  # share of the steps in which the rate rises
    decay: float = 1.0  # share of the budget, at its end, in which it falls to 0; between the two it stays
    weight_decay: float = 0.01
    rate: float = 0.2  # share of words that are masked; at 15% when measuring, whatever it is here
    held_out: float = 0.05
    precision: str = "auto"  # "fp32", "bf16"; auto: bf16 where it measures faster
    device: str = "auto"
    seed: int = 0
    eval_blocks: int = 200
    checkpoint_minutes: float = 10.0  # 0: none
    keep: int = 2  # checkpoints
    gradient_checkpointing: bool = False  # less memory for more time

    def check(self) -> None:
        """RAISES (UserError): a setting is out of range; it is named with what is allowed."""
        check_choice("precision", self.precision, ("auto", "fp32", "bf16"))
        check_range("passes", self.passes, 0.001)
        check_range("tokens", self.tokens, 0)
        check_range("max-steps", self.max_steps, 0)
        check_range("minutes", self.minutes, 0)
        check_range("learn-rate", self.learn_rate, 0.0)
        check_range("length", self.length, 16)
        check_range("batch-blocks", self.batch_blocks, 1)
        check_range("accumulate", self.accumulate, 1)
        check_range("decay", self.decay, 0.0, 1.0)
        check_range("rate", self.rate, 0.01, 0.9)
        check_range("held-out", self.held_out, 0.001, 0.5)
        check_range("head-share", self.head_share, 0.0, 0.9)
        check_range("checkpoint-minutes", self.checkpoint_minutes, 0)
        check_range("keep", self.keep, 1)

    def of_the_run(self) -> Dict[str, Any]:
        """The settings that must be the same for a run to go on: not its budget, nor where it runs."""
        may_change = ("passes", "tokens", "max_steps", "minutes", "device", "eval_blocks", "checkpoint_minutes", "keep")
        return {name: value for name, value in asdict(self).items() if name not in may_change}


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


class Adaptation:
    """One run: its model, its data, its settings."""

    def __init__(self, encoder: str, settings: AdaptSettings, echo: Callable[[str], None] = print) -> None:
        settings.check()
        self.settings, self.ranks = settings, Ranks(settings.device)
        self.echo: Callable[[str], None] = echo if self.ranks.main else lambda _: None
        self.tokenizer: PreTrainedTokenizerFast = load_tokenizer(encoder)
        if self.tokenizer.mask_token_id is None:
            raise UserError(
                f"encoder {encoder!r}: its tokenizer has no mask token; masked-LM training needs an encoder of the BERT kind"
            )
        torch.manual_seed(settings.seed)  # the head that a checkpoint lacks starts at random
        self.model, self.missing = load_mlm(encoder)
        longest = real_length(self.model.base_model, self.model.config)
        if settings.length > longest:
            raise UserError(f"length = {settings.length} is more than the encoder's {longest} wordpieces")
        self.device = self.ranks.device
        self.model.to(self.device)
        if settings.gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        fastest = "bf16" if settings.precision == "auto" and self.ranks.agree(faster_in_bf16(self.device)) else "fp32"
        self.precision = fastest if settings.precision == "auto" else settings.precision
        self.masks = MaskSettings(self.tokenizer.mask_token_id, len(self.tokenizer), rate=settings.rate)
        self.pad_id = -1 if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def run(
        self, texts: List[str], general: List[str], out: Path, resume: bool = True, cleaning: Optional[CleanSettings] = None
    ) -> Dict:
        """Read, train, evaluate and save; RETURNS the report that is also written to `out/adapt.json`.

        Beside `out` lie, until the run ends, its checkpoints (`NAME.checkpoints`), and the tokenised text (`blocks`), which later
        runs read again. resume: go on from the newest checkpoint, if an earlier run of the same kind left one.
        cleaning: of the domain text; None: none.
        """
        settings = self.settings
        check_target(out, "adapt.json")
        read = partial(load_corpus, tokenizer=self.tokenizer, cache=out.parent / "blocks", echo=self.echo)
        with self.ranks.main_first():
            corpus = read(texts, settings=BlockSettings(settings.length, settings.held_out, settings.seed), cleaning=cleaning)
            evaluations = {"in-domain": self._fixed(corpus.held)}
            if general:
                whole = BlockSettings(settings.length, 0.0, settings.seed)
                evaluations["general"] = self._fixed(read(general, settings=whole).train)
        self.echo(
            f"{corpus.documents:,} documents, {corpus.words:,} words: {corpus.held_documents:,} held out, the rest "
            f"{len(corpus.train):,} blocks of {settings.length} wordpieces; {self.precision} on {self.device.type}"
        )
        identity = {"model": list(shape_of(self.model)), "text": corpus.key, **settings.of_the_run()}
        checkpoints = Checkpoints(out.with_name(out.name + ".checkpoints"), settings.keep, identity)
        if not resume and self.ranks.main:
            checkpoints.remove()
        self.ranks.wait()
        report = self._train(corpus, evaluations, checkpoints)
        if not all(map(math.isfinite, report["perplexity_after"].values())):
            checkpoints.remove()
            raise UserError(
                f"learn-rate = {settings.learn_rate} is too high: the loss has gone out of bounds. Nothing was saved to {out}"
            )
        if not report["steps"]:
            raise UserError(f"interrupted before the first step: nothing was learned, and nothing was saved to {out}")
        about = {"documents": corpus.documents, "words": corpus.words, "held_out_documents": corpus.held_documents}
        report |= {**about, "cleaning": corpus.cleaning, "settings": asdict(settings)}
        if self.ranks.main:
            self._save(out, report)
            if not report["interrupted"]:
                checkpoints.remove()
        self.ranks.wait()
        return report

    def losses(self, measured: Dict[str, str], cache: Path) -> Dict[str, float]:
        """The encoder's losses as it is: nats a masked wordpiece, for each of the `measured` text files, by name."""
        whole = BlockSettings(self.settings.length, 0.0, self.settings.seed)
        corpora = {name: load_corpus([file], self.tokenizer, whole, cache, self.echo) for name, file in measured.items()}
        return {name: mean_loss(self.model, self._fixed(corpus.train), self.autocast) for name, corpus in corpora.items()}

    def _train(self, corpus: Corpus, evaluations: Dict[str, List[Batch]], checkpoints: Checkpoints) -> Dict:
        settings = self.settings
        batches = Batches(corpus.train, settings.batch_blocks, self.masks, self.pad_id, settings.seed)
        steps = self._planned_steps(batches)
        checkpoint = checkpoints.newest()
        progress = Progress() if checkpoint is None else load_progress(checkpoint)
        if checkpoint is not None:
            load_weights(checkpoint, self.model)
            self.echo(f"going on from {checkpoint}, after {progress.seconds / 60:.1f} minutes of training")
        elif self.missing:
            start_at_frequencies(self.model, count_pieces(corpus.train, self.model.config.vocab_size))
        interrupted, began = False, (progress.step, progress.seconds)
        seldom = 0.1 if sys.stderr.isatty() else 10.0  # seconds between lines, which a log file keeps
        with tqdm(
            total=steps, initial=progress.step, unit="step", dynamic_ncols=True, mininterval=seldom, disable=not self.ranks.main
        ) as bar:
            for phase in self._phases(steps, progress):
                if interrupted:
                    break
                bar.set_description(phase.name)
                interrupted = self._phase(phase, batches, progress, checkpoints, checkpoint, bar)
                checkpoint = None
                if phase.name == "head":
                    progress.head_steps, progress.perplexity_before = progress.step, self._perplexities(evaluations)
                    if not interrupted:
                        progress.enter("encoder")
        after = self._perplexities(evaluations)
        for where, before in progress.perplexity_before.items():
            self.echo(f"perplexity, {where}: {before:.2f} before, {after[where]:.2f} after")
        return self._report(batches, progress, began, interrupted, after)

    def _planned_steps(self, batches: Batches) -> int:
        """The steps of the whole run, if the minutes allow."""
        settings = self.settings
        blocks = settings.passes * len(batches.blocks)
        if settings.tokens:
            blocks = min(blocks, settings.tokens / settings.length)
        steps = max(1, math.ceil(blocks / (batches.size * settings.accumulate)))
        return min(steps, settings.max_steps) if settings.max_steps else steps

    def _phases(self, steps: int, progress: Progress) -> Iterator[Phase]:
        """What is left of the run, each part as large as the one before has left it."""
        settings = self.settings
        share = settings.head_share if self.missing else 0.0
        if progress.phase == "head":
            head_steps = round(share * steps)
            head = head_parameters(self.model) if head_steps else []
            yield Phase("head", head, settings.head_learn_rate, head_steps, settings.minutes * share)
        left = max(1, steps - progress.head_steps)
        yield Phase("encoder", list(self.model.parameters()), settings.learn_rate, left, settings.minutes * (1 - share))

    def _phase(
        self, phase: Phase, batches: Batches, progress: Progress, checkpoints: Checkpoints, start: Optional[Path], bar: tqdm
    ) -> bool:
        """Train until the phase's budget is spent; RETURNS whether Ctrl-C ended it. start: the checkpoint it goes on from."""
        chosen = {id(parameter) for parameter in phase.parameters}
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in chosen)
        optimizer = self._optimizer(phase)
        if start is not None:
            load_optimizer(start, self.model, optimizer)
        self.model.train()
        forward = self.ranks.wrap(self.model) if phase.parameters else self.model
        saved = began = time.monotonic()
        done = progress.step
        try:
            while phase.spent(progress) < 1:
                stepped = time.monotonic()
                for group in optimizer.param_groups:
                    group["lr"] = phase.rate(progress, self.settings)
                loss = self._step(optimizer, batches, progress.step, phase.parameters, forward)
                progress.count(self.ranks.agree(time.monotonic() - stepped))
                bar.update()
                if bar.n % 10 == 0:
                    self._estimate(bar, phase, progress)
                    rate = (batches.blocks_before(bar.n) - batches.blocks_before(done)) * self.settings.length
                    bar.set_postfix_str(f"loss {loss:.3f}, {rate / (time.monotonic() - began):,.0f} tokens/s", refresh=False)
                if self._keeps and time.monotonic() - saved >= 60 * self.settings.checkpoint_minutes:
                    checkpoints.save(self.model, optimizer, progress)
                    saved = time.monotonic()
        except KeyboardInterrupt:
            self.echo("\ninterrupted: what was learned so far is evaluated and saved; the same command goes on from here")
            if self._keeps and progress.phase_step:
                checkpoints.save(self.model, optimizer, progress)
            return True
        finally:
            for parameter in self.model.parameters():
                parameter.requires_grad_(True)
        return False

    @property
    def _keeps(self) -> bool:
        """Whether this process writes checkpoints."""
        return self.settings.checkpoint_minutes > 0 and self.ranks.main

    def _optimizer(self, phase: Phase) -> torch.optim.Optimizer:
        decay = [p for p in phase.parameters if p.ndim > 1]
        plain = [p for p in phase.parameters if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": self.settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=phase.learn_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)

    def _step(
        self,
        optimizer: torch.optim.Optimizer,
        batches: Batches,
        step: int,
        parameters: List[nn.Parameter],
        forward: Optional[Callable[..., Any]] = None,
    ) -> float:
        """One step of the optimizer, over this process's share of each batch; RETURNS its loss.

        Dropout has the step's own seed, so that a resumed run draws the same.
        """
        several = self.settings.accumulate
        torch.manual_seed(seed_of(self.settings.seed, DROPOUT, step) + self.ranks.number)
        total = 0.0
        for number in range(step * several, (step + 1) * several):
            share, weight = share_of(batches[number], self.ranks.number, self.ranks.count)
            batch, attention = self._moved(share)
            with self.autocast():
                loss = masked_loss(self.model, batch, attention, forward) * (weight / several)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    def _estimate(self, bar: tqdm, phase: Phase, progress: Progress) -> None:
        """Where the time is what ends the phase: as many steps as it will do at this rate, for the time left on the bar."""
        if phase.minutes and phase.name == "encoder":
            expected = progress.phase_step / (progress.phase_seconds / (60 * phase.minutes))
            bar.total = progress.head_steps + min(phase.steps, max(progress.phase_step, round(expected)))

    def _report(self, batches: Batches, progress: Progress, began, interrupted: bool, after: Dict[str, float]) -> Dict:
        """began: the step and the seconds at which this process took over."""
        several, length = self.settings.accumulate, self.settings.length
        tokens = batches.blocks_before(progress.step * several) * length
        own = tokens - batches.blocks_before(began[0] * several) * length
        return {
            "steps": progress.step,
            "head_steps": progress.head_steps,
            "tokens": tokens,
            "passes": tokens / (len(batches.blocks) * length),
            "seconds": round(progress.seconds, 1),
            "tokens_per_second": round(own / max(progress.seconds - began[1], 1e-9)),
            "precision": self.precision,
            "interrupted": interrupted,
            "perplexity_before": progress.perplexity_before,
            "perplexity_after": after,
        }

    def _fixed(self, blocks) -> List[Batch]:
        batches = fixed_batches(blocks, self.settings.eval_blocks, self.settings.batch_blocks, self.masks, self.pad_id)
        return [self._moved(batch) for batch in batches]

    def _moved(self, batch: Batch) -> Batch:
        masked, attention = batch
        moved = MaskedBatch(masked.pieces.to(self.device), masked.chosen.to(self.device), masked.targets.to(self.device))
        return moved, attention.to(self.device)

    def _perplexities(self, evaluations: Dict[str, List[Batch]]) -> Dict[str, float]:
        losses = {where: mean_loss(self.model, batches, self.autocast) for where, batches in evaluations.items()}
        return {where: math.exp(loss) if loss < 700 else math.inf for where, loss in losses.items()}

    def _save(self, out: Path, report: Dict) -> None:
        self.model.config._name_or_path = ""  # a path of this machine
        with replacing(out, "adapt.json") as folder:
            self.model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            (folder / "adapt.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def adapt(
    encoder: str,
    texts: List[str],
    out: Path,
    general: Optional[List[str]] = None,
    settings: Optional[AdaptSettings] = None,
    resume: bool = True,
    cleaning: Optional[CleanSettings] = None,
) -> Dict:
    """Continue the pretraining of `encoder` on `texts`; RETURNS the report.

    out (Path): the Hugging Face folder to write (weights with their masked-LM head, tokenizer, adapt.json).
    RAISES (UserError): no text, no masked-LM form, a setting out of range.
    """
    return Adaptation(encoder, settings or AdaptSettings()).run(texts, general or [], out, resume, cleaning)
