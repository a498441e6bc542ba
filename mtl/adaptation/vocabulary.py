"""Continued pretraining with a larger vocabulary, which is kept only if it is better. The result is an ordinary folder."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from mtl import distributed
from mtl.adaptation.cleaning import CleanSettings
from mtl.adaptation.domain_words import MIN_OCCURRENCES, MIN_SUBWORDS, add_words, domain_words
from mtl.adaptation.objective import Objective
from mtl.adaptation.run import Adaptation
from mtl.adaptation.settings import AdaptSettings
from mtl.adaptation.text import stream_documents, text_files
from mtl.errors import UserError
from mtl.files import check_target, read_json, replacing, sha256_of, workplace, write_json
from mtl.progress import Echo

PLAIN, GROWN = "plain", "grown"


def adapt_with_words(
    encoder: str,
    settings: AdaptSettings,
    count: int,
    texts: Sequence[str],
    out: Path,
    *,
    general: Sequence[str] = (),
    cleaning: Optional[CleanSettings] = None,
    resume: bool = True,
    echo: Echo = print,
) -> Dict[str, Any]:
    """Adapt twice, with the vocabulary as it is and with additional domain words, and keep the better result.

    The better one needs fewer bits per byte of held-out text, which can be compared although subwords differ. Each run gets the
    whole budget.

    Args:
        encoder (str): A Hugging Face folder or a name on the hub.
        settings (AdaptSettings): How to train.
        count (int): Domain words to add, at most.
        texts (Sequence[str]): Domain text, as for `mtl.adaptation.run.adapt`; so are the other arguments.
        out (Path): The Hugging Face folder to write.

    Returns:
        Dict[str, Any]: The report of the better run, also in `out/adapt.json`, with "vocabulary": the bits per byte of both,
            which is kept, and the words that were added.

    Raises:
        UserError: There is no such word in the text, the objective gives no bits per byte, or there are several processes.
    """
    check_target(out, "adapt.json")
    runs = workplace(out) / f"{out.name}.vocabulary"
    _prepare(runs, _identity(encoder, settings, count, [*texts, *general], cleaning))
    reports: Dict[str, Dict[str, Any]] = {}
    words: List[str] = []
    for name in (PLAIN, GROWN):
        adaptation = Adaptation(encoder, settings, echo)
        _check(adaptation.objective)
        if name == GROWN:
            words = _grow(adaptation.objective, texts, count)
            echo(f"\nwith {len(words):,} more words, such as {', '.join(words[:8])}")
        if not _is_finished(runs / name) or not resume:
            adaptation.run(texts, runs / name, general=general, cleaning=cleaning, resume=resume)
        reports[name] = read_json(runs / name / "adapt.json")
        if reports[name]["interrupted"]:
            raise KeyboardInterrupt
    bits = {name: report["bits_per_byte"] for name, report in reports.items()}
    best = min(bits, key=lambda name: bits[name])
    with replacing(out, "adapt.json") as partial:
        shutil.copytree(runs / best, partial)
        reports[best]["vocabulary"] = {"bits_per_byte": bits, "kept": best, "words": words if best == GROWN else []}
        (partial / "adapt.json").write_text(json.dumps(reports[best], indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(runs)
    echo(f"bits per byte: {bits[PLAIN]:.4f} as it is, {bits[GROWN]:.4f} with {len(words):,} more words; {best} is kept")
    return reports[best]


def _prepare(runs: Path, identity: Dict[str, Any]) -> None:
    """Make the folder of both runs, empty unless it is of the same ones."""
    stored = runs / "run.json"
    if runs.exists() and (not stored.exists() or read_json(stored) != identity):
        shutil.rmtree(runs)
    runs.mkdir(parents=True, exist_ok=True)
    write_json(stored, identity)


def _check(objective: Objective) -> None:
    if not objective.predicts_text:
        raise UserError('grow-vocabulary compares bits per byte, which objective = "rtd" does not give')
    if distributed.world_size() > 1:
        raise UserError("grow-vocabulary runs in one process; start it without torchrun")


def _grow(objective: Objective, texts: Sequence[str], count: int) -> List[str]:
    """Add the words that save the most subwords to the model's vocabulary, and return them."""
    words = domain_words(stream_documents(text_files(texts)), objective.tokenizer, count)
    if not words:
        raise UserError(
            f"grow-vocabulary = {count}: no word of the text occurs {MIN_OCCURRENCES} times and is cut into {MIN_SUBWORDS} "
            f"or more subwords; leave the vocabulary as it is"
        )
    add_words(objective.model, objective.tokenizer, words)
    objective.masks = replace(objective.masks, vocab_size=len(objective.tokenizer))
    return words


def _identity(
    encoder: str, settings: AdaptSettings, count: int, texts: Sequence[str], cleaning: Optional[CleanSettings]
) -> Dict[str, Any]:
    """Everything that both runs depend on, as JSON gives it back."""
    cleaned = None
    if cleaning is not None:
        cleaned = [cleaning.min_words, cleaning.near_duplicate_threshold, *map(str, cleaning.decontaminate)]
    files = [sha256_of(file) for file in text_files(texts)]
    return json.loads(json.dumps({"encoder": encoder, "count": count, "files": files, "cleaning": cleaned, **asdict(settings)}))


def _is_finished(folder: Path) -> bool:
    return (folder / "adapt.json").exists() and not read_json(folder / "adapt.json")["interrupted"]
