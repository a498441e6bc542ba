"""Continued pretraining with a larger vocabulary, kept only where it pays; the folder stays an ordinary one."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

from mtl.adapt.cleaning import CleanSettings
from mtl.adapt.loop import Adaptation
from mtl.adapt.settings import AdaptSettings
from mtl.adapt.text import stream_documents, text_files
from mtl.adapt.words import FEWEST, SHORTEST, domain_words, grow
from mtl.errors import UserError
from mtl.files import check_target, read_json, replacing, sha256_of, write_json


def adapt_with_words(
    encoder: str, settings: AdaptSettings, count: int, texts: List[str], general: List[str], out: Path, resume: bool,
    cleaning: Optional[CleanSettings], echo: Callable[[str], None],
) -> Dict[str, Any]:  # fmt: skip
    """Adapt twice, with the vocabulary as it is and with `count` domain words more, and keep the better.

    The better is what reads held-out text in fewer bits per byte, which can be compared where the wordpieces differ. Each run has
    the whole budget. RETURNS: the report of the one kept, also in `out/adapt.json`, with "vocabulary": the bits of both, and the
    words that were added, if they were. RAISES (UserError): no such word in the text; several processes.
    """
    check_target(out, "adapt.json")
    beside = out.with_name(out.name + ".vocabulary")
    identity = _identity(encoder, settings, count, [*texts, *general], cleaning)
    if beside.exists() and (not (beside / "run.json").exists() or read_json(beside / "run.json") != identity):
        shutil.rmtree(beside)  # of another run
    beside.mkdir(parents=True, exist_ok=True)
    write_json(beside / "run.json", identity)
    reports: Dict[str, Dict[str, Any]] = {}
    words: List[str] = []
    for name in ("plain", "grown"):
        run = Adaptation(encoder, settings, echo)
        if run.objective == "replaced":
            raise UserError('grow-vocabulary is judged by a text\'s probability, which objective = "replaced" does not give')
        if run.ranks.count > 1:
            raise UserError("grow-vocabulary runs in one process; start it without torchrun")
        if name == "grown":
            words = domain_words(stream_documents(text_files(texts)), run.tokenizer, count)
            if not words:
                raise UserError(
                    f"grow-vocabulary = {count}: no word of the text occurs {FEWEST} times and is cut into {SHORTEST} wordpieces "
                    f"or more; leave the vocabulary as it is"
                )
            grow(run.model, run.tokenizer, words)
            run.masks = replace(run.masks, vocab_size=len(run.tokenizer))
            echo(f"\nwith {len(words):,} words more, as {', '.join(words[:8])}")
        if not _finished(beside / name) or not resume:
            run.run(texts, general, beside / name, resume, cleaning)
        reports[name] = read_json(beside / name / "adapt.json")
        if reports[name]["interrupted"]:
            raise KeyboardInterrupt
    bits = {name: report["bits_per_byte"] for name, report in reports.items()}
    kept = min(bits, key=lambda name: bits[name])
    with replacing(out, "adapt.json") as partial:
        shutil.copytree(beside / kept, partial)
        reports[kept]["vocabulary"] = {"bits_per_byte": bits, "kept": kept, "words": words if kept == "grown" else []}
        (partial / "adapt.json").write_text(json.dumps(reports[kept], indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(beside)
    echo(f"bits per byte: {bits['plain']:.4f} as it is, {bits['grown']:.4f} with {len(words):,} words more; {kept} is kept")
    return reports[kept]


def _identity(
    encoder: str, settings: AdaptSettings, count: int, texts: List[str], cleaning: Optional[CleanSettings]
) -> Dict[str, Any]:
    """What both halves depend on, as JSON gives it back."""
    cleaned = None if cleaning is None else [cleaning.min_words, cleaning.near_duplicates, *map(str, cleaning.away_from)]
    found = {"encoder": encoder, "count": count, "files": [sha256_of(file) for file in text_files(texts)], "cleaning": cleaned}
    return json.loads(json.dumps({**found, **asdict(settings)}))


def _finished(folder: Path) -> bool:
    return (folder / "adapt.json").exists() and not read_json(folder / "adapt.json")["interrupted"]
