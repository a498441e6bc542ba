"""How far domain text is from general text for an encoder: whether continued pretraining is likely to help."""

import json
import random
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Sequence, Tuple

from transformers import PreTrainedTokenizerFast

from mtl.adaptation.blocks import BlockSettings, load_corpus
from mtl.adaptation.cleaning import WORD, CleanReport, CleanSettings, clean
from mtl.adaptation.objective import Objective, load_objective
from mtl.adaptation.settings import AdaptSettings
from mtl.adaptation.text import stream_documents, text_files
from mtl.errors import UserError, check_range
from mtl.progress import Echo

TOP_WORDS = 10_000  # the most frequent words, whose overlap is measured (Gururangan et al. 2020, section 3.1)
MIN_WORDS = 2_000  # of each text; with fewer, nothing can be said
LITTLE_TEXT = 100_000  # words of domain text; with fewer, task text costs less and teaches as much
FAR = {"overlap": 0.75, "fertility": 1.1, "loss": 0.3}  # domain relative to general: at most, at least, at least
EXCERPT_WORDS = 1000  # long documents are cut, so that a sample has text from many of them


@dataclass(frozen=True)
class DistanceSettings:
    """How to measure.

    Args:
        words (int): Words in the sample of each text, at most.
        device (str): "auto", "cpu", "cuda", ...
        seed (int): Seed of the samples.
    """

    words: int = 100_000
    device: str = "auto"
    seed: int = 0

    def check(self) -> None:
        """Check every setting.

        Raises:
            UserError: A setting is out of range; the message names it and what is allowed.
        """
        check_range("words", self.words, MIN_WORDS)


