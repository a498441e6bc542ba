"""A joint training that may be killed at any moment, and goes on as if nothing had happened: spaCy's loop and config."""

import io
import json
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Dict, Iterator, List, Optional, Tuple

import torch
from spacy.language import Language
from spacy.schemas import ConfigSchemaTraining
from spacy.tokens import Doc
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import create_before_to_disk_callback, create_train_batches, train_while_improving, update_meta
from spacy.util import registry, resolve_dot_names
from thinc.api import Config, fix_random_seed

from mtl import ranks
from mtl.encoder.component import Transformer
from mtl.errors import UserError, check_range
from mtl.files import replacing
from mtl.pipe import RobustPipe
from mtl.training.checkpoint import Checkpoints, flat, load_state, restore
from mtl.training.saving import without_local_paths


class Recorder:
    """Between spaCy's loop and the pipeline: what was done before is replayed without being done again, what is new is kept.

    A resumed run goes through its earlier steps once more: batches are made, schedules step, evaluations give what they gave,
    and so order, rates, patience and the best score come back by themselves. Nothing is computed or saved, until at the step of
    the checkpoint all weights and states are put in place.
    """

    def __init__(self, nlp: Language, optimizer: Any, checkpoints: Checkpoints, minutes: float, inner: Optional[Any]) -> None:
        self.nlp, self.optimizer, self.checkpoints, self.minutes, self.inner = nlp, optimizer, checkpoints, minutes, inner
        self.update, self.evaluate = nlp.update, nlp.evaluate  # the pipeline's own
        self.scores: List[Dict[str, Any]] = []  # at the evaluations so far
        self.losses: Dict[str, float] = {}  # since the last evaluation
        self.given_back: Dict[str, float] = {}  # those of the checkpoint, until the first update after it
        self.scored: Dict[str, List[Dict[str, float]]] = {}  # of the heads, at the evaluations that are replayed
        self.resumed_at, self.replayed, self.saved = 0, 0, time.monotonic()
        self.checkpoint: Optional[Path] = None
        self.stop = False

    def resume(self, checkpoint: Path) -> None:
        """Replay up to this checkpoint."""
        state = load_state(checkpoint)
        self.checkpoint, self.resumed_at = checkpoint, state["step"]
        self.scores, self.losses = state["progress"]["scores"], state["progress"]["losses"]
        self.scored = {name: own["scored"] for name, own in state["pipes"].items() if "scored" in own}

    @property
    def replaying(self) -> bool:
        return self.checkpoint is not None

    @contextmanager
    def between(self) -> Iterator[None]:
        """The pipeline's `update` and `evaluate` go through here."""
        for name, own in (("update", self._update), ("evaluate", self._evaluate)):
            setattr(self.nlp, name, own)
        try:
            yield
        finally:
            del self.nlp.update, self.nlp.evaluate

    def before_update(self, nlp: Language, given: Dict[str, Any]) -> None:
        """At the start of each step: the end of the replay, Ctrl-C, a checkpoint when it is due."""
        step = given["step"]
        if self.checkpoint is not None and step == self.resumed_at:
            restore(self.checkpoint, nlp, self.optimizer)
            self.checkpoint, self.saved = None, time.monotonic()
            self.given_back = dict(self.losses)
        if not self.replaying:
            due = ranks.first(bool(self.minutes and time.monotonic() - self.saved >= 60 * self.minutes))
            stop = ranks.total(self.stop)
            if step > self.resumed_at and (due or stop):
                self.save(step)
            if stop:
                raise KeyboardInterrupt
            if self.inner is not None:
                self.inner(nlp, given)

    def save(self, step: int) -> None:
        settle(self.nlp)
        progress = {"scores": self.scores, "losses": self.losses}
        self.checkpoints.save(self.nlp, self.optimizer, step, progress)
        self.saved = time.monotonic()

    def _update(self, examples: Any, *, losses: Optional[Dict[str, float]] = None, **given: Any) -> Dict[str, float]:
        if self.replaying:
            return losses or {}
        losses = {} if losses is None else losses
        losses.update(self.given_back)
        self.losses, self.given_back = losses, {}
        own = ranks.share_of(examples) or [Example(self.nlp.make_doc(""), Doc(self.nlp.vocab))]  # whoever has none takes part
        return self.update(own, losses=losses, **given)

    def _evaluate(self, examples: Any, **given: Any) -> Dict[str, Any]:
        if self.replaying and self.replayed < len(self.scores):
            self.replayed += 1
            for name, scored in self.scored.items():  # a mixture may look at them
                self.nlp.get_pipe(name).scored = scored[: self.replayed]  # type: ignore[attr-defined]
            return self.scores[self.replayed - 1]
        found = self.evaluate(examples, **given)
        self.scores.append(found)
        self.losses = {}  # the loop begins anew after each evaluation
        return found


