"""Training runs of a comparison: one config under changed settings, and its scores. Finished runs are not repeated."""

import hashlib
import json
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from spacy.language import Language
from spacy.util import load_config, registry, resolve_dot_names
from spacy.vocab import Vocab
from thinc.api import Config, ConfigValidationError, fix_random_seed

from mtl import compat
from mtl.compare.differences import with_mean
from mtl.data.docs import docbin_files, load_docbin, read_docs, write_docs
from mtl.encoder.component import Transformer
from mtl.encoder.pretrained.sources import resolve_encoder
from mtl.errors import UserError, check_range
from mtl.files import read_json, replacing, sha256_of, write_json
from mtl.progress import Echo, StepProgress
from mtl.training.checkpoint import flat_settings
from mtl.training.evaluation import evaluate_pipeline
from mtl.training.initialize import init_pipeline
from mtl.training.logger import means, statistics_of, words_seen

Result = Dict[str, Any]  # see `Runs.result`
Variant = Callable[[Config, str], Config]  # from a config and the name of a variant to the changed config


@dataclass(frozen=True)
class CompareSettings:
    """How many runs a comparison has.

    Args:
        seeds (int): Number of seeds, counted from 0.
        label_fractions (Sequence[float]): Fractions of the labelled documents to train on.
        stop_early (bool): Train no more seeds of what is clearly better or worse.
    """

    seeds: int = 3
    label_fractions: Sequence[float] = (0.1, 1.0)
    stop_early: bool = False

    def check(self) -> None:
        """Check every setting.

        Raises:
            UserError: One is out of range.
        """
        check_range("seeds", self.seeds, 1)
        if not self.label_fractions:
            raise UserError("label-fractions: give at least one fraction, as in 0.1,1")
        for fraction in self.label_fractions:
            check_range("label-fractions", fraction, 0.001, 1.0)


@dataclass(frozen=True)
class TrainingRun:
    """One run of a comparison.

    Args:
        arm (str): Which of the compared ways this is.
        seed (int): Seed of the run.
        label_fraction (float): Fraction of the labelled documents to train on.
        changes (Dict[str, Any]): Settings of the config to change, by dotted name.
        variant (str): Name of a change that settings cannot express, such as the head that is trained alone; "" for none.
        keep (bool): Save the pipeline: see `Runs.pipeline_folder`.
        teachers (Optional[Dict[str, TrainingRun]]): Head -> the run whose pipeline teaches it.
    """

    arm: str
    seed: int
    label_fraction: float
    changes: Dict[str, Any]
    variant: str = ""
    keep: bool = False
    teachers: Optional[Dict[str, "TrainingRun"]] = None


