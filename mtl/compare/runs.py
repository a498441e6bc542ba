"""One training of a config under changed settings, and its scores; what was run before is read again."""

import hashlib
import json
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from spacy.language import Language
from spacy.schemas import ConfigSchemaTraining
from spacy.training.initialize import init_nlp
from spacy.training.loop import create_train_batches, train_while_improving
from spacy.util import load_config, registry, resolve_dot_names
from spacy.vocab import Vocab
from thinc.api import Config, ConfigValidationError, fix_random_seed
from tqdm import tqdm

from mtl.compare.differences import with_mean
from mtl.data.docs import docbin_files, load_docbin, read_docs, write_docs
from mtl.encoder.component import Transformer
from mtl.encoder.sources import resolve_encoder
from mtl.errors import UserError, check_range
from mtl.files import read_json, replacing, sha256_of, write_json
from mtl.training.checkpoint import flat
from mtl.training.evaluation import evaluate_pipeline
from mtl.training.logger import means, statistics_of

Result = Dict[str, Any]
Variant = Callable[[Config, str], Config]
Echo = Callable[[str], None]


@dataclass(frozen=True)
class CompareSettings:
    """seeds: how many, counted from 0. labels: shares of the labelled documents to train on."""

    seeds: int = 3
    labels: Sequence[float] = (0.1, 1.0)

    def check(self) -> None:
        """RAISES (UserError): a setting is out of range; it is named with what is allowed."""
        check_range("seeds", self.seeds, 1)
        if not self.labels:
            raise UserError("labels: name at least one share, as in 0.1,1")
        for share in self.labels:
            check_range("labels", share, 0.001, 1.0)


@dataclass(frozen=True)
class Run:
    """arm: what is compared, by name. changes: settings of the config, by their dotted names. labels: share of the documents.

    variant: the name of a change that settings cannot express, such as the one head that is trained alone; "" for none. keep:
    save the pipeline too, as `Runs.pipeline` says. teachers: head -> the run whose pipeline teaches it.
    """

    arm: str
    seed: int
    labels: float
    changes: Dict[str, Any]
    variant: str = ""
    keep: bool = False
    teachers: Optional[Dict[str, "Run"]] = None


