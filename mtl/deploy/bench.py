"""`mtl bench`: the speed, latency, memory and load time of a pipeline on the user's own texts.

Words per second are the mean over batches with a bootstrapped 95% confidence interval, as in `spacy benchmark speed`.
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
from mtl.progress import Echo, silent
from mtl.timing import StageClock, machine, peak_memory_mb, stage

MIN_BATCHES = 30  # for an interval
WARM_UP_DOCS = 5  # before the latency is measured
QUESTION_INTERVAL = 10  # documents from one that is asked a question to the next


@dataclass(frozen=True)
class BenchSettings:
    """What to measure.

    Args:
        batches (int): Number of batches, at least 30.
        batch_size (int): Documents per batch, sampled from the texts.
        single_docs (int): Documents that are processed one by one, for the latency.
        question (str): A question to ask about every tenth document; "" for none.
        seed (int): Seed of the sample.
    """

    batches: int = MIN_BATCHES
    batch_size: int = 64
    single_docs: int = 100
    question: str = ""
    seed: int = 0

    def check(self) -> None:
        """Check every setting.

        Raises:
            UserError: One is out of range.
        """
        check_range("--batches", self.batches, MIN_BATCHES)
        check_range("--batch-size", self.batch_size, 1)
        check_range("single_docs", self.single_docs, 20)


def bench_pipeline(
    load: Callable[[], Language], texts: Sequence[str], settings: BenchSettings, show: Echo = silent
) -> Dict[str, Any]:
    """Load a pipeline and measure it.

    Args:
        load (Callable[[], Language]): Loads the pipeline.
        texts (Sequence[str]): Documents to process.
        settings (BenchSettings): What to measure.
        show (Echo): Gets progress.

    Returns:
        Dict[str, Any]: "load_seconds"; "words_per_second" and "documents_per_second", each {"mean", "low", "high"};
        "latency_ms" {"p50", "p95", "p99"} of `nlp(text)`; "peak_memory_mb" of the process; "gpu_memory_mb"; and "text",
        "pipeline", "settings", "machine".

    Raises:
        UserError: There is no text, or a setting is out of range.
    """
    settings.check()
    started = time.perf_counter()
    nlp = load()
    load_seconds = time.perf_counter() - started
    batches = sample_batches(texts, settings)
    for batch in batches[: max(3, len(batches) // 10)]:  # warm-up
        process_batch(nlp, batch, settings.question)
    rows = []
    for done, batch in enumerate(batches, start=1):
        started = time.perf_counter()
        words = process_batch(nlp, batch, settings.question)
        seconds = time.perf_counter() - started
        rows.append((words / seconds, len(batch) / seconds))
        show(f"\r{done} of {len(batches)} batches, {np.mean([rate for rate, _ in rows]):,.0f} words/s")
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


def sample_batches(texts: Sequence[str], settings: BenchSettings) -> List[List[str]]:
    """Batches of documents in random order. No document is repeated before all have been used.

    Raises:
        UserError: There is no text.
    """
    if not texts:
        raise UserError("there is no text to measure on")
    rng = random.Random(settings.seed)
    sample: List[str] = []
    while len(sample) < settings.batches * settings.batch_size:
        sample += rng.sample(list(texts), len(texts))
    return [sample[i * settings.batch_size : (i + 1) * settings.batch_size] for i in range(settings.batches)]


def process_batch(nlp: Language, texts: Sequence[str], question: str) -> int:
    """Process the texts as one batch, asking the question about every tenth. Returns the number of words."""
    return sum(len(doc) for doc in nlp.pipe(make_docs(nlp, texts, question), batch_size=len(texts)))


def make_docs(nlp: Language, texts: Sequence[str], question: str) -> List[Doc]:
    """The texts as Docs, every tenth with the question, unless it is empty."""
    docs = []
    for i, text in enumerate(texts):
        doc = nlp.make_doc(text)
        if question and i % QUESTION_INTERVAL == 0:
            doc._.questions = [question]
        docs.append(doc)
    return docs


def latency(nlp: Language, texts: Sequence[str], settings: BenchSettings) -> Dict[str, float]:
    """Median, 95th and 99th percentile of the milliseconds that `nlp(text)` takes."""
    sample = random.Random(settings.seed).choices(list(texts), k=settings.single_docs + WARM_UP_DOCS)
    seconds = []
    for text in sample:
        started = time.perf_counter()
        nlp(text)
        seconds.append(time.perf_counter() - started)
    return {f"p{q}": round(float(np.percentile(seconds[WARM_UP_DOCS:], q)) * 1e3, 2) for q in (50, 95, 99)}


def profile_pipeline(
    load: Callable[[], Language], texts: Sequence[str], settings: BenchSettings, show: Echo = silent
) -> Dict[str, Any]:
    """Measure how much time each stage of a pipeline takes.

    Stages are "tokenize" (by spaCy and by the encoder), "align" (find each token's subwords, cut windows), each component's
    own work under its name, "annotate" (write to the Docs), and "other" (spaCy, and components of other packages).

    Args:
        load (Callable[[], Language]): Loads the pipeline.
        texts (Sequence[str]): Documents to process.
        settings (BenchSettings): What to measure.
        show (Echo): Gets progress.

    Returns:
        Dict[str, Any]: "stages" {name: seconds} over all batches, "words", "seconds", "machine".

    Raises:
        UserError: There is no text, or a setting is out of range.
    """
    settings.check()
    nlp, batches = load(), sample_batches(texts, settings)
    for batch in batches[:3]:  # warm-up
        process_batch(nlp, batch, settings.question)
    words, started = 0, time.perf_counter()
    with StageClock() as clock:
        for done, batch in enumerate(batches, start=1):
            with stage("tokenize"):
                docs = make_docs(nlp, batch, settings.question)
            with stage("other"):
                words += sum(len(doc) for doc in nlp.pipe(docs, batch_size=len(docs)))
            show(f"\r{done} of {len(batches)} batches")
    show("\n")
    return {"stages": clock.seconds, "words": words, "seconds": time.perf_counter() - started, "machine": machine()}


def mean_interval(values: np.ndarray, resamples: int = 10_000) -> Dict[str, float]:
    """The mean and its 95% confidence interval by the bootstrap, as percentiles of resampled means."""
    means = np.random.default_rng(0).choice(values, (resamples, len(values))).mean(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return {"mean": round(float(values.mean()), 1), "low": round(float(low), 1), "high": round(float(high), 1)}


def encoder_settings(nlp: Language) -> Optional[Dict[str, Any]]:
    """The settings of the pipeline's `mtl_transformer`; None if it has none."""
    for name in nlp.pipe_names:
        if nlp.get_pipe_meta(name).factory == "mtl_transformer":
            return nlp.get_pipe(name).encoder.describe()  # type: ignore[attr-defined]
    return None


def bench_table(result: Dict[str, Any]) -> str:
    """The result of `bench_pipeline` as a table."""
    words, documents, wait = (result[key] for key in ("words_per_second", "documents_per_second", "latency_ms"))
    memory = f"{result['peak_memory_mb']:,.0f} MB"
    if result["gpu_memory_mb"]:
        memory += f", on the GPU {result['gpu_memory_mb']:,.0f} MB"
    hardware = result["machine"]
    encoder = result["pipeline"]["encoder"]
    rows: List[Tuple[str, str]] = [
        ("words/s", f"{words['mean']:,.0f}  (95% interval {words['low']:,.0f} to {words['high']:,.0f})"),
        ("documents/s", f"{documents['mean']:,.1f}  ({documents['low']:,.1f} to {documents['high']:,.1f})"),
        ("one document", f"p50 {wait['p50']:.1f} ms, p95 {wait['p95']:.1f} ms, p99 {wait['p99']:.1f} ms"),
        ("load", f"{result['load_seconds']:.2f} s"),
        ("peak memory", memory),
        ("components", ", ".join(result["pipeline"]["components"])),
        ("encoder", ", ".join(f"{key} {value}" for key, value in (encoder or {}).items()) or "no mtl_transformer"),
        ("machine", f"{hardware['gpu'] or hardware['processor']}, {hardware['threads']} threads, Python {hardware['python']}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in hardware["versions"].items())),
    ]
    return "\n".join(f"{name:14}{value}" for name, value in rows)


def profile_table(result: Dict[str, Any]) -> str:
    """The result of `profile_pipeline` as a table, slowest stage first."""
    total = result["seconds"]
    lines = [f"{'stage':14}{'share':>7}  {'microseconds/word':>20}"]
    for name, seconds in sorted(result["stages"].items(), key=lambda item: -item[1]):
        lines.append(f"{name:14}{seconds / total:>7.1%}  {seconds / result['words'] * 1e6:>20.2f}")
    lines.append(f"{'all':14}{1:>7.0%}  {total / result['words'] * 1e6:>20.2f}")
    return "\n".join(lines)
