"""A run of continued pretraining: read, train, report, save."""

import json
import math
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from mtl import distributed
from mtl.adaptation.batches import BlockBatch, TrainingBatches
from mtl.adaptation.blocks import BlockSettings, Corpus, count_word_subwords, load_corpus
from mtl.adaptation.checkpoint import AdaptCheckpoints, model_identity
from mtl.adaptation.cleaning import CleanSettings
from mtl.adaptation.monitor import DOMAIN, GENERAL, Monitor, perplexities
from mtl.adaptation.objective import Objective, load_objective
from mtl.adaptation.probe import Probe
from mtl.adaptation.settings import AdaptSettings
from mtl.adaptation.trainer import Trainer
from mtl.adaptation.watch import default_rate
from mtl.files import check_target, replacing, workplace
from mtl.progress import Echo, silent

GENERAL_VALIDATION_SPLIT = 0.2  # of general text, to evaluate on, if the rest is replayed


def adapt(
    encoder: str,
    texts: Sequence[str],
    out: Union[str, Path],
    *,
    general: Optional[Sequence[str]] = None,
    settings: Optional[AdaptSettings] = None,
    cleaning: Optional[CleanSettings] = None,
    probe: Optional[Probe] = None,
    resume: bool = True,
    echo: Echo = print,
) -> Dict[str, Any]:
    """Continue the pretraining of an encoder on domain text.

    Until the run ends, its checkpoints are in `NAME.checkpoints` beside `out`; Ctrl-C saves what was learned, and the same call
    resumes. The tokenized text stays in `blocks` beside `out`, where later runs find it. Under `torchrun` the processes train
    together.

    Args:
        encoder (str): A Hugging Face folder or a name on the hub.
        texts (Sequence[str]): Domain text: .txt, .jsonl (also gzipped), .parquet or .spacy files, folders or patterns.
        out (Union[str, Path]): The Hugging Face folder to write: the weights with their language-model head, the tokenizer, and
            the report as adapt.json.
        general (Optional[Sequence[str]]): General text, to mix in and to measure forgetting on.
        settings (Optional[AdaptSettings]): How to train; the defaults if None.
        cleaning (Optional[CleanSettings]): How to clean the domain text first; None to leave it as it is.
        probe (Optional[Probe]): Decides which weights are best, instead of the loss on held-out text.
        resume (bool): Resume from the newest checkpoint of an unfinished run, if there is one.
        echo (Echo): Shows messages.

    Returns:
        Dict[str, Any]: The report: steps, tokens, epochs, perplexity before and after, evaluations, settings.

    Raises:
        UserError: There is no text, a setting is out of range, or the objective does not fit the encoder.
    """
    distributed.init()
    adaptation = Adaptation(encoder, settings or AdaptSettings(), echo)
    return adaptation.run(texts, Path(out), general=general or (), cleaning=cleaning, probe=probe, resume=resume)