class Runs:
    """Trainings of one config, scored on the same data. Each result is a file in `folder`: a stopped comparison goes on."""

    def __init__(self, config: Path, data: Sequence[Path], folder: Path, overrides: Optional[Dict[str, Any]] = None) -> None:
        """overrides: settings of the config, by their dotted names, for all runs.

        RAISES (UserError): the config, its training data or the data is missing.
        """
        if not config.is_file():
            raise UserError(f"{config}: no such file; a training config is needed")
        self.config, self.data, self.folder, self.overrides = config, list(data), folder, overrides or {}
        try:
            self.settings = load_config(config, overrides=self.overrides, interpolate=True)
        except ConfigValidationError as error:
            raise UserError(f"{config}: {' '.join(str(error).split())}") from None
        self.train_files = {key: docbin_files(path) for key, path in self._train_paths().items()}
        self.documents = {key: sum(len(load_docbin(file)) for file in files) for key, files in self.train_files.items()}
        scored = [file for path in self.data for file in docbin_files(path)]
        hashes = {key: [sha256_of(file) for file in files] for key, files in self.train_files.items()}
        self._identity = {"config": sha256_of(config), "data": [sha256_of(file) for file in scored], **hashes}
        self._identity |= self.overrides
        folder.mkdir(parents=True, exist_ok=True)

    def _train_paths(self) -> Dict[str, str]:
        """Dotted setting -> the training file or folder it names."""
        name = self.settings["training"].get("train_corpus", "corpora.train")
        section: Any = self.settings
        for part in name.split("."):
            section = section.get(part, {})
        found = {f"{name}.paths.{task}": path for task, path in section.get("paths", {}).items()}
        if isinstance(section.get("path"), str):
            found[f"{name}.path"] = section["path"]
        unset = [key for key, path in found.items() if not path]
        if unset or not found:
            raise UserError(
                f"{self.config}: {unset[0] if unset else f'[{name}] paths'} is not set; a .spacy file or folder is needed"
            )
        return found

    def encoder_setting(self) -> str:
        """The dotted name of the setting that names the encoder to start from. RAISES (UserError): there is none."""
        loaders = self.settings.get("initialize", {}).get("components", {})
        for name, section in loaders.items():
            if "name" in section.get("encoder_loader", {}):
                return f"initialize.components.{name}.encoder_loader.name"
        raise UserError(f"{self.config}: no component has an encoder_loader in [initialize.components]; its encoder is compared")

    def encoder(self) -> str:
        """The encoder that the config names."""
        section: Any = self.settings
        for part in self.encoder_setting().split("."):
            section = section[part]
        return str(section)

    def loaded(self, changes: Dict[str, Any]) -> Config:
        """The config under the overrides and the changes, interpolated."""
        return load_config(self.config, overrides={**self.overrides, **changes}, interpolate=True)

    def results(
        self, plan: Sequence[Run], given: Dict[str, Dict[str, Any]], variant_of: Optional[Variant], echo: Echo
    ) -> List[Result]:
        """The results of all runs, in their order, with a line for each. given, variant_of: see `result`; the first by arm."""
        done: List[Result] = []
        for number, run in enumerate(plan, start=1):
            found = self.result(run, given.get(run.arm, {}), variant_of)
            done.append(found)
            left = sum(one["minutes"] for one in done) / number * (len(plan) - number)
            scores = "  ".join(f"{key} {100 * value:.1f}" for key, value in found["scores"].items())
            share = f"{run.labels:.0%} of the labels, seed {run.seed}"
            echo(f"{number:>3} of {len(plan)}  {run.arm}, {share}:  {scores}  (about {left:.0f} min left)")
        return done

    def result(self, run: Run, given: Dict[str, Any], variant_of: Optional[Variant] = None) -> Result:
        """The run's "scores", "statistics" of the balance and "minutes", made now or before.

        given: for a changed setting that names a file, what its content is. variant_of: makes the config of a run's `variant`.
        """
        file = self.folder / "runs" / f"{self._name(run, given)}.json"
        if file.exists() and (not run.keep or self.pipeline(run).exists()):
            return read_json(file)
        started = time.perf_counter()
        result = {"arm": run.arm, "seed": run.seed, "labels": run.labels, **self._trained(run, variant_of)}
        result["minutes"] = round((time.perf_counter() - started) / 60, 2)
        with replacing(file) as partial:
            write_json(partial, result)
        return result

    def _name(self, run: Run, given: Dict[str, Any]) -> str:
        identity = {**self._identity, "seed": run.seed, "labels": run.labels, **run.changes, **given}
        identity |= {"variant": run.variant} if run.variant else {}
        identity |= {f"teacher of {head}": self._name(one, {}) for head, one in (run.teachers or {}).items()}
        return f"{slug(run.arm)}-{run.labels:g}-{run.seed}-{key_of(identity)}"

    def pipeline(self, run: Run) -> Path:
        """Where a run's pipeline is kept."""
        return self.folder / "pipelines" / self._name(run, {})

    def _trained(self, run: Run, variant_of: Optional[Variant]) -> Dict[str, Any]:
        """Scores of the last step's weights, so that the data has chosen nothing but thresholds."""
        changes: Dict[str, Any] = {"system.seed": run.seed, "training.seed": run.seed}
        changes |= {**self.overrides, **run.changes}
        if run.labels < 1:
            changes |= self._subsets(run)
        config = load_config(self.config, overrides=changes, interpolate=bool(run.variant))
        if run.variant and variant_of is not None:
            config = variant_of(config, run.variant)
        for head, teacher in (run.teachers or {}).items():
            training = config.interpolate()["training"]
            updates = training["max_steps"] * training.get("accumulate_gradient", 1)
            section = config["initialize"]["components"].setdefault(head, {})
            section |= {"teacher": str(self.pipeline(teacher)), "teacher_steps": updates}
        nlp = init_nlp(config, use_gpu=-1)  # of spaCy's own heads; ours find their device
        for _, pipe in nlp.pipeline:
            if isinstance(pipe, Transformer):
                pipe.cosines_on = "parameters"
        seen, averages = train_to_the_end(nlp)
        with nlp.use_params(averages or {}):
            scores = with_mean(evaluate_pipeline(nlp, self.data)["scores"], nlp.config["training"]["score_weights"])
            if run.keep:
                with replacing(self.pipeline(run), "meta.json") as partial:
                    nlp.to_disk(partial)
        return {"scores": scores, "statistics": means(seen)}

    def _subsets(self, run: Run) -> Dict[str, str]:
        """A share of each corpus, drawn by the seed: the same documents for every arm. RETURNS: settings that name them."""
        changes, vocab = {}, Vocab()
        for key, files in self.train_files.items():
            docs = [doc for file in files for doc in read_docs(file, vocab)]
            count = max(1, round(run.labels * len(docs)))
            chosen = random.Random(f"{run.seed}/{key}").sample(docs, count)
            file = self.folder / "labels" / f"{run.labels:g}-{run.seed}" / f"{slug(key)}.spacy"
            write_docs(chosen, file)
            changes[key] = str(file)
            changes |= {place: str(file) for place in self._augmented_from(key)}
        return changes

    def _augmented_from(self, key: str) -> List[str]:
        """The settings of the augmenter that name the same documents: a share of the labels is one for it, too."""
        paths = flat(self.settings)
        name = self.settings["training"].get("train_corpus", "corpora.train")
        return [place for place, value in paths.items() if place.startswith(f"{name}.augmenter.") and value == paths[key]]


