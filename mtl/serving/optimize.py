"""`mtl optimize`: try the precisions and backends that the machine has on the user's own documents, and keep the fastest that
scores as well.

torch.compile is not tried: on a CPU it made MiniLM 1.00 (fp32) to 1.04 times (bf16) as fast, and it needs a C++ compiler there.
"""

import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

import torch
from spacy.language import Language
from thinc.api import Config

from mtl.data.docs import read_docs
from mtl.encoder.precision import lacks
from mtl.errors import UserError, check_range
from mtl.files import replacing
from mtl.machine import machine
from mtl.serving.bench import encoder_settings, run
from mtl.training.evaluation import evaluate_pipeline, name_of

HEADLINES = (("cats_accuracy", "cats_macro_auc"), ("ents_f",), ("qa_f1",))  # of each head, the first that it has
LEAST_ROUNDS = 3
FIRST = "fp32 torch"  # what the others are compared with
TRIED = (FIRST, "fp32 openvino", "bf16 openvino", "int8 openvino", "bf16 torch", "fp16 torch")  # precision and backend


@dataclass(frozen=True)
class OptimizeSettings:
    """seconds: of timing for each of `TRIED`, beside scoring. max_drop: points that a head may lose against fp32. documents: that
    are timed, drawn from the data.
    """

    seconds: float = 15.0
    max_drop: float = 0.3
    documents: int = 256

    def check(self) -> None:
        """RAISES (UserError): a setting is out of range; it is named with what is allowed."""
        check_range("--seconds", self.seconds, 0.0)
        check_range("--max-drop", self.max_drop, 0.0, 100.0)
        check_range("--documents", self.documents, 1)


def optimize_pipeline(
    load: Callable[[str, str], Language],
    data: Sequence[Path],
    settings: OptimizeSettings,
    show: Callable[[str], None] = lambda _: None,
) -> Dict[str, Any]:
    """Score and time the pipeline in every precision and backend that its device has.

    load: the pipeline in a precision and backend.
    RETURNS (dict): "tried" {"int8 openvino": {"precision", "backend", "words_per_second", "over_first", "scores", "drop"}, ...},
    "chosen", one of their names, "lacking" {name: why}, "machine".
    RAISES (UserError): no encoder of ours in the pipeline, no annotation in the data, or a setting out of range.
    """
    settings.check()
    first = load(*FIRST.split())
    encoder = encoder_settings(first)
    if encoder is None:
        names = ", ".join(first.pipe_names)
        raise UserError(f"the pipeline has no mtl_transformer, whose precision could be set; its components: {names}")
    lacking: Dict[str, str] = {}
    pipelines: Dict[str, Language] = {}
    found: Dict[str, Dict[str, Any]] = {}
    for name in TRIED:
        precision, backend = name.split()
        if reason := lacks(precision, backend, torch.device(encoder["device"])):
            lacking[name] = reason
            continue
        if name == "bf16 torch" and "bf16 openvino" in found:  # MiniLM: 0.86 times as fast
            continue
        show(f"\rscoring in {name} ...")
        try:
            nlp = first if name == FIRST else load(precision, backend)
            scores = evaluate_pipeline(nlp, data)["scores"]
        except UserError as error:  # OpenVINO cannot run every encoder
            if name == FIRST:
                raise
            lacking[name] = str(error)
            continue
        pipelines[name] = nlp
        found[name] = {"precision": precision, "backend": backend, "scores": {key: scores[key] for key in headlines(scores)}}
    texts = [doc.text for path in data for doc in read_docs(path, first.vocab)]
    texts = random.Random(0).sample(texts, min(settings.documents, len(texts)))
    for name, rate in time_in_turn(pipelines, texts, settings.seconds, show).items():
        found[name] |= rate
    for row in found.values():
        row["drop"] = max(100 * (found[FIRST]["scores"][key] - value) for key, value in row["scores"].items())
    good = [name for name, row in found.items() if row["drop"] <= settings.max_drop]
    chosen = max(good, key=lambda name: found[name]["words_per_second"])
    return {"tried": found, "chosen": chosen, "lacking": lacking, "max_drop": settings.max_drop, "machine": machine()}


def headlines(scores: Dict[str, float]) -> List[str]:
    """The score that stands for each head."""
    return [next(key for key in keys if key in scores) for keys in HEADLINES if any(key in scores for key in keys)]


def time_in_turn(
    pipelines: Dict[str, Language], texts: List[str], seconds: float, show: Callable[[str], None]
) -> Dict[str, Dict[str, float]]:
    """Words a second of each pipeline, interleaved, after a round that warms up.

    RETURNS (dict): name -> {"words_per_second", "over_first"}: medians over the rounds, of rates and of ratios to the first
    pipeline in the same round.
    """
    first = next(iter(pipelines))
    spent: Dict[str, List[float]] = {name: [] for name in pipelines}
    words = {name: run(nlp, texts, "") for name, nlp in pipelines.items()}
    while len(spent[first]) < LEAST_ROUNDS or sum(spent[first]) < seconds:
        for name, nlp in pipelines.items():
            started = time.perf_counter()
            run(nlp, texts, "")
            spent[name].append(time.perf_counter() - started)
        show(f"\rtiming, round {len(spent[first])} ...")
    show("\n")
    return {
        name: {
            "words_per_second": words[name] / statistics.median(own),
            "over_first": statistics.median(theirs / mine for mine, theirs in zip(own, spent[first])),
        }
        for name, own in spent.items()
    }


def check_written(pipeline: Path) -> None:
    """RAISES (UserError): `pipeline` is no folder of a pipeline, to which a choice could be written."""
    if not (pipeline / "config.cfg").is_file():
        raise UserError(
            f"{pipeline}: no config.cfg is there, to which the choice could be written. Give a pipeline's folder; or --dry-run, "
            f'and set it at load: spacy.load(..., config={{"components.transformer.model.precision": ...}})'
        )


def write_choice(pipeline: Path, precision: str, backend: str) -> None:
    """Set both in a saved pipeline's config.cfg, whole or not at all. The weights stay as they are.

    RAISES (UserError): there is no such file.
    """
    check_written(pipeline)
    config = Config().from_disk(pipeline / "config.cfg", interpolate=False)
    changed = [part for part in config["components"].values() if part.get("factory") == "mtl_transformer"]
    for part in changed:
        part["model"] |= {"precision": precision, "backend": backend}
    with replacing(pipeline / "config.cfg") as partial:
        config.to_disk(partial)


def optimize_table(result: Dict[str, Any]) -> str:
    """What `optimize_pipeline` found, as a person reads it."""
    rows = result["tried"]
    keys = list(rows[FIRST]["scores"])
    names = [name_of(key).replace(": ", " ") for key in keys]
    lines = [f"{'':15}{'words/s':>9}{'over first':>12}" + "".join(f"  {name}" for name in names)]
    for name, row in rows.items():
        scores = "".join(f"  {100 * row['scores'][key]:>{len(head)}.2f}" for key, head in zip(keys, names))
        verdict = "" if row["drop"] <= result["max_drop"] else f"   loses {row['drop']:.2f} points"
        lines.append(f"{name:15}{row['words_per_second']:>9,.0f}{row['over_first']:>12.2f}{scores}{verdict}")
    lines += [f"{name:15}not tried: {reason}" for name, reason in result["lacking"].items()]
    return "\n".join(lines)
