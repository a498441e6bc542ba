"""Add, retrain and remove heads of a trained pipeline. The outputs of all other components stay the same, bit for bit."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Dict, Optional, Sequence

from spacy.language import Language
from spacy.util import load_model
from thinc.api import Config

from mtl.errors import UserError, check_range
from mtl.files import check_target, replacing, workplace, write_json
from mtl.progress import Echo
from mtl.registry import Task, headlines, heads_of
from mtl.training.evaluation import NothingToScore, evaluate_pipeline, score_named
from mtl.training.recipes import copied_from, dev_corpus, prepare_work, steps_for, train_corpus, training_section, words_in
from mtl.training.run import train_config
from mtl.training.saving import without_local_paths

BEFORE, FROZEN, UNFROZEN = "before", "frozen", "unfrozen"  # the old head; the new one, by the encoder in its training


@dataclass(frozen=True)
class HeadTraining:
    """How to train a head.

    Args:
        train (Sequence[Path]): Converted files or folders to train on.
        dev (Sequence[Path]): Converted files or folders to score on.
        epochs (float): Epochs over the training data.
        learning_rate (float): Peak learning rate of an encoder; a head's is ten times as high.
        compare_unfrozen (bool): Also train the head with an unfrozen encoder, on a copy that is discarded, to see what freezing
            costs.
        seed (int): Random seed.
    """

    train: Sequence[Path]
    dev: Sequence[Path]
    epochs: float = 5.0
    learning_rate: float = 3e-4
    compare_unfrozen: bool = True
    seed: int = 0

    def check(self) -> None:
        """Check the numbers.

        Raises:
            UserError: One is out of range.
        """
        check_range("epochs", self.epochs, 0.01)
        check_range("learning-rate", self.learning_rate, 0.0, 1.0)


def remove_head(nlp: Language, name: str, out: Path) -> None:
    """Write the pipeline without one of its heads.

    Args:
        nlp (Language): The pipeline.
        name (str): The head.
        out (Path): Where to write.

    Raises:
        UserError: The pipeline has no such head.
    """
    _check_head(nlp, name)
    nlp.remove_pipe(name)
    with replacing(out, "meta.json") as partial:
        nlp.to_disk(partial)
        without_local_paths(partial / "config.cfg")


def train_head(
    pipeline: str, name: str, head: Dict[str, Any], training: HeadTraining, out: Path, echo: Echo,
    stdout: Optional[IO] = None, *, resume: bool = True, force: bool = False,
) -> Dict[str, Any]:  # fmt: skip
    """Train one head from scratch on a trained pipeline, with everything else frozen, and write the whole pipeline.

    Args:
        pipeline (str): Folder or package of the pipeline.
        name (str): Name of the head, which may be new.
        head (Dict[str, Any]): Its section of the config: "factory" and any settings.
        training (HeadTraining): How to train it.
        out (Path): Where to write. Checkpoints are in a folder beside it, or in it (see `workplace`), until it is written.
        echo (Echo): Gets messages and the table of scores.
        stdout (Optional[IO]): Where the training log goes; by default standard output.
        resume (bool): Resume an unfinished run with the same settings.
        force (bool): Write the pipeline even if the new head has a lower score than the one it replaces.

    Returns:
        Dict[str, Any]: The report, which is also written to `out/head.json`: "head", "steps", and "scores" on dev: "before" of
        the head that is replaced, with the encoder "frozen" and, with `compare_unfrozen`, "unfrozen".

    Raises:
        UserError: The pipeline has no encoder of ours; no document is annotated for the head; the new head is worse.
    """
    training.check()
    check_target(out, "meta.json")
    base = load_model(pipeline)
    transformers = [other for other, pipe in base.pipeline if hasattr(pipe, "listening_components")]
    if not transformers:
        raise UserError(f"{pipeline}: the pipeline has no mtl_transformer for a head to read from")
    config = _training_config(base, pipeline, name, head, training)
    work = workplace(out) / f"{out.name}.training"
    others = [other for other in config["nlp"]["pipeline"] if other != name]
    sources = [*training.train, *training.dev, *([base.path] if base.path else [])]
    prepare_work(work, config, sources, resume)
    scores: Dict[str, Dict[str, float]] = {}
    if name in base.pipe_names:
        try:
            scores[BEFORE] = _scores(base, name, training.dev)
        except NothingToScore:
            echo(f"the --dev files have none of the labels of the old {name!r}, so it cannot be compared")
    scores[FROZEN] = _train_and_score(config, others, work / FROZEN, name, training.dev, echo, stdout)
    if BEFORE in scores and not force:
        _check_not_worse(name, base.get_pipe(name).task, scores, echo)  # type: ignore[attr-defined]
    if training.compare_unfrozen:
        frozen = [other for other in others if other not in transformers]
        scores[UNFROZEN] = _train_and_score(config, frozen, work / UNFROZEN, name, training.dev, echo, stdout)
    report = {"head": name, "steps": config["training"]["max_steps"], "scores": scores}
    with replacing(out, "meta.json") as partial:
        shutil.copytree(work / FROZEN / "model-best", partial)
        write_json(partial / "head.json", report)
    shutil.rmtree(work)
    echo(f"\n{head_table(scores)}")
    return report


def _train_and_score(
    config: Config, frozen: Sequence[str], work: Path, name: str, dev: Sequence[Path], echo: Echo, stdout: Optional[IO]
) -> Dict[str, float]:
    """Train the head, unless the same run is finished already, and score it. The pipeline is then in `work/model-best`."""
    echo(f"\n{name}, encoder {work.name}:" + (" (for comparison; discarded)" if work.name == UNFROZEN else ""))
    config = config.copy()
    config["training"]["frozen_components"] = list(frozen)
    finished = work / "finished"
    if not finished.exists():
        if train_config(config, work, stdout=stdout)[1]:
            raise KeyboardInterrupt
        finished.touch()
    return _scores(load_model(work / "model-best"), name, dev)


def _scores(nlp: Language, name: str, dev: Sequence[Path]) -> Dict[str, float]:
    """The scores of one of the heads."""
    with nlp.select_pipes(enable=[*(other for other in nlp.pipe_names if other not in heads_of(nlp)), name]):
        return evaluate_pipeline(nlp, dev)["scores"]


def _check_not_worse(name: str, task: Task, scores: Dict[str, Dict[str, float]], echo: Echo) -> None:
    """Compare the head's headline score.

    Raises:
        UserError: The new head is worse than the one it is to replace.
    """
    for key in headlines(scores[BEFORE], [task]):
        if score_named(key).loss(scores[BEFORE][key], scores[FROZEN].get(key, 0.0)) > 0:
            echo(f"\n{head_table(scores)}")
            raise UserError(
                f"the new {name!r} is worse than the old one on the --dev files, so nothing was written. Repeat the command with "
                f"--force to write it all the same; it is not trained again"
            )


def head_table(scores: Dict[str, Dict[str, float]]) -> str:
    """The scores of a report of `train_head` as a table, with what the frozen encoder costs."""
    titles = {score_named(key): key for key in scores[FROZEN]}
    width = max(len(score.title) for score in titles)
    lines = [" " * width + "".join(f"{column:>10}" for column in scores)]
    if UNFROZEN in scores:
        lines[0] += "   cost of the frozen encoder"
    for score, key in titles.items():
        columns = [f"{score.show(row[key]) if key in row else '':>10}" for row in scores.values()]
        if UNFROZEN in scores and key in scores[UNFROZEN] and not score.is_error:
            columns.append(f"   {100 * (scores[UNFROZEN][key] - scores[FROZEN][key]):+.1f} points")
        lines.append(f"{score.title:{width}}{''.join(columns)}".rstrip())
    return "\n".join(lines)


def head_settings(nlp: Language, name: str) -> Dict[str, Any]:
    """The section of the config of one of the pipeline's heads.

    Raises:
        UserError: The pipeline has no such head.
    """
    _check_head(nlp, name)
    return dict(nlp.config.interpolate()["components"][name])


def _check_head(nlp: Language, name: str) -> None:
    if name not in heads_of(nlp):
        raise UserError(f"the pipeline has no head {name!r}; its heads are {', '.join(heads_of(nlp)) or 'none'}")


def _training_config(base: Language, pipeline: str, name: str, head: Dict[str, Any], training: HeadTraining) -> Config:
    """The training config: all components are copied from the pipeline, except the head, which is new."""
    order = list(base.component_names) if name in base.component_names else [*base.component_names, name]
    score_weights = Language.get_factory_meta(head["factory"]).default_score_weights or {}
    files = {f"{name}{i}": str(path) for i, path in enumerate(training.train)}
    steps = steps_for(training.epochs, words_in(training.train))
    config = base.config.interpolate().copy()
    config["nlp"] |= {"pipeline": order, "disabled": [other for other in base.disabled if other != name]}
    config["components"] = {other: {"source": str(pipeline)} for other in order if other != name} | {name: head}
    corpus = train_corpus(files, training.seed)
    config["corpora"] = {
        "train": {"@readers": "mtl.AnnotatedExamples.v1", "corpus": corpus, "heads": [name]}, "dev": dev_corpus(training.dev)
    }  # fmt: skip
    weights = {**dict.fromkeys(base.config["training"]["score_weights"]), **score_weights}
    config["training"] |= training_section(steps, training.learning_rate, training.seed, weights)
    config["initialize"] |= copied_from(pipeline)
    return config
