"""`mtl train`: spaCy's training loop and config, with checkpoints, exact resume and several processes."""

import io
import json
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Dict, Iterator, List, Optional, Tuple

import torch
from spacy.language import Language
from spacy.util import registry, resolve_dot_names
from thinc.api import Config, fix_random_seed

from mtl import compat, distributed
from mtl.encoder.component import Transformer
from mtl.errors import UserError, check_range
from mtl.files import check_target, replacing
from mtl.optimization import set_run_length
from mtl.pipe import RobustPipe
from mtl.training.checkpoint import checkpoint_folder, flat_settings
from mtl.training.evaluation import evaluate_watched, score_named
from mtl.training.initialize import init_pipeline
from mtl.training.leaks import warn_of_leaks
from mtl.training.resume import Recorder, finishing_step_on_interrupt, take_due_steps
from mtl.training.saving import without_local_paths

EVALUATIONS = "evaluations"  # the folder of the pipelines of the last evaluations
RANK_SEED_OFFSET = 1_000_003  # between the dropout seeds of two ranks


def train_config(
    config: Config, output: Path, *, resume: bool = True, checkpoint_minutes: float = 10.0,
    references: Optional[Dict[str, float]] = None, best_per_score: bool = False, stdout: Optional[IO] = None,
    stderr: Optional[IO] = None, keep_evaluations: int = 0,
) -> Tuple[Language, bool]:  # fmt: skip
    """Train as `spacy train` does with this config, and write `model-best` and `model-last`.

    Under `torchrun` each rank learns from its part of every batch, and rank 0 writes. The result is what one process would
    learn, up to the order of float sums and to dropout.

    Args:
        config (Config): A training config.
        output (Path): The folder to write to.
        resume (bool): Resume from the newest checkpoint in `output/checkpoints`, if a run with the same config left one.
        checkpoint_minutes (float): Minutes between checkpoints; 0: only after Ctrl-C.
        references (Optional[Dict[str, float]]): Score -> what a model for that task alone reaches, from 0 to 1. The best model is
            then the one with the highest mean of scores over references, instead of by `training.score_weights`.
        best_per_score (bool): Also keep the best model of each score, as `model-best-SCORE`.
        stdout (Optional[IO]): Where the log goes; by default standard output.
        stderr (Optional[IO]): Where the progress goes; by default standard error.
        keep_evaluations (int): Also keep the pipelines of so many last evaluations, as `evaluations/STEP`, to average them.

    Returns:
        Tuple[Language, bool]: The pipeline after the last step; whether Ctrl-C ended the run, after a checkpoint.

    Raises:
        UserError: The checkpoint belongs to another config or is damaged; a reference names a score that does not exist.
    """
    _check_numbers(checkpoint_minutes, keep_evaluations, references or {})
    check_target(output / "model-last", "meta.json")
    nlp = init_pipeline(config)
    stdout = (stdout or sys.stdout) if distributed.is_main() else io.StringIO()
    whole = nlp.config.interpolate()
    selection = {"references": references or {}, "best_per_score": best_per_score}
    identity = {**whole, "choice": selection, "processes": distributed.world_size()}
    checkpoints = checkpoint_folder(output / "checkpoints", identity)
    if not resume:
        _remove(checkpoints)
    _prepare(nlp, stdout)
    checkpoint = checkpoints.newest()
    _set_seed(whole["training"]["seed"] or 0)
    settings = registry.resolve(whole["training"], schema=compat.training_schema())
    train_corpus, dev_corpus = resolve_dot_names(whole, [settings["train_corpus"], settings["dev_corpus"]])
    set_run_length(settings["optimizer"], settings["max_steps"])
    recorder = Recorder(nlp, settings["optimizer"], checkpoints, checkpoint_minutes, settings["before_update"])
    if checkpoint is not None:
        recorder.resume(checkpoint)
        stdout.write(f"resuming from {checkpoint}\n")
    elif distributed.is_main():
        _remove_models(output, [*settings["score_weights"], *(references or {})])
        warn_of_leaks(train_corpus, dev_corpus, nlp)
    selector = BestModel(nlp, dev_corpus, settings["score_weights"], references or {}, best_per_score)
    saver = Saver(nlp, output, settings["before_to_disk"], settings["optimizer"], keep_evaluations)
    if _train(nlp, whole, settings, selector, recorder, saver, stdout, stderr or sys.stderr):
        stdout.write("\ninterrupted: repeat the command to resume\n")
        return nlp, True
    saver.save(False, [])
    stdout.write(selector.compromise())
    _remove(checkpoints)
    return nlp, False