class Runs:
    """Runs of one config, scored on the same data. Each result is a file in `folder`, so a stopped comparison can resume.

    Args:
        config (Path): The training config.
        data (Sequence[Path]): Converted files or folders to score on.
        folder (Path): Where results and intermediate files go.
        overrides (Optional[Dict[str, Any]]): Settings of the config to change in all runs, by dotted name.

    Raises:
        UserError: The config, its training data or the data to score on is missing.
    """

    def __init__(self, config: Path, data: Sequence[Path], folder: Path, overrides: Optional[Dict[str, Any]] = None) -> None:
        if not config.is_file():
            raise UserError(f"{config}: no such file; give a training config")
        self.config, self.data, self.folder, self.overrides = config, list(data), folder, overrides or {}
        try:
            self.settings = self.load_config({})
        except ConfigValidationError as error:
            raise UserError(f"{config}: {' '.join(str(error).split())}") from None
        self.train_files = {key: docbin_files(path) for key, path in self._train_paths().items()}
        self.documents = {key: sum(len(load_docbin(file)) for file in files) for key, files in self.train_files.items()}
        test_files = [file for path in self.data for file in docbin_files(path)]
        hashes = {key: [sha256_of(file) for file in files] for key, files in self.train_files.items()}
        self._identity = {"config": sha256_of(config), "data": [sha256_of(file) for file in test_files], **hashes}
        self._identity |= self.overrides
        folder.mkdir(parents=True, exist_ok=True)

    def load_config(self, changes: Dict[str, Any]) -> Config:
        """The config with the overrides and these changes, interpolated."""
        return load_config(self.config, overrides={**self.overrides, **changes}, interpolate=True)

    def _train_paths(self) -> Dict[str, str]:
        """Dotted setting -> the training file or folder it names."""
        corpus = self.settings["training"].get("train_corpus", "corpora.train")
        section: Any = self.settings
        for part in corpus.split("."):
            section = section.get(part, {})
        paths = {f"{corpus}.paths.{task}": path for task, path in section.get("paths", {}).items()}
        if isinstance(section.get("path"), str):
            paths[f"{corpus}.path"] = section["path"]
        unset = [key for key, path in paths.items() if not path]
        if unset or not paths:
            setting = unset[0] if unset else f"[{corpus}] paths"
            raise UserError(f"{self.config}: {setting} is not set; a .spacy file or folder is needed")
        return paths

    def encoder_setting(self) -> str:
        """The dotted name of the setting that names the encoder to start from.

        Raises:
            UserError: There is none.
        """
        components = self.settings.get("initialize", {}).get("components", {})
        for name, section in components.items():
            if "name" in section.get("encoder_loader", {}):
                return f"initialize.components.{name}.encoder_loader.name"
        raise UserError(
            f"{self.config}: no component in [initialize.components] has an encoder_loader, so no encoder can be changed"
        )

    def encoder(self) -> str:
        """The encoder that the config names."""
        return str(flat_settings(self.settings)[self.encoder_setting()])

    def results(
        self, plan: Sequence[TrainingRun], contents: Dict[str, Dict[str, Any]], variant_of: Optional[Variant], echo: Echo,
        is_decided: Optional[Callable[[TrainingRun, List[Result]], bool]] = None,
    ) -> List[Result]:  # fmt: skip
        """Do all runs that are not done yet, with a message for each.

        Args:
            plan (Sequence[TrainingRun]): The runs.
            contents (Dict[str, Dict[str, Any]]): By arm: see `result`.
            variant_of (Optional[Variant]): See `result`.
            echo (Echo): Gets messages.
            is_decided (Optional[Callable]): Whether a run is not needed any more, given the results so far.

        Returns:
            List[Result]: The result of each run that was needed.
        """
        results: List[Result] = []
        for number, run in enumerate(plan, start=1):
            labels = f"{run.label_fraction:.0%} of the labels, seed {run.seed}"
            if is_decided is not None and is_decided(run, results):
                echo(f"{number:>3} of {len(plan)}  {run.arm}, {labels}:  not needed")
                continue
            result = self.result(run, contents.get(run.arm, {}), variant_of)
            results.append(result)
            minutes_left = sum(done["minutes"] for done in results) / len(results) * (len(plan) - number)
            scores = "  ".join(f"{key} {100 * value:.1f}" for key, value in result["scores"].items())
            echo(f"{number:>3} of {len(plan)}  {run.arm}, {labels}:  {scores}  (about {minutes_left:.0f} min left)")
        return results

    def result(self, run: TrainingRun, contents: Dict[str, Any], variant_of: Optional[Variant] = None) -> Result:
        """Do a run, or read its result if it is done.

        Args:
            run (TrainingRun): The run.
            contents (Dict[str, Any]): For a changed setting that names a file or folder, what identifies its content.
            variant_of (Optional[Variant]): Makes the config of the run's variant.

        Returns:
            Result: "arm", "seed", "label_fraction", "scores", "statistics" of the weighting, "minutes".
        """
        file = self.folder / "runs" / f"{self._name(run, contents)}.json"
        if file.exists() and (not run.keep or self.pipeline_folder(run).exists()):
            return read_json(file)
        started = time.perf_counter()
        result = {
            "arm": run.arm, "seed": run.seed, "label_fraction": run.label_fraction, **self._train(run, variant_of),
        }  # fmt: skip
        result["minutes"] = round((time.perf_counter() - started) / 60, 2)
        with replacing(file) as partial:
            write_json(partial, result)
        return result

    def _name(self, run: TrainingRun, contents: Dict[str, Any]) -> str:
        identity = {**self._identity, "seed": run.seed, "label_fraction": run.label_fraction, **run.changes, **contents}
        identity |= {"variant": run.variant} if run.variant else {}
        identity |= {f"teacher of {head}": self._name(teacher, {}) for head, teacher in (run.teachers or {}).items()}
        return f"{slug(run.arm)}-{run.label_fraction:g}-{run.seed}-{key_of(identity)}"

    def pipeline_folder(self, run: TrainingRun) -> Path:
        """Where the pipeline of a run is saved."""
        return self.folder / "pipelines" / self._name(run, {})

    def _train(self, run: TrainingRun, variant_of: Optional[Variant]) -> Dict[str, Any]:
        """Train and score. The weights are those of the last step, so that the data has selected nothing but thresholds."""
        config = self._run_config(run, variant_of)
        nlp = init_pipeline(config)
        for _, pipe in nlp.pipeline:
            if isinstance(pipe, Transformer):
                pipe.updates.cosines_at = "parameters"
        statistics, averages = train_to_the_end(nlp)
        with nlp.use_params(averages or {}):
            scores = with_mean(evaluate_pipeline(nlp, self.data)["scores"], nlp.config["training"]["score_weights"])
            if run.keep:
                with replacing(self.pipeline_folder(run), "meta.json") as partial:
                    nlp.to_disk(partial)
        return {"scores": scores, "statistics": statistics}

    def _run_config(self, run: TrainingRun, variant_of: Optional[Variant]) -> Config:
        changes: Dict[str, Any] = {"system.seed": run.seed, "training.seed": run.seed}
        changes |= {**self.overrides, **run.changes}
        if run.label_fraction < 1:
            changes |= self._subsets(run)
        config = load_config(self.config, overrides=changes, interpolate=bool(run.variant))
        if run.variant and variant_of is not None:
            config = variant_of(config, run.variant)
        for head, teacher in (run.teachers or {}).items():
            training = config.interpolate()["training"]
            updates = training["max_steps"] * training.get("accumulate_gradient", 1)
            section = config["initialize"]["components"].setdefault(head, {})
            section["teacher"] = {
                "@misc": "mtl.Teacher.v1", "pipelines": [str(self.pipeline_folder(teacher))], "steps": updates,
            }  # fmt: skip
        return config

    def _subsets(self, run: TrainingRun) -> Dict[str, str]:
        """Sample a fraction of each corpus by the seed: the same documents for every arm. Returns the settings to change."""
        changes: Dict[str, str] = {}
        vocab = Vocab()
        for key, files in self.train_files.items():
            docs = [doc for file in files for doc in read_docs(file, vocab)]
            count = max(1, round(run.label_fraction * len(docs)))
            sample = random.Random(f"{run.seed}/{key}").sample(docs, count)
            file = self.folder / "subsets" / f"{run.label_fraction:g}-{run.seed}" / f"{slug(key)}.spacy"
            write_docs(sample, file)
            changes |= {setting: str(file) for setting in (key, *self._augmenter_settings(key))}
        return changes

    def _augmenter_settings(self, key: str) -> List[str]:
        """The settings of the augmenter that name the same documents, so that it is restricted to the subset as well."""
        settings = flat_settings(self.settings)
        corpus = self.settings["training"].get("train_corpus", "corpora.train")
        prefix = f"{corpus}.augmenter."
        return [name for name, value in settings.items() if name.startswith(prefix) and value == settings[key]]


