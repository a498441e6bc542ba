"""`mtl optimize`: find the fastest precision and backend that scores as well as fp32, on the user's own documents.

torch.compile is not tried: on a CPU it made MiniLM 1.00 (fp32) to 1.04 times (bf16) as fast, and it needs a C++ compiler there.
"""

import random
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import torch
from spacy.language import Language
from thinc.api import Config

from mtl.data.docs import read_docs
from mtl.deploy.bench import encoder_settings, process_batch
from mtl.encoder.runtime.precision import why_unsupported
from mtl.errors import UserError, check_range
from mtl.files import replacing
from mtl.progress import Echo, silent
from mtl.registry import headlines, tasks_of
from mtl.timing import interleaved_rates, machine
from mtl.training.evaluation import evaluate_pipeline, score_named

REFERENCE = "fp32 torch"  # what the others are compared with
CANDIDATES = (REFERENCE, "fp32 openvino", "bf16 openvino", "int8 openvino", "bf16 torch", "fp16 torch")  # precision and backend


@dataclass(frozen=True)
class OptimizeSettings:
    """How to measure and choose.

    Args:
        seconds (float): Seconds of timing for each candidate, in addition to scoring.
        max_drop (float): Points that the score of a head may drop compared with the reference.
        documents (int): Documents to time, sampled from the data.
    """

    seconds: float = 15.0
    max_drop: float = 0.3
    documents: int = 256

    def check(self) -> None:
        """Check every setting.

        Raises:
            UserError: One is out of range.
        """
        check_range("--seconds", self.seconds, 0.0)
        check_range("--max-drop", self.max_drop, 0.0, 100.0)
        check_range("--documents", self.documents, 1)


def score_candidates(
    load: Callable[[str, str], Language], data: Sequence[Path], show: Echo
) -> Tuple[Dict[str, Language], Dict[str, Dict[str, Any]], Dict[str, str]]:
    """Load and score a pipeline in every precision and backend that its device supports.

    Args:
        load (Callable[[str, str], Language]): Loads the pipeline in a precision and backend.
        data (Sequence[Path]): Converted files or folders to score on.
        show (Echo): Gets progress.

    Returns:
        Tuple: By candidate, the pipelines; the rows of the result without the speed; why the other candidates were not tried.

    Raises:
        UserError: The pipeline has no encoder of ours, or the data has no annotation for it.
    """
    reference = load(*REFERENCE.split())
    encoder = encoder_settings(reference)
    if encoder is None:
        names = ", ".join(reference.pipe_names)
        raise UserError(f"the pipeline has no mtl_transformer, so no precision can be chosen; its components are {names}")
    pipelines: Dict[str, Language] = {}
    rows: Dict[str, Dict[str, Any]] = {}
    unavailable: Dict[str, str] = {}
    for name in CANDIDATES:
        precision, backend = name.split()
        if reason := why_unsupported(precision, backend, torch.device(encoder["device"])):
            unavailable[name] = reason
            continue
        if name == "bf16 torch" and "bf16 openvino" in rows:  # MiniLM: 0.86 times as fast
            continue
        show(f"\rscoring in {name} ...")
        try:
            nlp = reference if name == REFERENCE else load(precision, backend)
            scores = head_scores(nlp, data, list(rows[REFERENCE]["scores"]) if rows else ())
        except UserError as error:  # such as: OpenVINO cannot run the encoder
            if name == REFERENCE:
                raise
            unavailable[name] = str(error)
            continue
        pipelines[name] = nlp
        reference_scores = rows[REFERENCE]["scores"] if rows else scores
        drop = max(score_named(key).loss(reference_scores[key], value) for key, value in scores.items())
        rows[name] = {"precision": precision, "backend": backend, "scores": scores, "drop": drop}
    return pipelines, rows, unavailable


def head_scores(nlp: Language, data: Sequence[Path], keys: Sequence[str] = ()) -> Dict[str, float]:
    """One score for each head that the data is annotated for: those with these keys, if there are any.

    Raises:
        UserError: A key is missing, such as a correlation if all predicted numbers are the same.
    """
    scores = evaluate_pipeline(nlp, data)["scores"]
    keys = keys or headlines(scores, tasks_of(nlp)) or list(scores)
    missing = [key for key in keys if key not in scores]
    if missing:
        raise UserError(f"its scores lack {', '.join(missing)}")
    return {key: scores[key] for key in keys}


