"""`mtl bench`: the speed, latency, memory and load time of a pipeline on a text of the user's own.

Words a second are the mean over batches with a bootstrapped 95% interval, as `spacy benchmark speed` gives them.
"""

import random
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from spacy.language import Language
from spacy.tokens import Doc

from mtl.errors import UserError, check_range
from mtl.machine import machine, peak_memory_mb
from mtl.stages import StageClock, stage

LEAST_BATCHES = 30


@dataclass(frozen=True)
class BenchSettings:
    """batches: measured, at least 30. batch_size: documents a batch, drawn from the text. single: documents processed one by
    one, for the latency. question: asked of every tenth document, "" for none. seed: of the draw.
    """

    batches: int = LEAST_BATCHES
    batch_size: int = 64
    single: int = 100
    question: str = ""
    seed: int = 0

    def check(self) -> None:
        """RAISES (UserError): a setting is out of range; it is named with what is allowed."""
        check_range("--batches", self.batches, LEAST_BATCHES)
        check_range("--batch-size", self.batch_size, 1)
        check_range("--single", self.single, 20)


def bench_pipeline(
    load: Callable[[], Language], texts: Sequence[str], settings: BenchSettings, show: Callable[[str], None] = lambda _: None
) -> Dict[str, Any]:
    """Load the pipeline and measure it.

    RETURNS (dict): "load_seconds"; "words_per_second" and "documents_per_second", each {"mean", "low", "high"}; "latency_ms"
    {"p50", "p95", "p99"} of `nlp(text)`; "peak_memory_mb" of the process; "gpu_memory_mb"; "text", "settings", "machine".
    RAISES (UserError): no text, or a setting out of range.
    """
    settings.check()
    started = time.perf_counter()
    nlp = load()
    load_seconds = time.perf_counter() - started
    batches = draw(texts, settings)
    for batch in batches[: max(3, len(batches) // 10)]:  # warm-up
        run(nlp, batch, settings.question)
    rows = []
    for done, batch in enumerate(batches, start=1):
        started = time.perf_counter()
        words = run(nlp, batch, settings.question)
        seconds = time.perf_counter() - started
        rows.append((words / seconds, len(batch) / seconds))
        show(f"\r{done} of {len(batches)} batches, {np.mean([own for own, _ in rows]):,.0f} words/s")
    show("\n")
    rates = np.array(rows)
    return {
        "load_seconds": round(load_seconds, 3),
        "words_per_second": mean_interval(rates[:, 0]),
        "documents_per_second": mean_interval(rates[:, 1]),
        "latency_ms": latency(nlp, texts, settings),
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "gpu_memory_mb": round(torch.cuda.max_memory_allocated() / 1e6, 1) if torch.cuda.is_available() else None,
        "text": {"documents": len(texts), "characters": sum(map(len, texts))},
        "pipeline": {"name": f"{nlp.lang}_{nlp.meta['name']}", "components": nlp.pipe_names, "encoder": encoder_settings(nlp)},
        "settings": {"batches": settings.batches, "batch_size": settings.batch_size, "question": settings.question},
        "machine": machine(),
    }


def draw(texts: Sequence[str], settings: BenchSettings) -> List[List[str]]:
    """The batches: documents in a random order, drawn anew where they run out. RAISES (UserError): no text."""
    if not texts:
        raise UserError("there is no text to measure on")
    shuffled = random.Random(settings.seed)
    chosen: List[str] = []
    while len(chosen) < settings.batches * settings.batch_size:
        chosen += shuffled.sample(list(texts), len(texts))
    return [chosen[i * settings.batch_size : (i + 1) * settings.batch_size] for i in range(settings.batches)]


def run(nlp: Language, texts: Sequence[str], question: str) -> int:
    """Process the texts as one batch. RETURNS (int): their tokens."""
    return sum(len(doc) for doc in nlp.pipe(make_docs(nlp, texts, question), batch_size=len(texts)))


def make_docs(nlp: Language, texts: Sequence[str], question: str) -> List[Doc]:
    """The texts as Docs, every tenth with the question."""
    docs = []
    for i, text in enumerate(texts):
        doc = nlp.make_doc(text)
        if question and i % 10 == 0:
            doc._.questions = [question]
        docs.append(doc)
    return docs


def latency(nlp: Language, texts: Sequence[str], settings: BenchSettings) -> Dict[str, float]:
    """Milliseconds of `nlp(text)`, one text after another: median, 95th and 99th percentile."""
    chosen = random.Random(settings.seed).choices(list(texts), k=settings.single + 5)
    seconds = []
    for text in chosen:
        started = time.perf_counter()
        nlp(text)
        seconds.append(time.perf_counter() - started)
    return {f"p{q}": round(float(np.percentile(seconds[5:], q)) * 1e3, 2) for q in (50, 95, 99)}


def profile_pipeline(
    load: Callable[[], Language], texts: Sequence[str], settings: BenchSettings, show: Callable[[str], None] = lambda _: None
) -> Dict[str, Any]:
    """Where the time goes. RETURNS (dict): "stages" {name: seconds} over all batches, "words", "seconds", "machine".

    "tokenise" is spaCy's tokenizer and the encoder's; "align" finds each token's wordpieces and cuts windows; a component's
    name is its own work without writing to the Docs, which is "annotate"; "other" is spaCy's and other components'.
    RAISES (UserError): no text, or a setting out of range.
    """
    settings.check()
    nlp, batches = load(), draw(texts, settings)
    for batch in batches[:3]:
        run(nlp, batch, settings.question)
    words, started = 0, time.perf_counter()
    with StageClock() as clock:
        for done, batch in enumerate(batches, start=1):
            with stage("tokenise"):
                docs = make_docs(nlp, batch, settings.question)
            with stage("other"):
                words += sum(len(doc) for doc in nlp.pipe(docs, batch_size=len(docs)))
            show(f"\r{done} of {len(batches)} batches")
    show("\n")
    return {"stages": clock.seconds, "words": words, "seconds": time.perf_counter() - started, "machine": machine()}


def mean_interval(values: np.ndarray, resamples: int = 10_000) -> Dict[str, float]:
    """The mean, and the 95% interval of the mean by the bootstrap (percentiles of resampled means)."""
    draws = np.random.default_rng(0).choice(values, (resamples, len(values))).mean(1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return {"mean": round(float(values.mean()), 1), "low": round(float(low), 1), "high": round(float(high), 1)}


def encoder_settings(nlp: Language) -> Optional[Dict[str, Any]]:
    """The settings of the pipeline's `mtl_transformer`, None where it has none."""
    for name in nlp.pipe_names:
        if nlp.get_pipe_meta(name).factory == "mtl_transformer":
            return nlp.get_pipe(name).encoder.describe()  # type: ignore[attr-defined]
    return None


def bench_table(result: Dict[str, Any]) -> str:
    """What `bench_pipeline` found, as a person reads it."""
    words, documents, wait = (result[key] for key in ("words_per_second", "documents_per_second", "latency_ms"))
    memory = f"{result['peak_memory_mb']:,.0f} MB"
    if result["gpu_memory_mb"]:
        memory += f", on the GPU {result['gpu_memory_mb']:,.0f} MB"
    where = result["machine"]
    encoder = result["pipeline"]["encoder"]
    rows: List[Tuple[str, str]] = [
        ("words/s", f"{words['mean']:,.0f}  (95% interval {words['low']:,.0f} to {words['high']:,.0f})"),
        ("documents/s", f"{documents['mean']:,.1f}  ({documents['low']:,.1f} to {documents['high']:,.1f})"),
        ("one document", f"p50 {wait['p50']:.1f} ms, p95 {wait['p95']:.1f} ms, p99 {wait['p99']:.1f} ms"),
        ("load", f"{result['load_seconds']:.2f} s"),
        ("peak memory", memory),
        ("components", ", ".join(result["pipeline"]["components"])),
        ("encoder", ", ".join(f"{key} {value}" for key, value in (encoder or {}).items()) or "no mtl_transformer"),
        ("machine", f"{where['gpu'] or where['processor']}, {where['threads']} threads, Python {where['python']}"),
        ("versions", ", ".join(f"{name} {found}" for name, found in where["versions"].items())),
    ]
    return "\n".join(f"{name:14}{value}" for name, value in rows)


def profile_table(found: Dict[str, Any]) -> str:
    """What `profile` found: stages, longest first."""
    total = found["seconds"]
    lines = [f"{'stage':14}{'share':>7}  {'microseconds a word':>20}"]
    for name, seconds in sorted(found["stages"].items(), key=lambda item: -item[1]):
        lines.append(f"{name:14}{seconds / total:>7.1%}  {seconds / found['words'] * 1e6:>20.2f}")
    lines.append(f"{'all':14}{1:>7.0%}  {total / found['words'] * 1e6:>20.2f}")
    return "\n".join(lines)