def _train(
    nlp: Language, whole: Dict[str, Any], settings: Dict[str, Any], selector: "BestModel", recorder: Recorder, saver: "Saver",
    stdout: IO, stderr: IO,
) -> bool:  # fmt: skip
    """Run the loop, log and save. Returns whether Ctrl-C ended it."""
    (corpus,) = resolve_dot_names(whole, [settings["train_corpus"]])
    steps = _training_steps(nlp, settings, corpus, selector, recorder)
    with nlp.select_pipes(disable=settings["frozen_components"]), _keeping_log_rows(whole, recorder.resumed_at):
        logger = settings["logger"] if distributed.is_main() else _silent_logger
        log_step, finish_log = logger(nlp, stdout, stderr)
    try:
        with recorder.installed(), finishing_step_on_interrupt(recorder):
            for _, info, is_best in steps:
                improved = selector.improved(info["step"], info["other_scores"], is_best) if is_best is not None else []
                is_new_evaluation = is_best is not None and not recorder.replaying
                if is_new_evaluation:
                    with nlp.select_pipes(disable=settings["frozen_components"]):
                        compat.training_loop().update_meta(settings, nlp, info)
                    saver.save(is_best, improved, info["step"])
                    info["output_path"] = str(saver.output / "model-last")
                log_step(info if is_new_evaluation else None)
    except KeyboardInterrupt:
        return True
    finally:
        finish_log()
    return False


def _training_steps(nlp: Language, settings: Dict[str, Any], corpus: Any, selector: "BestModel", recorder: Recorder) -> Any:
    """spaCy's loop, as a generator of steps."""
    loop = compat.training_loop()
    batches = loop.create_train_batches(nlp, corpus, settings["batcher"], settings["max_epochs"])
    return loop.train_while_improving(
        nlp, settings["optimizer"], batches, selector.evaluate, dropout=settings["dropout"],
        accumulate_gradient=settings["accumulate_gradient"], patience=settings["patience"], max_steps=settings["max_steps"],
        eval_frequency=settings["eval_frequency"], exclude=settings["frozen_components"],
        annotating_components=settings["annotating_components"], before_update=recorder.before_update,
    )  # fmt: skip


def _prepare(nlp: Language, stdout: IO) -> None:
    """Check that the pipeline can be trained like this, and make all ranks start with the same weights."""
    stock = [name for name, pipe in nlp.pipeline if getattr(pipe, "is_trainable", False) and not isinstance(pipe, RobustPipe)]
    if stock and distributed.world_size() > 1:
        raise UserError(f"several processes can only train our own heads; the pipeline has {', '.join(stock)}. Start one process")
    if stock:
        stdout.write(f"note: a resumed run is exact for our own heads; for {', '.join(stock)} the optimizer starts over\n")
    for _, pipe in nlp.pipeline:
        if isinstance(pipe, Transformer):  # without a seed, each rank has drawn its own
            distributed.broadcast(parameter for parameter, _ in pipe.parameters().values())


def _check_numbers(checkpoint_minutes: float, keep_evaluations: int, references: Dict[str, float]) -> None:
    check_range("checkpoint-minutes", checkpoint_minutes, 0.0)
    check_range("keep-evaluations", keep_evaluations, 0)
    for name, reference in references.items():
        check_range(f"reference {name}", reference, 0.001, 1.0)


def _set_seed(seed: int) -> None:
    fix_random_seed(seed)
    torch.manual_seed(seed + RANK_SEED_OFFSET * distributed.rank())  # of dropout; everything else is drawn alike


def _remove(checkpoints: Any) -> None:
    if distributed.is_main():
        checkpoints.remove()
    distributed.barrier()


def _remove_models(output: Path, keys: List[str]) -> None:
    """Delete the models of an earlier run."""
    for name in ("model-last", "model-best", EVALUATIONS, *(f"model-best-{key}" for key in keys)):
        shutil.rmtree(output / name, ignore_errors=True)


