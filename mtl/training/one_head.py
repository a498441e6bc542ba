"""Heads that come and go on a finished pipeline, while all that stays gives the same outputs to the bit."""

import math
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Callable, Dict, List, Sequence

from spacy.language import Language
from spacy.training.initialize import init_nlp
from spacy.training.loop import train
from spacy.util import load_model
from spacy.vocab import Vocab
from thinc.api import Config

from mtl.data.docs import read_docs
from mtl.errors import UserError, check_range
from mtl.files import check_target, replacing, write_json
from mtl.mixture.reader import words_to_encode
from mtl.training.evaluation import evaluate_pipeline, is_error, name_of, shown
from mtl.training.saving import without_local_paths

STEP_WORDS = 1000  # as the batcher counts them
Echo = Callable[[str], None]


def heads_of(nlp: Language) -> List[str]:
    """The names of our heads in a pipeline."""
    return [name for name, pipe in nlp.pipeline if hasattr(pipe, "reads_encoder")]


def remove_head(nlp: Language, name: str, out: Path) -> None:
    """Write the pipeline without that head. RAISES (UserError): it is none of the pipeline's heads."""
    _check_head(nlp, name)
    nlp.remove_pipe(name)
    with replacing(out, "meta.json") as partial:
        nlp.to_disk(partial)
        without_local_paths(partial / "config.cfg")


def train_head(
    pipeline: str, name: str, head: Dict[str, Any], data: Dict[str, List[Path]], out: Path, passes: float, learn_rate: float,
    cost: bool, echo: Echo, seed: int = 0, stdout: IO = sys.stdout,
) -> Dict[str, Any]:  # fmt: skip
    """Train one head, new or anew, on a finished pipeline whose encoder and other heads stay as they are, and write the whole.

    pipeline: a folder or a package. head: its section of the config ("factory" and what else is set). data: "train" and "dev",
    converted files or folders. passes: over the training data. cost: train the head once more with the encoder free, on a copy
    that is thrown away, to see what the frozen one costs. RETURNS: the report, also in `out/head.json`: "scores" on dev with the
    encoder "frozen", and where `cost` says so "free". RAISES (UserError): nothing is annotated for the head.
    """
    check_range("passes", passes, 0.01)
    check_range("learn-rate", learn_rate, 0.0, 1.0)
    check_target(out, "meta.json")
    base = load_model(pipeline)
    if not any(hasattr(pipe, "listening_components") for _, pipe in base.pipeline):
        raise UserError(f"{pipeline}: the pipeline has no mtl_transformer for a head to read from")
    config = _config(base, pipeline, name, head, data, passes, learn_rate, seed)
    report: Dict[str, Any] = {"head": name, "steps": config["training"]["max_steps"], "scores": {}}
    ways = {"frozen": [other for other in config["nlp"]["pipeline"] if other != name]}
    if cost:
        transformers = [other for other, pipe in base.pipeline if hasattr(pipe, "listening_components")]
        ways["free"] = [other for other in ways["frozen"] if other not in transformers]
    for way, frozen in ways.items():
        echo(f"\n{name}, with the encoder {way}:" + (" (to compare; thrown away)" if way == "free" else ""))
        config["training"]["frozen_components"] = frozen
        nlp = init_nlp(config, use_gpu=-1)
        with tempfile.TemporaryDirectory() as folder:
            train(nlp, Path(folder), use_gpu=-1, stdout=stdout, stderr=sys.stderr)
            best = load_model(Path(folder) / "model-best")
        kept = best.select_pipes(enable=[*(one for one, _ in best.pipeline if one not in heads_of(best)), name])
        with kept:
            report["scores"][way] = evaluate_pipeline(best, data["dev"])["scores"]
        if way == "frozen":
            _write(best, out, report)
    _write_report(out, report)
    return report


def summary(report: Dict[str, Any]) -> str:
    """The scores of the head as a person reads them, and what the frozen encoder costs."""
    frozen, free = report["scores"]["frozen"], report["scores"].get("free", {})
    width = max(len(name_of(key)) for key in frozen)
    lines = [" " * width + "  frozen" + ("    free   the frozen encoder costs" if free else "")]
    for key, value in frozen.items():
        apart = f"{100 * (free[key] - value):+.1f} points" if key in free and not is_error(key) else ""
        more = f"  {shown(key, free[key]):>6}   {apart}" if key in free else ""
        lines.append(f"{name_of(key):{width}}  {shown(key, value):>6}{more}".rstrip())
    return "\n".join(lines)