def weights_of(encoder: str) -> str:
    """The hash of an encoder's weights. A name on the hub is its own."""
    folder = Path(resolve_encoder(encoder))
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    return " ".join(map(sha256_of, files)) if files else encoder


def check_length(training: Dict[str, Any]) -> None:
    """RAISES (UserError): only patience would end the training."""
    if not training["max_steps"] and training["max_epochs"] < 1:
        raise UserError("training.max_steps = 0: a comparison needs trainings of one length; --set training.max_steps=1000")


def train_to_the_end(nlp: Language) -> Tuple[List[Dict[str, float]], Any]:
    """spaCy's training loop without evaluations, files and logs.

    RETURNS: what the balance saw at each step, and the optimizer's averages, if it keeps any.
    """
    config = nlp.config.interpolate()
    fix_random_seed(config["training"]["seed"])
    settings = registry.resolve(config["training"], schema=ConfigSchemaTraining)
    (corpus,) = resolve_dot_names(config, [settings["train_corpus"]])
    check_length(settings)
    most = settings["max_steps"]
    batches = create_train_batches(nlp, corpus, settings["batcher"], settings["max_epochs"])
    steps = train_while_improving(
        nlp, settings["optimizer"], batches, lambda: (0.0, {}), dropout=settings["dropout"], eval_frequency=sys.maxsize,
        accumulate_gradient=settings["accumulate_gradient"], patience=0, max_steps=most, exclude=settings["frozen_components"],
        annotating_components=settings["annotating_components"], before_update=settings["before_update"],
    )  # fmt: skip
    seen = []
    with tqdm(total=most or None, unit="step", desc="train", leave=False, disable=not sys.stderr.isatty()) as bar:
        for _ in steps:
            bar.update()
            seen += statistics_of(nlp)
    return seen, settings["optimizer"].averages


def slug(name: str) -> str:
    """The name as a part of a file's."""
    return "".join(char if char.isalnum() else "-" for char in name.lower()).strip("-")


def key_of(identity: Dict[str, Any]) -> str:
    """A short name for what a result depends on."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
