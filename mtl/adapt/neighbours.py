"""Text like the heads' own, picked from a large corpus: the nearest paragraphs of every labelled document.

Source: Gururangan et al. 2020, section 5.2 (kNN-TAPT), with BM25 in place of their embeddings.
"""

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Sequence

import numpy as np

from mtl.adapt.cleaning import WORD, CleanReport, CleanSettings, clean, labelled_texts
from mtl.adapt.text import stream_documents, text_files
from mtl.errors import UserError, check_range
from mtl.files import check_target, replacing, write_json

LONGEST_QUERY = 256  # words of a labelled document that are searched by


@dataclass(frozen=True)
class NeighbourSettings:
    """k: paragraphs for each labelled document; those that several have in common count once. min_words: of a paragraph."""

    k: int = 50
    min_words: int = 10
    seed: int = 0

    def check(self) -> None:
        """RAISES (UserError): a setting is out of range; it is named with what is allowed."""
        check_range("k", self.k, 1)
        check_range("min-words", self.min_words, 1)


def pick_neighbours(
    task: Sequence[str], corpus: Sequence[str], out: Path, settings: NeighbourSettings, away_from: Sequence[str] = (),
    echo: Callable[[str], None] = print,
) -> Dict[str, Any]:  # fmt: skip
    """Write `neighbours.jsonl`, and as many words drawn at random as `random.jsonl`, a control; both for `mtl adapt`.

    task: labelled files. corpus: raw text, cleaned first and kept away from the labelled files `away_from`; it has to fit
    in memory. RETURNS: the report that is also written to `neighbours.json`.
    RAISES (UserError): bm25s is not installed; no text; as `stream_documents`.
    """
    settings.check()
    bm25s = _library()
    check_target(out, "neighbours.json")
    cleaning = CleanSettings(settings.min_words, 0.0, tuple(away_from))
    documents = clean(stream_documents(text_files(corpus)), cleaning, CleanReport())
    paragraphs = [line for document in documents for line in document.split("\n")]
    queries = list(dict.fromkeys(labelled_texts(task)))
    if not paragraphs or not queries:
        raise UserError(f"{', '.join(corpus if queries else task)}: no text found" + (" after cleaning" if queries else ""))
    k = min(settings.k, len(paragraphs))
    echo(f"{len(paragraphs):,} paragraphs, {len(queries):,} labelled documents")
    index = bm25s.BM25()
    index.index(bm25s.tokenize(_words_of(paragraphs), stopwords=None, token_pattern=r"\S+"))
    words = [" ".join(text.split()[:LONGEST_QUERY]) for text in _words_of(queries)]
    found, _ = index.retrieve(bm25s.tokenize(words, stopwords=None, token_pattern=r"\S+"), k=k)
    chosen = np.unique(found)
    control = _as_many_words(paragraphs, sum(len(paragraphs[i].split()) for i in chosen), settings.seed)
    parts = {"neighbours": [paragraphs[i] for i in chosen], "random": [paragraphs[i] for i in control]}
    report: Dict[str, Any] = {"labelled_documents": len(queries), "paragraphs": len(paragraphs), "settings": asdict(settings)}
    for name, texts in parts.items():
        report[name] = {"paragraphs": len(texts), "words": sum(len(text.split()) for text in texts)}
    report["in_both"] = len(set(chosen.tolist()) & set(control))
    with replacing(out, "neighbours.json") as partial:
        partial.mkdir()
        for name, texts in parts.items():
            rows = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
            (partial / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
        write_json(partial / "neighbours.json", report)
    return report


def _library() -> Any:
    try:
        import bm25s
    except ImportError:
        raise UserError('neighbours are found by BM25, which needs bm25s: pip install "spacy-mtl[neighbours]"') from None
    return bm25s


def _words_of(texts: Iterable[str]) -> List[str]:
    """The texts as lower-case words with a blank between, the same for what is searched and what is searched by."""
    return [" ".join(WORD.findall(text.lower())) for text in texts]


def _as_many_words(paragraphs: Sequence[str], words: int, seed: int) -> List[int]:
    """Paragraphs in random order until there are so many words."""
    chosen: List[int] = []
    for i in random.Random(seed).sample(range(len(paragraphs)), len(paragraphs)):
        if words <= 0:
            break
        chosen.append(i)
        words -= len(paragraphs[i].split())
    return sorted(chosen)