class Adaptation:
    """One run: it loads the objective, reads the text, trains, reports and saves. See `adapt`.

    Args:
        encoder (str): A Hugging Face folder or a name on the hub.
        settings (AdaptSettings): How to train.
        echo (Echo): Shows messages, from rank 0 only.

    Attributes:
        objective (Objective): The model and its loss.

    Raises:
        UserError: A setting is out of range, or the objective does not fit the encoder.
    """

    def __init__(self, encoder: str, settings: AdaptSettings, echo: Echo = print) -> None:
        self.objective = load_objective(encoder, settings)
        width = self.objective.model.config.hidden_size
        self.settings = settings = replace(settings, learning_rate=settings.learning_rate or default_rate(width))
        self.echo: Echo = echo if distributed.is_main() else silent

    def run(
        self,
        texts: Sequence[str],
        out: Path,
        *,
        general: Sequence[str] = (),
        cleaning: Optional[CleanSettings] = None,
        probe: Optional[Probe] = None,
        resume: bool = True,
    ) -> Dict[str, Any]:
        """Read, train, evaluate and save. Arguments and report are those of `adapt`."""
        settings, objective = self.settings, self.objective
        settings.check_general(bool(general))
        check_target(out, "adapt.json")
        work = workplace(out)
        corpus, general_corpus = self.read(texts, general, work / "blocks", cleaning)
        keys = [part.key for part in (corpus, general_corpus) if part is not None]
        identity = {
            "model": list(model_identity(objective.model)), "text": keys, "probe": probe and probe.key, **settings.identity()
        }  # fmt: skip
        checkpoints = AdaptCheckpoints(work / f"{out.name}.checkpoints", identity, settings.save_total_limit)
        if not resume and distributed.is_main():
            checkpoints.remove()
        distributed.barrier()
        trainer = self.trainer(corpus, general_corpus, checkpoints, probe)
        trainer.train()
        report = make_report(trainer, corpus)
        objective.merge_lora()
        self._show(report)
        if distributed.is_main():
            with replacing(out, "adapt.json") as folder:
                objective.save(folder)
                (folder / "adapt.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            if not trainer.interrupted:
                checkpoints.remove()
        distributed.barrier()
        return report

    def read(
        self, texts: Sequence[str], general: Sequence[str], cache: Path, cleaning: Optional[CleanSettings] = None
    ) -> Tuple[Corpus, Optional[Corpus]]:
        """Read domain and general text.

        Args:
            texts (Sequence[str]): Domain text.
            general (Sequence[str]): General text; may be empty.
            cache (Path): The folder of tokenized text.
            cleaning (Optional[CleanSettings]): How to clean the domain text.

        Returns:
            Tuple[Corpus, Optional[Corpus]]: Domain text, and general text if there is any.
        """
        settings = self.settings
        read = partial(load_corpus, tokenizer=self.objective.tokenizer, cache=cache, echo=self.echo)
        domain_blocks = BlockSettings(settings.block_size, settings.validation_split, settings.seed)
        general_split = GENERAL_VALIDATION_SPLIT if settings.replay_ratio else 0.0  # without replay all of it is evaluated on
        general_blocks = BlockSettings(settings.block_size, general_split, settings.seed)
        with distributed.main_process_first():
            corpus = read(texts, settings=domain_blocks, cleaning=cleaning)
            general_corpus = read(general, settings=general_blocks) if general else None
        self.echo(
            f"{corpus.documents:,} documents, {corpus.words:,} words: {corpus.held_out_documents:,} documents held out, "
            f"{len(corpus.train):,} blocks of {settings.block_size} subwords to train on; "
            f"{self.objective.precision} on {self.objective.device.type}"
        )
        return corpus, general_corpus

    def trainer(
        self, corpus: Corpus, general: Optional[Corpus], checkpoints: AdaptCheckpoints, probe: Optional[Probe] = None
    ) -> Trainer:
        """The trainer of the run.

        Args:
            corpus (Corpus): Domain text: trained on, and evaluated on where held out.
            general (Optional[Corpus]): General text: evaluated on, and partly replayed.
            checkpoints (AdaptCheckpoints): Where to resume from and what to write.
            probe (Optional[Probe]): Decides which weights are best.
        """
        settings, objective = self.settings, self.objective
        replay = general.train if general is not None and settings.replay_ratio else None
        evaluated = {DOMAIN: corpus.held_out}
        if general is not None:
            evaluated[GENERAL] = general.held_out if settings.replay_ratio else general.train
        held_out = {
            name: objective.evaluation_batches(blocks, settings.eval_blocks, settings.batch_size)
            for name, blocks in evaluated.items()
        }
        batches = TrainingBatches(
            corpus.train, settings.batch_size, objective.masks, objective.pad_id, settings.seed, replay, settings.replay_ratio
        )
        measure = partial(evaluate_objective, objective, held_out, probe)
        monitor = Monitor(measure, checkpoints, settings.num_evaluations, settings.max_forgetting)
        return Trainer(objective, batches, monitor, checkpoints, settings, self.echo)

    def _show(self, report: Dict[str, Any]) -> None:
        for text, before in report["perplexity_before"].items():
            self.echo(f"perplexity, {text}: {before:.2f} before, {report['perplexity_after'][text]:.2f} after")
        for line in (report["stopped"] and f"stopped: {report['stopped']}", report["advice"] and f"note: {report['advice']}"):
            if line:
                self.echo(line)
        if report["best_step"] < report["steps"]:
            is_start = report["best_step"] == report["head_steps"]
            which = "the encoder's own, from before its training" if is_start else f"those of step {report['best_step']:,}"
            criterion = "the probe" if "probe" in report["evaluations"][0] else "held-out text"
            self.echo(f"saving the weights that are best on {criterion}: {which}")


def evaluate_objective(
    objective: Objective, held_out: Dict[str, List[BlockBatch]], probe: Optional[Probe] = None
) -> Dict[str, Any]:
    """Evaluate a model as it is.

    Args:
        objective (Objective): The model and its loss.
        held_out (Dict[str, List[BlockBatch]]): Batches of each text, by name.
        probe (Optional[Probe]): Scores the tasks.

    Returns:
        Dict[str, Any]: "losses" by text, and with a probe "probe", scores by task.
    """
    evaluation: Dict[str, Any] = {"losses": objective.losses(held_out)}
    if probe is not None:
        evaluation["probe"] = probe.scores(objective.model.base_model)
    return evaluation


def make_report(trainer: Trainer, corpus: Corpus) -> Dict[str, Any]:
    """The report of a finished run, as adapt.json has it. All numbers are of all ranks together, except the speed."""
    progress, settings, objective, batches = trainer.progress, trainer.settings, trainer.objective, trainer.batches
    best = trainer.monitor.best(progress)
    batch_count = progress.step * settings.gradient_accumulation_steps
    report: Dict[str, Any] = {
        "steps": progress.step,
        "head_steps": progress.head_steps,
        "best_step": best["step"],
        "tokens": batches.blocks_before(batch_count) * settings.block_size,
        "epochs": batches.domain_blocks_before(batch_count) / len(batches.blocks),
        "seconds": round(progress.seconds, 1),
        "tokens_per_second": round(trainer.tokens_per_second()),
        "interrupted": trainer.interrupted,
        "stopped": progress.stopped,
        "advice": trainer.judge_rate(),
        "evaluations": progress.evaluations,
        "perplexity_before": perplexities(progress.evaluations[0]["losses"]),
        "perplexity_after": perplexities(best["losses"]),
        "precision": objective.precision,
        "objective": objective.name,
        "cleaning": corpus.cleaning,
        "settings": {**asdict(settings), "generator": Path(settings.generator).name},
        "documents": corpus.documents,
        "words": corpus.words,
        "held_out_documents": corpus.held_out_documents,
    }
    if objective.predicts_text:
        assert corpus.held_out is not None
        bits = math.log2(report["perplexity_after"][DOMAIN])
        report["bits_per_byte"] = bits * count_word_subwords(corpus.held_out) / corpus.held_out_bytes
    return report