def _check_head(nlp: Language, name: str) -> None:
    if name not in heads_of(nlp):
        raise UserError(f"the pipeline has no head {name!r}; its heads are {', '.join(heads_of(nlp)) or 'none'}")


def head_settings(nlp: Language, name: str) -> Dict[str, Any]:
    """The section of the config that a head of the pipeline has. RAISES (UserError): it is none of the pipeline's heads."""
    _check_head(nlp, name)
    return dict(nlp.config.interpolate()["components"][name])


def _config(
    base: Language, pipeline: str, name: str, head: Dict[str, Any], data: Dict[str, List[Path]], passes: float, learn_rate: float,
    seed: int,
) -> Config:  # fmt: skip
    """The training config: everything taken from the pipeline but the one head, which is made anew."""
    order = list(base.component_names) if name in base.component_names else [*base.component_names, name]
    own = Language.get_factory_meta(head["factory"]).default_score_weights or {}
    files = {f"{name}{i}": str(path) for i, path in enumerate(data["train"])}
    steps = math.ceil(passes * _words(data["train"]) / STEP_WORDS)
    config = base.config.interpolate().copy()
    config["nlp"] |= {"pipeline": order, "disabled": [other for other in base.disabled if other != name]}
    config["components"] = {other: {"source": str(pipeline)} for other in order if other != name} | {name: head}
    amounts = {"@misc": "mtl.Passes.v1", "passes": dict.fromkeys(files, 1.0)}
    mixed = {"@readers": "mtl.MixedCorpus.v1", "seed": seed, "paths": files, "amounts": amounts}
    config["corpora"] = {
        "train": {"@readers": "mtl.LearnedFrom.v1", "corpus": mixed, "heads": [name]},
        "dev": {"@readers": "mtl.Documents.v1", "paths": [str(path) for path in data["dev"]]},
    }
    batcher = {"@batchers": "spacy.batch_by_words.v1", "size": STEP_WORDS, "tolerance": 0.2, "discard_oversize": False,
               "get_length": {"@misc": "mtl.EncodedWords.v1"}}  # fmt: skip
    rate = {"@schedules": "mtl.WarmupLinear.v1", "rate": learn_rate, "total_steps": steps}
    config["training"] |= {
        "train_corpus": "corpora.train", "dev_corpus": "corpora.dev", "seed": seed, "max_steps": steps, "max_epochs": -1,
        "eval_frequency": max(1, steps // 5), "patience": 0, "accumulate_gradient": 1, "dropout": 0.1, "batcher": batcher,
        "optimizer": {"@optimizers": "mtl.AdamW.v1", "learn_rate": rate}, "logger": {"@loggers": "mtl.ConsoleLogger.v1"},
        "before_to_disk": {"@callbacks": "mtl.AtomicSave.v1"}, "before_update": None, "annotating_components": [],
        "score_weights": {**dict.fromkeys(base.config["training"]["score_weights"]), **own},
    }  # fmt: skip
    same = {"@callbacks": "spacy.copy_from_base_model.v1", "tokenizer": str(pipeline), "vocab": str(pipeline)}
    config["initialize"] |= {"components": {}, "tokenizer": {}, "before_init": same, "after_init": None, "vectors": None}
    return config


def _words(paths: Sequence[Path]) -> int:
    """How many words of the files the encoder reads in a pass. RAISES (UserError): there are none."""
    vocab = Vocab()
    docs = (doc for path in paths for doc in read_docs(path, vocab))
    words = sum(map(words_to_encode, docs))
    if not words:
        raise UserError(f"{', '.join(map(str, paths))}: no document in it")
    return words


def _write(nlp: Language, out: Path, report: Dict[str, Any]) -> None:
    with replacing(out, "meta.json") as partial:
        nlp.to_disk(partial)
        without_local_paths(partial / "config.cfg")
        write_json(partial / "head.json", report)


def _write_report(out: Path, report: Dict[str, Any]) -> None:
    with replacing(out / "head.json") as partial:
        write_json(partial, report)