def weights_of(encoder: str) -> str:
    """The hash of an encoder's weights; its name if the folder has none."""
    folder = Path(resolve_encoder(encoder))
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    return " ".join(map(sha256_of, files)) if files else encoder


def check_length(training: Dict[str, Any]) -> None:
    """Check that all runs of this [training] section have the same length.

    Raises:
        UserError: Only patience would end the training.
    """
    if not training["max_steps"] and training["max_epochs"] < 1:
        raise UserError("training.max_steps = 0: a comparison needs runs of equal length; --set training.max_steps=1000")


def train_to_the_end(nlp: Language) -> Tuple[Dict[str, float], Any]:
    """Run spaCy's training loop without evaluations, files and logs.

    Returns:
        Tuple: Means of the weighting's statistics over all steps; the optimizer's averages, if it keeps any.
    """
    config = nlp.config.interpolate()
    fix_random_seed(config["training"]["seed"])
    settings = registry.resolve(config["training"], schema=compat.training_schema())
    (corpus,) = resolve_dot_names(config, [settings["train_corpus"]])
    check_length(settings)
    loop = compat.training_loop()
    batches = loop.create_train_batches(nlp, corpus, settings["batcher"], settings["max_epochs"])
    steps = loop.train_while_improving(
        nlp, settings["optimizer"], batches, lambda: (0.0, {}), dropout=settings["dropout"], eval_frequency=sys.maxsize,
        accumulate_gradient=settings["accumulate_gradient"], patience=0, max_steps=settings["max_steps"],
        exclude=settings["frozen_components"], annotating_components=settings["annotating_components"],
        before_update=settings["before_update"],
    )  # fmt: skip
    statistics: List[Dict[str, float]] = []
    progress = StepProgress(settings["max_steps"], lambda: words_seen(nlp))
    for _ in steps:
        progress.advance()
        statistics += statistics_of(nlp)
    progress.close()
    return means(statistics), settings["optimizer"].averages


def slug(name: str) -> str:
    """The name as part of a file name."""
    return "".join(char if char.isalnum() else "-" for char in name.lower()).strip("-")


def key_of(identity: Dict[str, Any]) -> str:
    """A short hash of what a result depends on."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