class BestModel:
    """Decides which evaluation is the best.

    Args:
        nlp (Language): The pipeline.
        corpus (Any): What is evaluated on.
        weights (Dict[str, Optional[float]]): `training.score_weights`.
        references (Dict[str, float]): See `train_config`.
        per_score (bool): Whether the best of each score is wanted, too.
    """

    def __init__(
        self, nlp: Language, corpus: Any, weights: Dict[str, Optional[float]], references: Dict[str, float], per_score: bool
    ) -> None:
        self.nlp, self.corpus, self.references, self.per_score = nlp, corpus, references, per_score
        self.weights = {key: weight for key, weight in weights.items() if weight}
        self.highest: Dict[str, Tuple[int, float]] = {}  # score -> the step at which it was highest, and its value there
        self.chosen: Tuple[int, Dict[str, float]] = (0, {})  # the step of the best model, and its scores

    def evaluate(self) -> Tuple[float, Dict[str, Any]]:
        """Evaluate the pipeline. Returns the number to select by, and all scores.

        Raises:
            UserError: A reference names a score that the evaluation lacks.
        """
        scores = {key: value for key, value in evaluate_watched(self.nlp, self.corpus(self.nlp)).items() if value is not None}
        unknown = sorted(set(self.references) - set(scores))
        if unknown:
            known = ", ".join(key for key, value in scores.items() if isinstance(value, float))
            raise UserError(f"a reference is given for {', '.join(unknown)}, which is not evaluated; there are {known}")
        if self.references:
            total = sum(scores[key] / value for key, value in self.references.items()) / len(self.references)
        else:
            total = sum(weight * scores.get(key, 0.0) for key, weight in self.weights.items())
        return distributed.from_rank_zero(total), scores

    def improved(self, step: int, scores: Dict[str, Any], is_best: bool) -> List[str]:
        """Note an evaluation. Returns the scores that are higher than in all earlier ones, if the best of each is wanted."""
        watched = {key: scores.get(key, 0.0) for key in (self.references or self.weights)}
        keys = [key for key, value in watched.items() if value > self.highest.get(key, (0, -1.0))[1]]
        self.highest |= {key: (step, watched[key]) for key in keys}
        if is_best:
            self.chosen = step, watched
        return keys if self.per_score else []

    def compromise(self) -> str:
        """What the best model costs each head that was better at another step, as a line; "" if none was."""
        chosen_step, chosen = self.chosen
        costs = []
        for key, (step, value) in self.highest.items():
            score = score_named(key)
            if key in chosen and value > chosen[key] and not score.is_error:
                costs.append(f"{score.title} {score.show(chosen[key])} instead of {score.show(value)} at step {step}")
        if not costs:
            return ""
        kept = ", kept as model-best-SCORE" if self.per_score else "; --best-per-score keeps those as well"
        return f"model-best is from step {chosen_step}: {'; '.join(costs)}{kept}\n"


class Saver:
    """Writes the pipeline to `model-last` and copies that to the others. Each folder is whole or absent.

    Args:
        nlp (Language): The pipeline.
        output (Path): Where the folders go.
        before_to_disk (Any): The config's callback.
        optimizer (Any): Its averages, if it keeps any, are what is saved.
        keep (int): Pipelines of last evaluations to keep.
    """

    def __init__(self, nlp: Language, output: Path, before_to_disk: Any, optimizer: Any, keep: int) -> None:
        self.nlp, self.output, self.optimizer, self.keep = nlp, output, optimizer, keep
        self.before_to_disk = compat.training_loop().create_before_to_disk_callback(before_to_disk)

    def save(self, is_best: bool, best_of: List[str], step: Optional[int] = None) -> None:
        """Save the pipeline.

        Args:
            is_best (bool): Also as `model-best`.
            best_of (List[str]): Scores of which it is the best, to be saved as `model-best-SCORE`.
            step (Optional[int]): The step of the evaluation that this follows, if it follows one.
        """
        take_due_steps(self.nlp)
        if not distributed.is_main():
            return
        last = self.output / "model-last"
        with self.nlp.use_params(self.optimizer.averages), replacing(last, "meta.json") as partial:
            self.before_to_disk(self.nlp).to_disk(partial)
            without_local_paths(partial / "config.cfg")
        names = (["model-best"] if is_best else []) + [f"model-best-{key}" for key in best_of]
        if self.keep and step is not None:
            names.append(f"{EVALUATIONS}/{step}")
            (self.output / EVALUATIONS).mkdir(exist_ok=True)
        for name in names:
            with replacing(self.output / name, "meta.json") as partial:
                shutil.copytree(last, partial)
        kept = sorted((folder for folder in (self.output / EVALUATIONS).glob("*") if folder.name.isdigit()), key=_step_of)
        for folder in kept[: -self.keep] if self.keep else []:
            shutil.rmtree(folder)


def _step_of(folder: Path) -> int:
    return int(folder.name)


def _silent_logger(nlp: Language, stdout: IO, stderr: IO) -> Tuple[Any, Any]:
    """The logger of a rank that does not log."""
    return lambda info: None, lambda: None


@contextmanager
def _keeping_log_rows(config: Config, step: int) -> Iterator[None]:
    """Keep the rows of `weighting_log` from before the step that the run resumes at. The logger itself starts the file over."""
    settings = flat_settings(config["training"]["logger"]) if distributed.is_main() and step else {}
    files = [Path(value) for key, value in settings.items() if key.rpartition(".")[2] == "weighting_log" and value]
    kept_rows: Dict[Path, str] = {}
    for file in files:
        if file.is_file():
            rows = file.read_text(encoding="utf-8").splitlines(keepends=True)
            kept_rows[file] = "".join(row for row in rows if json.loads(row)["step"] < step)
    yield
    for file, text in kept_rows.items():
        file.write_text(text, encoding="utf-8")
