"""How far domain text is from general text, for an encoder: whether continued pretraining is likely to pay."""

import json
import random
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Sequence, Tuple

from transformers import PreTrainedTokenizerFast

from mtl.adapt.cleaning import WORD, CleanReport, CleanSettings, clean
from mtl.adapt.loop import Adaptation
from mtl.adapt.settings import AdaptSettings
from mtl.adapt.text import stream_documents, text_files
from mtl.errors import UserError, check_range

MOST_FREQUENT = 10_000  # words whose overlap is taken (Gururangan et al. 2020, section 3.1)
FEWEST_WORDS = 2_000  # of either text: below, nothing can be told
LITTLE_TEXT = 100_000  # words of domain text, below which task text costs less and is as much to learn from
FAR = {"overlap": 0.75, "fertility": 1.1, "loss": 0.3}  # domain against general: at most, at least, at least
PIECE = 1000  # words of a document that are drawn at once


@dataclass(frozen=True)
class DistanceSettings:
    """words: of a sample of each text, at most."""

    words: int = 100_000
    device: str = "auto"
    seed: int = 0

    def check(self) -> None:
        """RAISES (UserError): a setting is out of range; it is named with what is allowed."""
        check_range("words", self.words, FEWEST_WORDS)


def measure_distance(
    encoder: str, domain: Sequence[str], general: Sequence[str], settings: DistanceSettings, echo: Callable[[str], None] = print
) -> Dict[str, Any]:
    """RETURNS: "overlap", "fertility", "loss" of domain and general text, "far" (which of them say so), "recommendation".

    Measured on samples of the same size, since overlap and loss move with it. "overlap" is of the most frequent words: domain
    with general text, beside general text with itself. "loss" is in nats a masked wordpiece, at 15% masked; None where the
    checkpoint has no masked-LM head, since a new one knows little of what the encoder does.
    RAISES (UserError): too little text; no masked-LM form; as `stream_documents`.
    """
    settings.check()
    adaptation = Adaptation(encoder, AdaptSettings(checkpoint_minutes=0, device=settings.device, seed=settings.seed), echo)
    texts = {name: list(_pieces(paths)) for name, paths in (("domain", domain), ("general", general))}
    counts = {name: sum(map(_words, pieces)) for name, pieces in texts.items()}
    for name, count in counts.items():
        if count < FEWEST_WORDS:
            raise UserError(f"{name} text: {count:,} words are too few to measure on; give at least {FEWEST_WORDS:,}")
    size = min(settings.words, counts["domain"] // 2, counts["general"] // 2)
    samples = {name: _two_samples(pieces, size, settings.seed) for name, pieces in texts.items()}
    measured = {name: first for name, (first, _) in samples.items()}
    result: Dict[str, Any] = {"encoder": Path(encoder).name, "words": counts, "sample_words": size}
    result["overlap"] = {
        "domain": _overlap(measured["domain"], measured["general"]),
        "general": _overlap(samples["general"][1], measured["general"]),
    }
    result["fertility"] = {name: fertility(adaptation.tokenizer, own) for name, own in measured.items()}
    result["loss"] = None
    if not adaptation.missing:
        with tempfile.TemporaryDirectory() as folder:
            files = {name: _write(Path(folder) / f"{name}.jsonl", own) for name, own in measured.items()}
            result["loss"] = adaptation.losses(files, Path(folder))
    result["far"] = [name for name, found in _signals(result).items() if found]
    result["recommendation"] = _recommendation(result)
    return {**result, "settings": asdict(settings)}


def _pieces(paths: Sequence[str]) -> Iterator[str]:
    """Cleaned documents, long ones cut, so that a sample is drawn from all of them."""
    files = text_files(paths)
    for document in clean(stream_documents(files), CleanSettings(near_duplicates=0), CleanReport()):
        words = document.split()
        for start in range(0, len(words), PIECE):
            yield " ".join(words[start : start + PIECE])


def _words(text: str) -> int:
    return len(text.split())


def _two_samples(pieces: List[str], size: int, seed: int) -> Tuple[List[str], List[str]]:
    """Two samples of so many words that share no piece; the last piece of each is cut."""
    order = random.Random(seed).sample(pieces, len(pieces))
    both: List[List[str]] = [[], []]
    for sample in both:
        left = size
        while left > 0 and order:
            words = order.pop().split()[:left]
            sample.append(" ".join(words))
            left -= len(words)
    return both[0], both[1]


def _overlap(first: Iterable[str], second: Iterable[str]) -> float:
    """The share of the most frequent words of one that are among those of the other."""
    one, other = (Counter(word for text in texts for word in WORD.findall(text.lower())) for texts in (first, second))
    size = min(MOST_FREQUENT, len(one), len(other))
    tops = [{word for word, _ in counter.most_common(size)} for counter in (one, other)]
    return len(tops[0] & tops[1]) / size


def fertility(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> float:
    """Wordpieces a word, where words are what white space separates."""
    encodings = tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return sum(len(encoding.ids) for encoding in encodings) / sum(map(_words, texts))


def _write(path: Path, texts: Sequence[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(path)


def _signals(result: Dict[str, Any]) -> Dict[str, bool]:
    overlap, pieces, loss = result["overlap"], result["fertility"], result["loss"]
    return {
        "overlap": overlap["domain"] <= FAR["overlap"] * overlap["general"],
        "fertility": pieces["domain"] >= FAR["fertility"] * pieces["general"],
        "loss": loss is not None and loss["domain"] >= FAR["loss"] + loss["general"],
    }


def _recommendation(result: Dict[str, Any]) -> str:
    """ "nothing", "task text" or "domain text": one sign of distance may be chance, and task text costs little."""
    far = len(result["far"])
    if not far:
        return "nothing"
    return "domain text" if far > 1 and result["words"]["domain"] >= LITTLE_TEXT else "task text"


def distance_table(result: Dict[str, Any]) -> str:
    """The three measures, what counts as far, and the recommendation with its grounds."""
    overlap, pieces, loss = result["overlap"], result["fertility"], result["loss"]
    rows = [
        (
            "overlap",
            "most frequent words shared with general text",
            "{:.0%}",
            overlap,
            f"at most {FAR['overlap']:.0%} of general's",
        ),
        ("fertility", "wordpieces a word", "{:.2f}", pieces, f"at least {FAR['fertility']} times general's"),
        ("loss", "masked-LM loss, nats a wordpiece", "{:.2f}", loss, f"at least {FAR['loss']} above general's"),
    ]
    lines = [f"{'':46}  {'domain':>7}  {'general':>7}  far is"]
    for key, name, form, found, bar in rows:
        if found is None:
            lines.append(f"{name:46}  not measured: the checkpoint has no masked-LM head")
            continue
        numbers = "  ".join(f"{form.format(found[side]):>7}" for side in ("domain", "general"))
        lines.append(f"{name:46}  {numbers}  {bar}{': far' if key in result['far'] else ''}")
    lines.append(f"on {result['sample_words']:,} words of each; there are {result['words']['domain']:,} of domain text")
    return "\n".join([*lines, "", _grounds(result)])


def _grounds(result: Dict[str, Any]) -> str:
    said = f"{len(result['far'])} of {2 if result['loss'] is None else 3} measures call the text far"
    few = f", but {result['words']['domain']:,} words are little to learn from (below {LITTLE_TEXT:,})"
    grounds = {
        "nothing": f"{said}: the encoder knows text like this, and continuing its pretraining is likely to change nothing",
        "task text": said
        + (few if len(result["far"]) > 1 else "")
        + ": continue on the heads' own training text, which costs little",
        "domain text": f"{said}: continue on the domain text; the fewer labels there are, the more it gives",
    }
    why = grounds[result["recommendation"]]
    return f"recommended: {result['recommendation']}. {why}. `mtl compare --adaptation` measures whether it does."