def train_config(
    config: Config, output: Path, *, resume: bool = True, checkpoint_minutes: float = 10.0,
    references: Optional[Dict[str, float]] = None, best_per_score: bool = False, stdout: IO = sys.stdout, stderr: IO = sys.stderr,
) -> Tuple[Language, bool]:  # fmt: skip
    """Train as `spacy train` does with this config; write `model-best` and `model-last` to `output`.

    Under `torchrun` each process learns from its part of every batch, and the first one writes; what is learned is what one
    process would learn, up to the order of float sums and what dropout draws.

    resume: go on from the newest checkpoint in `output/checkpoints`, if an earlier run under the same config left one.
    references: score -> what a model for that task alone reaches, from 0 to 1; the best model is then the one whose scores over
    these have the highest mean, in place of `training.score_weights`. best_per_score: also keep, as `model-best-SCORE`, the best
    of each.
    RETURNS: the pipeline as it was at last, and whether Ctrl-C ended the run; what was learned is in a checkpoint then.
    RAISES (UserError): the checkpoint is of another config, or broken; a reference that the evaluation does not have.
    """
    check_range("checkpoint-minutes", checkpoint_minutes, 0.0)
    for name, reference in (references or {}).items():
        check_range(f"reference {name}", reference, 0.001, 1.0)
    nlp = init_nlp(config, use_gpu=-1)  # of spaCy's own components; ours find their device
    stdout = stdout if ranks.number() == 0 else io.StringIO()
    whole = nlp.config.interpolate()
    chosen_by = {"references": references or {}, "best_per_score": best_per_score}
    checkpoints = Checkpoints(output / "checkpoints", {**whole, "choice": chosen_by, "processes": ranks.count()})
    if not resume:
        checkpoints.remove()
    others = [name for name, pipe in nlp.pipeline if getattr(pipe, "is_trainable", False) and not isinstance(pipe, RobustPipe)]
    if others and ranks.count() > 1:
        raise UserError(f"several processes train our own heads only, and the pipeline has {', '.join(others)}; start one")
    if others:
        stdout.write(f"note: a resumed run is exact for our own heads; for {', '.join(others)} the optimizer begins anew\n")
    for _, pipe in nlp.pipeline:
        if isinstance(pipe, Transformer):  # without a seed each process has drawn its own
            ranks.share_first(parameter for parameter, _ in pipe.parameters().values())
    checkpoint = checkpoints.newest()
    fix_random_seed(whole["training"]["seed"] or 0)
    torch.manual_seed((whole["training"]["seed"] or 0) + 1_000_003 * ranks.number())  # of dropout; all else is drawn alike
    settings = registry.resolve(whole["training"], schema=ConfigSchemaTraining)
    train_corpus, dev_corpus = resolve_dot_names(whole, [settings["train_corpus"], settings["dev_corpus"]])
    recorder = Recorder(nlp, settings["optimizer"], checkpoints, checkpoint_minutes, settings["before_update"])
    if checkpoint is not None:
        recorder.resume(checkpoint)
        stdout.write(f"going on from {checkpoint}\n")
    elif ranks.number() == 0 and any((output / name).exists() for name in ("model-best", "model-last")):
        keys = [*settings["score_weights"], *(references or {})]
        for name in ("model-last", "model-best", *(f"model-best-{key}" for key in keys)):
            shutil.rmtree(output / name, ignore_errors=True)
    chooser = Chooser(nlp, dev_corpus, settings["score_weights"], references or {})
    steps = train_while_improving(
        nlp, settings["optimizer"], create_train_batches(nlp, train_corpus, settings["batcher"], settings["max_epochs"]),
        chooser.evaluate, dropout=settings["dropout"], accumulate_gradient=settings["accumulate_gradient"],
        patience=settings["patience"], max_steps=settings["max_steps"], eval_frequency=settings["eval_frequency"],
        exclude=settings["frozen_components"], annotating_components=settings["annotating_components"],
        before_update=recorder.before_update,
    )  # fmt: skip
    saver = Saver(nlp, output, settings["before_to_disk"], settings["optimizer"])
    with nlp.select_pipes(disable=settings["frozen_components"]), _kept_rows(whole, recorder.resumed_at):
        logger = settings["logger"] if ranks.number() == 0 else _silent
        log_step, finish_log = logger(nlp, stdout, stderr)
    try:
        with recorder.between(), _stopping(recorder):
            for _, info, is_best in steps:
                best_of = chooser.best_scores(info["other_scores"]) if is_best is not None and best_per_score else []
                if is_best is not None and not recorder.replaying:
                    with nlp.select_pipes(disable=settings["frozen_components"]):
                        update_meta(settings, nlp, info)
                    saver.save(is_best, best_of)
                    info["output_path"] = str(output / "model-last")
                log_step(info if is_best is not None and not recorder.replaying else None)
    except KeyboardInterrupt:
        stdout.write("\ninterrupted: the same command goes on from here\n")
        return nlp, True
    finally:
        finish_log()
    saver.save(False, [])
    checkpoints.remove()
    return nlp, False


