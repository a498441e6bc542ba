"""The training loop of continued pretraining: budget, schedule, progress, report."""

import json
import math
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from mtl.adapt.masking import MaskedBatch, MaskSettings, mask_words
from mtl.adapt.mlm import head_parameters, load_mlm, masked_loss, mean_loss, start_at_frequencies
from mtl.adapt.text import pack_blocks, read_documents, split_documents
from mtl.encoder.limits import faster_in_bf16, pick_device, real_length
from mtl.encoder.sources import load_tokenizer
from mtl.errors import UserError, check_choice, check_range
from mtl.files import check_target, replacing

EVALUATION_SEED = 15
EVALUATION_RATE = 0.15


@dataclass
class AdaptSettings:
    """How to continue pretraining. A budget ends the run at whichever of passes, steps and minutes comes first."""

    passes: float = 3.0
    max_steps: int = 0  # 0: no limit
    minutes: float = 0.0  # 0: no limit; covers the encoder's training, not reading and evaluation
    length: int = 128  # wordpieces a block
    batch_blocks: int = 16
    learn_rate: float = 1e-4
    head_learn_rate: float = 2e-3  # while the head alone is trained
    head_share: float = 0.3  # of the budget, spent on the head alone where the checkpoint has none
    warmup: float = 0.06
    weight_decay: float = 0.01
    rate: float = 0.15
    held_out: float = 0.05
    precision: str = "auto"  # "fp32", "bf16"; auto: bf16 where it measures faster
    device: str = "auto"
    seed: int = 0
    eval_blocks: int = 200

    def check(self) -> None:
        """RAISES (UserError): a setting is out of range; it is named with what is allowed."""
        check_choice("precision", self.precision, ("auto", "fp32", "bf16"))
        check_range("passes", self.passes, 0.001)
        check_range("max-steps", self.max_steps, 0)
        check_range("minutes", self.minutes, 0)
        check_range("learn-rate", self.learn_rate, 0.0)
        check_range("length", self.length, 16)
        check_range("batch-blocks", self.batch_blocks, 1)
        check_range("rate", self.rate, 0.01, 0.9)
        check_range("held-out", self.held_out, 0.001, 0.5)
        check_range("head-share", self.head_share, 0.0, 0.9)


Batch = Tuple[MaskedBatch, torch.Tensor]


