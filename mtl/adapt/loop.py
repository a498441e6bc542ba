"""A run of continued pretraining: read, train, report, save."""

import json
import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from transformers import PreTrainedTokenizerFast

from mtl.adapt.batches import Batch, Batches, fixed_batches, moved
from mtl.adapt.blocks import BlockSettings, Corpus, count_words_pieces, load_corpus
from mtl.adapt.checkpoint import Checkpoints, shape_of
from mtl.adapt.cleaning import CleanSettings
from mtl.adapt.probe import Probe
from mtl.adapt.ranks import Ranks
from mtl.adapt.replaced import load_replaced, replaced_loss
from mtl.adapt.settings import AdaptSettings
from mtl.adapt.trainer import Trainer
from mtl.adapt.watch import DOMAIN, GENERAL, Watch
from mtl.encoder.limits import faster_in_bf16, real_length
from mtl.encoder.lora import add_lora, merge_lora
from mtl.encoder.masking import MaskSettings
from mtl.encoder.mlm import Loss, load_mlm, masked_loss, mean_loss
from mtl.encoder.sources import load_tokenizer
from mtl.errors import UserError
from mtl.files import check_target, replacing

REPLAY_HELD_OUT = 0.2  # of general text, to measure on, where the rest is replayed


class Adaptation:
    """One run: its model, its data, its settings."""

    def __init__(self, encoder: str, settings: AdaptSettings, echo: Callable[[str], None] = print) -> None:
        settings.check()
        self.settings, self.ranks = settings, Ranks(settings.device)
        self.echo: Callable[[str], None] = echo if self.ranks.main else lambda _: None
        self.tokenizer: PreTrainedTokenizerFast = load_tokenizer(encoder)
        mask_id = self.tokenizer.mask_token_id
        automatic = "replaced" if settings.generator else "next" if mask_id is None else "words"
        self.objective = objective = automatic if settings.objective == "auto" else settings.objective
        if objective != "next" and mask_id is None:
            raise UserError(
                f"encoder {encoder!r}: its tokenizer has no mask token, which objective = {objective!r} needs; "
                f'for a decoder set objective = "next"'
            )
        torch.manual_seed(settings.seed)  # the head that a checkpoint lacks starts at random
        self.loss_of: Loss
        self.model: Any
        if objective == "replaced":
            (self.model, self.missing), self.loss_of = load_replaced(encoder, settings.generator, self.tokenizer), replaced_loss
        else:
            (self.model, self.missing), self.loss_of = load_mlm(encoder, causal=objective == "next"), masked_loss
        longest = real_length(self.model.base_model, self.model.config)
        if settings.length > longest:
            raise UserError(f"length = {settings.length} is more than the encoder's {longest} wordpieces")
        self.device = self.ranks.device
        if settings.lora:
            add_lora(self.model.base_model, settings.lora)
        self.model.to(self.device)
        if settings.gradient_checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        fastest = "bf16" if settings.precision == "auto" and self.ranks.agree(faster_in_bf16(self.device)) else "fp32"
        self.precision = fastest if settings.precision == "auto" else settings.precision
        self.masks = MaskSettings(-1 if mask_id is None else mask_id, len(self.tokenizer), settings.rate, kind=objective)
        if objective == "replaced":
            self.masks = replace(self.masks, kind="words", masked=1.0, random=0.0)
        self.pad_id = -1 if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id

    def autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def run(
        self, texts: List[str], general: List[str], out: Path, resume: bool = True, cleaning: Optional[CleanSettings] = None,
        probe: Optional[Probe] = None,
    ) -> Dict:  # fmt: skip
        """Read, train, evaluate and save; RETURNS the report that is also written to `out/adapt.json`.

        general: text of which a share is mixed in, so that less is forgotten, and the rest measures what is. Beside `out` lie,
        until the run ends, its checkpoints (`NAME.checkpoints`), and the tokenised text (`blocks`), which later runs read again.
        resume: go on from the newest checkpoint, if an earlier run of the same kind left one. cleaning: of the domain text.
        probe: says which weights are best, in place of the loss on what is held out.
        """
        settings = self.settings
        settings.check_general(bool(general))
        check_target(out, "adapt.json")
        corpus, other = self._read(texts, general, out.parent / "blocks", cleaning)
        keys = [one.key for one in (corpus, other) if one is not None]
        identity = {"model": list(shape_of(self.model)), "text": keys, "probe": probe and probe.key, **settings.of_the_run()}
        checkpoints = Checkpoints(out.with_name(out.name + ".checkpoints"), settings.keep, identity)
        if not resume and self.ranks.main:
            checkpoints.remove()
        self.ranks.wait()
        trainer = self.trainer(corpus, other, checkpoints, probe)
        trainer.train()
        if settings.lora:
            merge_lora(self.model.base_model)
        report = {
            **trainer.report(),
            "precision": self.precision,
            "objective": self.objective,
            "cleaning": corpus.cleaning,
            "settings": {**asdict(settings), "generator": Path(settings.generator).name},
        }
        report |= {"documents": corpus.documents, "words": corpus.words, "held_out_documents": corpus.held_documents}
        if self.objective != "replaced":  # which tells nothing of a text's probability
            assert corpus.held is not None
            bits = math.log2(report["perplexity_after"][DOMAIN])
            report["bits_per_byte"] = bits * count_words_pieces(corpus.held) / corpus.held_bytes
        self._say(report)
        if self.ranks.main:
            self._save(out, report)
            if not trainer.interrupted:
                checkpoints.remove()
        self.ranks.wait()
        return report

    def _read(
        self, texts: List[str], general: List[str], cache: Path, cleaning: Optional[CleanSettings]
    ) -> Tuple[Corpus, Optional[Corpus]]:
        settings = self.settings
        read = partial(load_corpus, tokenizer=self.tokenizer, cache=cache, echo=self.echo)
        apart = REPLAY_HELD_OUT if settings.replay else 0.0  # without replay all of it is measured on
        with self.ranks.main_first():
            corpus = read(texts, settings=BlockSettings(settings.length, settings.held_out, settings.seed), cleaning=cleaning)
            other = read(general, settings=BlockSettings(settings.length, apart, settings.seed)) if general else None
        self.echo(
            f"{corpus.documents:,} documents, {corpus.words:,} words: {corpus.held_documents:,} held out, the rest "
            f"{len(corpus.train):,} blocks of {settings.length} wordpieces; {self.precision} on {self.device.type}"
        )
        return corpus, other

    def trainer(
        self, corpus: Corpus, general: Optional[Corpus], checkpoints: Checkpoints, probe: Optional[Probe] = None
    ) -> Trainer:
        """What trains on the corpus, and measures on what is held out of it and of general text."""
        settings = self.settings
        measured = {DOMAIN: self._fixed(corpus.held)}
        if general is not None:
            measured[GENERAL] = self._fixed(general.held if settings.replay else general.train)
        replay = general.train if general is not None and settings.replay else None
        batches = Batches(corpus.train, settings.batch_blocks, self.masks, self.pad_id, settings.seed, replay, settings.replay)
        often, most = settings.evaluations, settings.max_forgetting
        probed = None if probe is None else partial(probe.scores, self.model.base_model)
        watch = Watch(partial(self._losses, measured), checkpoints, often, most, writes=self.ranks.main, probe=probed)
        return Trainer(
            self.model,
            bool(self.missing),
            settings,
            self.ranks,
            batches,
            watch,
            checkpoints,
            self.autocast,
            self.loss_of,
            self.echo,
        )

    def losses(self, measured: Dict[str, str], cache: Path) -> Dict[str, float]:
        """The encoder's losses as it is: nats a masked wordpiece, for each of the `measured` text files, by name."""
        whole = BlockSettings(self.settings.length, 0.0, self.settings.seed)
        corpora = {name: load_corpus([file], self.tokenizer, whole, cache, self.echo) for name, file in measured.items()}
        return self._losses({name: self._fixed(corpus.train) for name, corpus in corpora.items()})

    def _fixed(self, blocks: Any) -> List[Batch]:
        batches = fixed_batches(blocks, self.settings.eval_blocks, self.settings.batch_blocks, self.masks, self.pad_id)
        return [moved(batch, self.device) for batch in batches]

    def _losses(self, measured: Dict[str, List[Batch]]) -> Dict[str, float]:
        return {where: mean_loss(self.model, batches, self.autocast, self.loss_of) for where, batches in measured.items()}

    def _say(self, report: Dict[str, Any]) -> None:
        for where, before in report["perplexity_before"].items():
            self.echo(f"perplexity, {where}: {before:.2f} before, {report['perplexity_after'][where]:.2f} after")
        if report["stopped"]:
            self.echo(f"stopped: {report['stopped']}")
        if report["best_step"] < report["steps"]:
            start = report["best_step"] == report["head_steps"]
            which = "the encoder's own, before its training" if start else f"those of step {report['best_step']:,}"
            where = "by the probe" if "probe" in report["evaluations"][0] else "on held-out text"
            self.echo(f"the best weights {where} are {which}; they are what is saved")

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
