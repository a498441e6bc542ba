"""Training runs that commands make: the sections of their configs, and the folder for their checkpoints."""

import json
import math
import shutil
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

from spacy.vocab import Vocab
from thinc.api import Config

from mtl.checkpoints import check_same_run
from mtl.data.docs import read_docs
from mtl.errors import UserError
from mtl.files import read_json, sha256_of, write_json
from mtl.sampling.corpus import words_to_encode
from mtl.training.checkpoint import flat_settings

WORDS_PER_STEP = 1000  # as the batcher counts them


def steps_for(epochs: float, words: int) -> int:
    """How many steps so many epochs over so many words take."""
    return max(1, math.ceil(epochs * words / WORDS_PER_STEP))


def words_in(paths: Sequence[Path]) -> int:
    """How many words the encoder reads in an epoch over converted files.

    Raises:
        UserError: There are none.
    """
    vocab = Vocab()
    words = sum(words_to_encode(doc) for path in paths for doc in read_docs(path, vocab))
    if not words:
        raise UserError(f"{', '.join(map(str, paths))}: no document in it")
    return words


def train_corpus(files: Dict[str, str], seed: int) -> Dict[str, Any]:
    """The reader of converted files that are all seen equally often: name -> file."""
    sampling = {"@misc": "mtl.EpochsPerTask.v1", "epochs": dict.fromkeys(files, 1.0)}
    return {"@readers": "mtl.MultiTaskCorpus.v1", "seed": seed, "paths": files, "sampling": sampling}


def dev_corpus(paths: Sequence[Path]) -> Dict[str, Any]:
    """The reader of what is scored on."""
    return {"@readers": "mtl.Documents.v1", "paths": [str(path) for path in paths]}


def training_section(steps: int, learning_rate: float, seed: int, score_weights: Dict[str, Optional[float]]) -> Dict[str, Any]:
    """What [training] needs for a run of so many steps, five of which are followed by an evaluation."""
    batcher = {"@batchers": "spacy.batch_by_words.v1", "size": WORDS_PER_STEP, "tolerance": 0.2, "discard_oversize": False,
               "get_length": {"@misc": "mtl.EncodedWords.v1"}}  # fmt: skip
    learn_rate = {"@schedules": "mtl.WarmupLinear.v1", "peak_rate": learning_rate, "total_steps": steps}
    return {
        "train_corpus": "corpora.train", "dev_corpus": "corpora.dev", "seed": seed, "max_steps": steps, "max_epochs": -1,
        "eval_frequency": max(1, steps // 5), "patience": 0, "accumulate_gradient": 1, "dropout": 0.1, "batcher": batcher,
        "optimizer": {"@optimizers": "mtl.AdamW.v1", "learn_rate": learn_rate}, "logger": {"@loggers": "mtl.ConsoleLogger.v1"},
        "before_to_disk": {"@callbacks": "mtl.AtomicSave.v1"}, "before_update": None, "annotating_components": [],
        "frozen_components": [], "score_weights": score_weights,
    }  # fmt: skip


def copied_from(pipeline: str) -> Dict[str, Any]:
    """What [initialize] needs to take tokenizer and vocabulary from a finished pipeline."""
    copied = {"@callbacks": "spacy.copy_from_base_model.v1", "tokenizer": pipeline, "vocab": pipeline}
    return {"components": {}, "tokenizer": {}, "before_init": copied, "after_init": None, "vectors": None}


def prepare_work(work: Path, config: Config, sources: Sequence[Path], resume: bool) -> None:
    """Make the folder for a run's checkpoints, or open that of the same run.

    Args:
        work (Path): The folder.
        config (Config): The run's config.
        sources (Sequence[Path]): Files and folders that the run depends on.
        resume (bool): Resume; otherwise what is there is deleted.

    Raises:
        UserError: There is one, of a run with other settings or files.
    """
    files = [file for path in sources for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if file.is_file()]
    identity = json.loads(json.dumps({**flat_settings(config), **{str(file): sha256_of(file) for file in files}}))
    stored = work / "run.json"
    if not resume:
        shutil.rmtree(work, ignore_errors=True)
    elif stored.exists():
        check_same_run(work, read_json(stored), identity)
    work.mkdir(parents=True, exist_ok=True)
    write_json(stored, identity)