class Adaptation:
    """One run: its model, its data, its settings."""

    def __init__(self, encoder: str, settings: AdaptSettings, echo: Callable[[str], None] = print) -> None:
        settings.check()
        self.settings, self.echo = settings, echo
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
        self.device = pick_device(settings.device)
        self.model.to(self.device)
        self.bf16 = settings.precision == "bf16" or (settings.precision == "auto" and faster_in_bf16(self.device))
        self.planned = 0  # steps, if the minutes allow
        self.masks = MaskSettings(self.tokenizer.mask_token_id, len(self.tokenizer), rate=settings.rate)

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def run(self, texts: List[str], general: List[str], out: Path) -> Dict:
        """Read, train, evaluate and save; RETURNS the report that is also written to `out/adapt.json`."""
        settings = self.settings
        check_target(out, "adapt.json")
        documents = read_documents(texts)
        train, held = split_documents(documents, settings.held_out, settings.seed)
        with tempfile.TemporaryDirectory(prefix="mtl-adapt-") as cache:
            pack = partial(pack_blocks, tokenizer=self.tokenizer, length=settings.length, cache=cache)
            blocks, held_blocks = pack(train), pack(held)
            evaluations = {"in-domain": self._fixed(held_blocks)}
            if general:
                evaluations["general"] = self._fixed(pack(read_documents(general)))
            words = sum(len(text.split()) for text in documents)
            self.echo(
                f"{len(documents):,} documents, {words:,} words; {len(train):,} to train on ({len(blocks):,} blocks of "
                f"{settings.length} wordpieces), {len(held):,} held out; {'bf16' if self.bf16 else 'fp32'} on {self.device.type}"
            )
            if self.missing:
                pieces = torch.from_numpy(np.concatenate(list(blocks["pieces"])))
                start_at_frequencies(self.model, torch.bincount(pieces, minlength=self.model.config.vocab_size))
            report = self._train(blocks, evaluations)
        if not all(map(math.isfinite, report["perplexity_after"].values())):
            raise UserError(
                f"learn-rate = {settings.learn_rate} is too high: the loss has gone out of bounds. Nothing was saved to {out}"
            )
        if not report["steps"]:
            raise UserError(f"interrupted before the first step: nothing was learned, and nothing was saved to {out}")
        report |= {"documents": len(documents), "words": words, "held_out_documents": len(held), "settings": asdict(settings)}
        self._save(out, report)
        return report

    def _train(self, blocks: Dataset, evaluations: Dict[str, List[Batch]]) -> Dict:
        settings = self.settings
        steps = max(1, math.ceil(settings.passes * len(blocks) / settings.batch_blocks))
        steps = min(steps, settings.max_steps) if settings.max_steps else steps
        self.planned = steps
        stream = self._batches(blocks)
        head_steps = round(settings.head_share * steps) if self.missing else 0
        started = time.monotonic()
        seldom = 0.1 if sys.stderr.isatty() else 10.0  # seconds between lines, which a log file keeps
        with tqdm(total=steps, unit="step", dynamic_ncols=True, desc="adapt", mininterval=seldom) as bar:
            interrupted = False
            if head_steps:
                bar.set_description("head")
                minutes = settings.minutes * settings.head_share
                interrupted = self._steps(stream, head_steps, head_parameters(self.model), settings.head_learn_rate, minutes, bar)
            before = self._perplexities(evaluations)
            bar.set_description("adapt")
            if not interrupted:
                left = max(1, steps - bar.n)
                minutes = settings.minutes * (1 - settings.head_share if head_steps else 1)
                interrupted = self._steps(stream, left, list(self.model.parameters()), settings.learn_rate, minutes, bar)
            done = bar.n
        seconds = time.monotonic() - started
        after = self._perplexities(evaluations)
        tokens = done * settings.batch_blocks * settings.length
        for where in before:
            self.echo(f"perplexity, {where}: {before[where]:.2f} before, {after[where]:.2f} after")
        return {
            "steps": done,
            "head_steps": min(head_steps, done),
            "tokens": tokens,
            "passes": tokens / (len(blocks) * settings.length),
            "seconds": round(seconds, 1),
            "tokens_per_second": round(tokens / seconds),
            "precision": "bf16" if self.bf16 else "fp32",
            "interrupted": interrupted,
            "perplexity_before": before,
            "perplexity_after": after,
        }

    def _steps(self, stream, steps: int, parameters, learn_rate: float, minutes: float, bar: tqdm) -> bool:
        """Train `parameters` for `steps` steps or `minutes`; RETURNS whether Ctrl-C ended it."""
        chosen = {id(p) for p in parameters}
        for parameter in self.model.parameters():
            parameter.requires_grad_(id(parameter) in chosen)
        decay = [p for p in parameters if p.ndim > 1]
        plain = [p for p in parameters if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": self.settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=learn_rate, betas=(0.9, 0.98), eps=1e-6, fused=True)
        started = time.monotonic()
        self.model.train()
        try:
            for step in range(steps):
                spent = (time.monotonic() - started) / (60 * minutes) if minutes else 0.0
                progress = max(step / steps, spent)
                if progress >= 1:
                    break
                for group in optimizer.param_groups:
                    group["lr"] = learn_rate * min((step + 1) / (self.settings.warmup * steps + 1), 1.0 - progress)
                batch, attention = next(stream)
                with self.autocast():
                    loss = masked_loss(self.model, batch, attention)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                bar.update()
                if bar.n % 10 == 0:
                    self._estimate(bar)
                    rate = batch.pieces.numel() * (step + 1) / (time.monotonic() - started)
                    bar.set_postfix_str(f"loss {loss.item():.3f}, {rate:,.0f} tokens/s", refresh=False)
        except KeyboardInterrupt:
            self.echo("\ninterrupted: what was learned so far is evaluated and saved")
            return True
        finally:
            for parameter in self.model.parameters():
                parameter.requires_grad_(True)
        return False

    def _estimate(self, bar: tqdm) -> None:
        """Where the time is what ends the run: as many steps as it will do at this rate, for the time left on the bar."""
        if self.settings.minutes:
            spent = (time.time() - bar.start_t) / (60 * self.settings.minutes)
            bar.total = min(self.planned, max(bar.n, round(bar.n / spent)))

    def _batches(self, blocks: Dataset) -> Iterator[Batch]:
        """Shuffled passes without end, masks drawn anew each time."""
        generator = torch.Generator().manual_seed(self.settings.seed)
        size = min(self.settings.batch_blocks, len(blocks))
        while True:
            order = torch.randperm(len(blocks), generator=generator)
            for start in range(0, len(blocks), size):
                yield self._mask(blocks[order[start : start + size].tolist()], self.masks, generator)

    def _fixed(self, blocks: Dataset) -> List[Batch]:
        """Evaluation batches with the same masks every time, at the same rate whatever the training rate is."""
        generator = torch.Generator().manual_seed(EVALUATION_SEED)
        masks = MaskSettings(self.masks.mask_id, self.masks.vocab_size, rate=EVALUATION_RATE)
        rows = np.linspace(0, len(blocks) - 1, min(len(blocks), self.settings.eval_blocks)).astype(int)
        groups = np.array_split(rows, math.ceil(len(rows) / self.settings.batch_blocks))
        return [self._mask(blocks[group.tolist()], masks, generator) for group in groups]

    def _mask(self, rows: Dict[str, np.ndarray], masks: MaskSettings, generator: torch.Generator) -> Batch:
        pieces = torch.from_numpy(np.stack(list(rows["pieces"]))).long()
        words = torch.from_numpy(np.stack(list(rows["words"]))).long()
        batch = mask_words(pieces, words, masks, generator)
        attention = torch.ones_like(pieces)
        if self.tokenizer.pad_token_id is not None:
            attention = (pieces != self.tokenizer.pad_token_id).long()
        moved = MaskedBatch(batch.pieces.to(self.device), batch.chosen.to(self.device), batch.targets.to(self.device))
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
    encoder: str, texts: List[str], out: Path, general: Optional[List[str]] = None, settings: Optional[AdaptSettings] = None
) -> Dict:
    """Continue the pretraining of `encoder` on `texts`; RETURNS the report.

    out (Path): the Hugging Face folder to write (weights with their masked-LM head, tokenizer, adapt.json).
    RAISES (UserError): no text, no masked-LM form, a setting out of range.
    """
    return Adaptation(encoder, settings or AdaptSettings()).run(texts, general or [], out)