def measure_distance(
    encoder: str, domain: Sequence[str], general: Sequence[str], settings: DistanceSettings, echo: Echo = print
) -> Dict[str, Any]:
    """Measure how far domain text is from general text, on samples of the same size, since overlap and loss depend on it.

    Args:
        encoder (str): A Hugging Face folder or a name on the hub.
        domain (Sequence[str]): Domain text: files, folders, patterns.
        general (Sequence[str]): General text, likewise.
        settings (DistanceSettings): How to measure.
        echo (Echo): Shows messages.

    Returns:
        Dict[str, Any]: "overlap" of the most frequent words: domain with general text, and general text with itself.
            "fertility" of both: subwords per word. "loss" of both: nats per masked subword at 15% masked; None if the
            checkpoint has no masked-LM head, since a new one says little about the encoder. "far": the measures that say so.
            "recommendation": "nothing", "task text" or "domain text".

    Raises:
        UserError: There is too little text, a file cannot be read, or the encoder has no masked-LM form.
    """
    settings.check()
    adapt_settings = AdaptSettings(checkpoint_minutes=0, device=settings.device, seed=settings.seed)
    objective = load_objective(encoder, adapt_settings)
    excerpts = {name: list(_excerpts(paths)) for name, paths in (("domain", domain), ("general", general))}
    counts = {name: sum(map(_word_count, texts)) for name, texts in excerpts.items()}
    for name, count in counts.items():
        if count < MIN_WORDS:
            raise UserError(f"{name} text: {count:,} words are too few to measure on; give at least {MIN_WORDS:,}")
    size = min(settings.words, counts["domain"] // 2, counts["general"] // 2)
    samples = {name: _two_samples(texts, size, settings.seed) for name, texts in excerpts.items()}
    measured = {name: first for name, (first, _) in samples.items()}
    result: Dict[str, Any] = {"encoder": Path(encoder).name, "words": counts, "sample_words": size}
    result["overlap"] = {
        "domain": _overlap(measured["domain"], measured["general"]),
        "general": _overlap(samples["general"][1], measured["general"]),
    }
    result["fertility"] = {name: fertility(objective.tokenizer, sample) for name, sample in measured.items()}
    result["loss"] = None if objective.missing else _losses(objective, adapt_settings, measured, echo)
    result["far"] = [name for name, is_far in _signals(result).items() if is_far]
    result["recommendation"] = _recommendation(result)
    return {**result, "settings": asdict(settings)}


def _losses(objective: Objective, settings: AdaptSettings, samples: Dict[str, List[str]], echo: Echo) -> Dict[str, float]:
    """The model's loss on each sample."""
    blocks = BlockSettings(settings.block_size, 0.0, settings.seed)
    batches = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, texts in samples.items():
            file = _write(Path(folder) / f"{name}.jsonl", texts)
            corpus = load_corpus([file], objective.tokenizer, blocks, Path(folder), echo)
            batches[name] = objective.evaluation_batches(corpus.train, settings.eval_blocks, settings.batch_size)
        return objective.losses(batches)


def _excerpts(paths: Sequence[str]) -> Iterator[str]:
    """Cleaned documents, long ones in several parts."""
    files = text_files(paths)
    for document in clean(stream_documents(files), CleanSettings(near_duplicate_threshold=0), CleanReport()):
        words = document.split()
        for start in range(0, len(words), EXCERPT_WORDS):
            yield " ".join(words[start : start + EXCERPT_WORDS])


def _word_count(text: str) -> int:
    return len(text.split())


def _two_samples(excerpts: List[str], size: int, seed: int) -> Tuple[List[str], List[str]]:
    """Two samples of `size` words that share no excerpt; the last excerpt of each is cut."""
    order = random.Random(seed).sample(excerpts, len(excerpts))
    samples: Tuple[List[str], List[str]] = ([], [])
    for sample in samples:
        remaining = size
        while remaining > 0 and order:
            words = order.pop().split()[:remaining]
            sample.append(" ".join(words))
            remaining -= len(words)
    return samples


def _overlap(first: Iterable[str], second: Iterable[str]) -> float:
    """Fraction of the most frequent words of one text that are among those of the other."""
    counters = [Counter(word for text in texts for word in WORD.findall(text.lower())) for texts in (first, second)]
    size = min(TOP_WORDS, *map(len, counters))
    top_words = [{word for word, _ in counter.most_common(size)} for counter in counters]
    return len(top_words[0] & top_words[1]) / size


def fertility(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> float:
    """Subwords per word, where white space separates words."""
    encodings = tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return sum(len(encoding.ids) for encoding in encodings) / sum(map(_word_count, texts))


def _write(path: Path, texts: Sequence[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(path)


def _signals(result: Dict[str, Any]) -> Dict[str, bool]:
    """Which measures call the text far."""
    overlap, subwords, loss = result["overlap"], result["fertility"], result["loss"]
    return {
        "overlap": overlap["domain"] <= FAR["overlap"] * overlap["general"],
        "fertility": subwords["domain"] >= FAR["fertility"] * subwords["general"],
        "loss": loss is not None and loss["domain"] >= FAR["loss"] + loss["general"],
    }


def _recommendation(result: Dict[str, Any]) -> str:
    """ "nothing", "task text" or "domain text". A single signal may be chance, and task text costs little."""
    signals = len(result["far"])
    if not signals:
        return "nothing"
    return "domain text" if signals > 1 and result["words"]["domain"] >= LITTLE_TEXT else "task text"


def distance_table(result: Dict[str, Any]) -> str:
    """The three measures as a table, what counts as far, and the recommendation with its reasons."""
    bars = {
        "overlap": f"at most {FAR['overlap']:.0%} of general's",
        "fertility": f"at least {FAR['fertility']} times general's",
        "loss": f"at least {FAR['loss']} above general's",
    }
    rows = [
        ("overlap", "most frequent words shared with general text", "{:.0%}"),
        ("fertility", "subwords per word", "{:.2f}"),
        ("loss", "masked-LM loss, nats per subword", "{:.2f}"),
    ]
    lines = [f"{'':46}  {'domain':>7}  {'general':>7}  far is"]
    for measure, title, form in rows:
        values = result[measure]
        if values is None:
            lines.append(f"{title:46}  not measured: the checkpoint has no masked-LM head")
            continue
        numbers = "  ".join(f"{form.format(values[side]):>7}" for side in ("domain", "general"))
        lines.append(f"{title:46}  {numbers}  {bars[measure]}{': far' if measure in result['far'] else ''}")
    lines.append(f"on {result['sample_words']:,} words of each; the domain text has {result['words']['domain']:,}")
    return "\n".join([*lines, "", _reasons(result)])


def _reasons(result: Dict[str, Any]) -> str:
    signals = f"{len(result['far'])} of {2 if result['loss'] is None else 3} measures call the text far"
    few = f", but {result['words']['domain']:,} words are little to learn from (below {LITTLE_TEXT:,})"
    reasons = {
        "nothing": f"{signals}: the encoder knows text like this, and continued pretraining is unlikely to change anything",
        "task text": signals
        + (few if len(result["far"]) > 1 else "")
        + ": continue on the heads' own training text, which costs little",
        "domain text": f"{signals}: continue on the domain text; the fewer labels there are, the more it helps",
    }
    why = reasons[result["recommendation"]]
    return f"recommended: {result['recommendation']}. {why}. `mtl compare --adaptation` measures whether it does."