def optimize_pipeline(
    load: Callable[[str, str], Language], data: Sequence[Path], settings: OptimizeSettings, show: Echo = silent
) -> Dict[str, Any]:
    """Score and time a pipeline in every precision and backend that its device supports.

    Args:
        load (Callable[[str, str], Language]): Loads the pipeline in a precision and backend.
        data (Sequence[Path]): Converted files or folders to score on.
        settings (OptimizeSettings): How to measure and choose.
        show (Echo): Gets progress.

    Returns:
        Dict[str, Any]: "tried" {"int8 openvino": {"precision", "backend", "words_per_second", "over_first", "scores", "drop"},
        ...}; "chosen", one of their names; "unavailable" {name: reason}; "max_drop"; "machine".

    Raises:
        UserError: The pipeline has no encoder of ours, the data has no annotation for it, or a setting is out of range.
    """
    settings.check()
    pipelines, rows, unavailable = score_candidates(load, data, show)
    texts = sample_texts(data, pipelines[REFERENCE], settings.documents)
    workloads = {name: partial(process_batch, nlp, texts, "") for name, nlp in pipelines.items()}
    for name, rates in interleaved_rates(workloads, settings.seconds, show).items():
        rows[name] |= rates
    accurate = [name for name, row in rows.items() if row["drop"] <= settings.max_drop]
    chosen = max(accurate, key=lambda name: rows[name]["words_per_second"])
    return {
        "tried": rows, "chosen": chosen, "unavailable": unavailable, "max_drop": settings.max_drop, "machine": machine(),
    }  # fmt: skip


def sample_texts(data: Sequence[Path], nlp: Language, count: int) -> List[str]:
    """The texts of at most this many documents of the data."""
    texts = [doc.text for path in data for doc in read_docs(path, nlp.vocab)]
    return random.Random(0).sample(texts, min(count, len(texts)))


def check_writable(pipeline: Path) -> None:
    """Check that there is a config to write a choice to.

    Raises:
        UserError: `pipeline` is not the folder of a pipeline.
    """
    if not (pipeline / "config.cfg").is_file():
        raise UserError(
            f"{pipeline}: there is no config.cfg to write the choice to. Give a pipeline's folder; or use --dry-run, and set the "
            f'choice when loading: spacy.load(..., config={{"components.transformer.model.precision": ...}})'
        )


def write_choice(pipeline: Path, precision: str, backend: str) -> None:
    """Set precision and backend in the config of a saved pipeline. The weights stay as they are.

    Args:
        pipeline (Path): The pipeline's folder.
        precision (str): The precision.
        backend (str): The backend.

    Raises:
        UserError: `pipeline` is not the folder of a pipeline.
    """
    check_writable(pipeline)
    config = Config().from_disk(pipeline / "config.cfg", interpolate=False)
    for section in config["components"].values():
        if section.get("factory") == "mtl_transformer":
            section["model"] |= {"precision": precision, "backend": backend}
    with replacing(pipeline / "config.cfg") as partial_config:
        config.to_disk(partial_config)


def optimize_table(result: Dict[str, Any]) -> str:
    """The result of `optimize_pipeline` as a table."""
    rows = result["tried"]
    keys = list(rows[REFERENCE]["scores"])
    titles = [score_named(key).title.replace(": ", " ") for key in keys]
    lines = [f"{'':15}{'words/s':>9}{'over first':>12}" + "".join(f"  {title}" for title in titles)]
    for name, row in rows.items():
        scores = "".join(f"  {score_named(key).show(row['scores'][key], 2):>{len(title)}}" for key, title in zip(keys, titles))
        verdict = "" if row["drop"] <= result["max_drop"] else f"   drops {row['drop']:.2f} points"
        lines.append(f"{name:15}{row['words_per_second']:>9,.0f}{row['over_first']:>12.2f}{scores}{verdict}")
    lines += [f"{name:15}not tried: {reason}" for name, reason in result["unavailable"].items()]
    return "\n".join(lines)