class Chooser:
    """Which evaluation is best."""

    def __init__(self, nlp: Language, corpus: Any, weights: Dict[str, Optional[float]], references: Dict[str, float]) -> None:
        self.nlp, self.corpus, self.references = nlp, corpus, references
        self.weights = {key: weight for key, weight in weights.items() if weight}
        self.highest: Dict[str, float] = {}

    def evaluate(self) -> Tuple[float, Dict[str, Any]]:
        scores = {key: value for key, value in self.nlp.evaluate(self.corpus(self.nlp)).items() if value is not None}
        unknown = sorted(set(self.references) - set(scores))
        if unknown:
            known = ", ".join(key for key, value in scores.items() if isinstance(value, float))
            raise UserError(f"a reference is given for {', '.join(unknown)}, which the evaluation has not; it has {known}")
        if self.references:
            chosen_by = sum(scores[key] / value for key, value in self.references.items()) / len(self.references)
        else:
            chosen_by = sum(weight * scores.get(key, 0.0) for key, weight in self.weights.items())
        return ranks.first(chosen_by), scores

    def best_scores(self, scores: Dict[str, Any]) -> List[str]:
        """The scores that are higher now than ever before."""
        found = [key for key in (self.references or self.weights) if scores.get(key, 0.0) > self.highest.get(key, -1.0)]
        self.highest.update({key: scores.get(key, 0.0) for key in found})
        return found


class Saver:
    """Writes the pipeline to `model-last`, and copies that to the others; each folder is whole or not there."""

    def __init__(self, nlp: Language, output: Path, before: Any, optimizer: Any) -> None:
        self.nlp, self.output, self.optimizer = nlp, output, optimizer
        self.before = create_before_to_disk_callback(before)

    def save(self, is_best: bool, best_of: List[str]) -> None:
        settle(self.nlp)
        if ranks.number():
            return
        last = self.output / "model-last"
        with self.nlp.use_params(self.optimizer.averages), replacing(last, "meta.json") as partial:
            self.before(self.nlp).to_disk(partial)
            without_local_paths(partial / "config.cfg")
        for name in (["model-best"] if is_best else []) + [f"model-best-{key}" for key in best_of]:
            with replacing(self.output / name, "meta.json") as partial:
                shutil.copytree(last, partial)


def settle(nlp: Language) -> None:
    """Every process takes the step that still waits; the one that writes must not do so alone."""
    for _, pipe in nlp.pipeline:
        if isinstance(pipe, Transformer):
            pipe.settle()


def _silent(nlp: Language, stdout: IO, stderr: IO) -> Tuple[Any, Any]:
    """The log of a process that does not speak."""
    return lambda info: None, lambda: None


@contextmanager
def _kept_rows(config: Config, step: int) -> Iterator[None]:
    """The rows of the logger's balance file from before the step that the run goes on from; the logger begins it anew."""
    named = (
        []
        if ranks.number()
        else [
            value
            for key, value in flat(config["training"]["logger"]).items()
            if key.rpartition(".")[2] == "balance_file" and value
        ]
    )
    kept = {Path(name): "" for name in named if step and Path(name).is_file()}
    for file in kept:
        rows = file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept[file] = "".join(row for row in rows if json.loads(row)["step"] < step)
    yield
    for file, text in kept.items():
        file.write_text(text, encoding="utf-8")


@contextmanager
def _stopping(recorder: Recorder) -> Iterator[None]:
    """Ctrl-C lets the step that runs come to its end, where a checkpoint can be written; a second one does not wait."""

    def stop(number: int, frame: Any) -> None:
        if recorder.stop:
            raise KeyboardInterrupt
        recorder.stop = True

    try:
        before = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
