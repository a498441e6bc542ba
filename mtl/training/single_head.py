"""Add, retrain and remove heads of a trained pipeline. The outputs of all other components stay the same, bit for bit."""

import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Dict, Sequence

from spacy.language import Language
from spacy.util import load_model
from spacy.vocab import Vocab
from thinc.api import Config

from mtl import compat
from mtl.data.docs import read_docs
from mtl.errors import UserError, check_range
from mtl.files import check_target, replacing, write_json
from mtl.progress import Echo
from mtl.registry import heads_of
from mtl.sampling.corpus import words_to_encode
from mtl.training.evaluation import evaluate_pipeline, score_named
from mtl.training.saving import without_local_paths

WORDS_PER_STEP = 1000  # as the batcher counts them
FROZEN, UNFROZEN = "frozen", "unfrozen"  # the encoder, while the head is trained


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
    pipeline: str, name: str, head: Dict[str, Any], training: HeadTraining, out: Path, echo: Echo, stdout: IO = sys.stdout
) -> Dict[str, Any]:
    """Train one head from scratch on a trained pipeline, with everything else frozen, and write the whole pipeline.

    Args:
        pipeline (str): Folder or package of the pipeline.
        name (str): Name of the head, which may be new.
        head (Dict[str, Any]): Its section of the config: "factory" and any settings.
        training (HeadTraining): How to train it.
        out (Path): Where to write.
        echo (Echo): Gets messages.
        stdout (IO): Where the training log goes.

    Returns:
        Dict[str, Any]: The report, which is also written to `out/head.json`: "head", "steps", and "scores" on dev with the
        encoder "frozen" and, with `compare_unfrozen`, "unfrozen".

    Raises:
        UserError: The pipeline has no encoder of ours; no document is annotated for the head.
    """
    training.check()
    check_target(out, "meta.json")
    base = load_model(pipeline)
    transformers = [other for other, pipe in base.pipeline if hasattr(pipe, "listening_components")]
    if not transformers:
        raise UserError(f"{pipeline}: the pipeline has no mtl_transformer for a head to read from")
    config = _training_config(base, pipeline, name, head, training)
    report: Dict[str, Any] = {"head": name, "steps": config["training"]["max_steps"], "scores": {}}
    others = [other for other in config["nlp"]["pipeline"] if other != name]
    frozen_components = {FROZEN: others}
    if training.compare_unfrozen:
        frozen_components[UNFROZEN] = [other for other in others if other not in transformers]
    for encoder, frozen in frozen_components.items():
        echo(f"\n{name}, encoder {encoder}:" + (" (for comparison; discarded)" if encoder == UNFROZEN else ""))
        config["training"]["frozen_components"] = frozen
        best = _train(config, stdout)
        with best.select_pipes(enable=[*(other for other in best.pipe_names if other not in heads_of(best)), name]):
            report["scores"][encoder] = evaluate_pipeline(best, training.dev)["scores"]
        if encoder == FROZEN:
            _write(best, out, report)
    with replacing(out / "head.json") as partial:
        write_json(partial, report)
    return report


def _train(config: Config, stdout: IO) -> Language:
    """The best pipeline of spaCy's training loop."""
    nlp = compat.init_nlp(config)
    with tempfile.TemporaryDirectory() as folder:
        compat.training_loop().train(nlp, Path(folder), use_gpu=-1, stdout=stdout, stderr=sys.stderr)
        return load_model(Path(folder) / "model-best")


def head_table(report: Dict[str, Any]) -> str:
    """The scores of a report of `train_head` as a table, with what the frozen encoder costs."""
    frozen, unfrozen = report["scores"][FROZEN], report["scores"].get(UNFROZEN, {})
    scores = {score_named(key): value for key, value in frozen.items()}
    width = max(len(score.title) for score in scores)
    lines = [" " * width + "  frozen" + ("  unfrozen   cost of the frozen encoder" if unfrozen else "")]
    for score, value in scores.items():
        columns = ""
        if score.key in unfrozen:
            cost = "" if score.is_error else f"{100 * (unfrozen[score.key] - value):+.1f} points"
            columns = f"  {score.show(unfrozen[score.key]):>8}   {cost}"
        lines.append(f"{score.title:{width}}  {score.show(value):>6}{columns}".rstrip())
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
    steps = math.ceil(training.epochs * _words(training.train) / WORDS_PER_STEP)
    config = base.config.interpolate().copy()
    config["nlp"] |= {"pipeline": order, "disabled": [other for other in base.disabled if other != name]}
    config["components"] = {other: {"source": str(pipeline)} for other in order if other != name} | {name: head}
    sampling = {"@misc": "mtl.EpochsPerTask.v1", "epochs": dict.fromkeys(files, 1.0)}
    corpus = {"@readers": "mtl.MultiTaskCorpus.v1", "seed": training.seed, "paths": files, "sampling": sampling}
    config["corpora"] = {
        "train": {"@readers": "mtl.AnnotatedExamples.v1", "corpus": corpus, "heads": [name]},
        "dev": {"@readers": "mtl.Documents.v1", "paths": [str(path) for path in training.dev]},
    }
    batcher = {"@batchers": "spacy.batch_by_words.v1", "size": WORDS_PER_STEP, "tolerance": 0.2, "discard_oversize": False,
               "get_length": {"@misc": "mtl.EncodedWords.v1"}}  # fmt: skip
    learn_rate = {"@schedules": "mtl.WarmupLinear.v1", "peak_rate": training.learning_rate, "total_steps": steps}
    config["training"] |= {
        "train_corpus": "corpora.train", "dev_corpus": "corpora.dev", "seed": training.seed, "max_steps": steps, "max_epochs": -1,
        "eval_frequency": max(1, steps // 5), "patience": 0, "accumulate_gradient": 1, "dropout": 0.1, "batcher": batcher,
        "optimizer": {"@optimizers": "mtl.AdamW.v1", "learn_rate": learn_rate}, "logger": {"@loggers": "mtl.ConsoleLogger.v1"},
        "before_to_disk": {"@callbacks": "mtl.AtomicSave.v1"}, "before_update": None, "annotating_components": [],
        "score_weights": {**dict.fromkeys(base.config["training"]["score_weights"]), **score_weights},
    }  # fmt: skip
    copied = {"@callbacks": "spacy.copy_from_base_model.v1", "tokenizer": str(pipeline), "vocab": str(pipeline)}
    config["initialize"] |= {"components": {}, "tokenizer": {}, "before_init": copied, "after_init": None, "vectors": None}
    return config


def _words(paths: Sequence[Path]) -> int:
    """How many words the encoder reads in an epoch over the files."""
    vocab = Vocab()
    words = sum(words_to_encode(doc) for path in paths for doc in read_docs(path, vocab))
    if not words:
        raise UserError(f"{', '.join(map(str, paths))}: no document in it")
    return words


def _write(nlp: Language, out: Path, report: Dict[str, Any]) -> None:
    with replacing(out, "meta.json") as partial:
        nlp.to_disk(partial)
        without_local_paths(partial / "config.cfg")
        write_json(partial / "head.json", report)
