"""Select text like the heads' own from a large corpus: the nearest paragraphs of every labelled document.

Source: Gururangan et al. 2020, section 5.2 (kNN-TAPT), with BM25 instead of their embeddings.
"""

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, List, Sequence

import numpy as np

from mtl.adaptation.cleaning import CleanReport, CleanSettings, clean, labelled_texts
from mtl.adaptation.text import stream_documents, text_files
from mtl.data.duplicates import WORD
from mtl.errors import UserError, check_range
from mtl.files import check_target, replacing, write_json
from mtl.progress import Echo

MAX_QUERY_WORDS = 256  # of a labelled document


@dataclass(frozen=True)
class NeighbourSettings:
    """How to select.

    Args:
        k (int): Paragraphs for each labelled document. A paragraph near several documents counts once.
        min_words (int): Shorter paragraphs are left out.
        seed (int): Seed of the random control.
    """

    k: int = 50
    min_words: int = 10
    seed: int = 0

    def check(self) -> None:
        """Check every setting.

        Raises:
            UserError: A setting is out of range; the message names it and what is allowed.
        """
        check_range("k", self.k, 1)
        check_range("min-words", self.min_words, 1)


def pick_neighbours(
    labelled: Sequence[str], corpus: Sequence[str], out: Path, settings: NeighbourSettings, decontaminate: Sequence[str] = (),
    echo: Echo = print,
) -> Dict[str, Any]:  # fmt: skip
    """Write `neighbours.jsonl`, and as a control the same number of words drawn at random, `random.jsonl`. For `mtl adapt`.

    Args:
        labelled (Sequence[str]): Labelled files.
        corpus (Sequence[str]): Raw text, which is cleaned first. It has to fit in memory.
        out (Path): The folder to write.
        settings (NeighbourSettings): How to select.
        decontaminate (Sequence[str]): Labelled files (dev, test) whose text is left out.
        echo (Echo): Shows messages.

    Returns:
        Dict[str, Any]: The report, also in `neighbours.json`.

    Raises:
        UserError: bm25s is not installed, there is no text, or a file cannot be read.
    """
    settings.check()
    bm25s = _import_bm25s()
    check_target(out, "neighbours.json")
    cleaning = CleanSettings(settings.min_words, 0.0, tuple(decontaminate))
    documents = clean(stream_documents(text_files(corpus)), cleaning, CleanReport())
    paragraphs = [line for document in documents for line in document.split("\n")]
    queries = list(dict.fromkeys(labelled_texts(labelled)))
    if not paragraphs or not queries:
        raise UserError(f"{', '.join(corpus if queries else labelled)}: no text found" + (" after cleaning" if queries else ""))
    echo(f"{len(paragraphs):,} paragraphs, {len(queries):,} labelled documents")
    nearest = _nearest(bm25s, paragraphs, queries, min(settings.k, len(paragraphs)))
    word_count = sum(len(paragraphs[i].split()) for i in nearest)
    control = _random_paragraphs(paragraphs, word_count, settings.seed)
    parts = {"neighbours": [paragraphs[i] for i in nearest], "random": [paragraphs[i] for i in control]}
    report: Dict[str, Any] = {"labelled_documents": len(queries), "paragraphs": len(paragraphs), "settings": asdict(settings)}
    for name, texts in parts.items():
        report[name] = {"paragraphs": len(texts), "words": sum(len(text.split()) for text in texts)}
    report["in_both"] = len(set(nearest) & set(control))
    with replacing(out, "neighbours.json") as partial:
        partial.mkdir()
        for name, texts in parts.items():
            rows = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
            (partial / f"{name}.jsonl").write_text("".join(rows), encoding="utf-8")
        write_json(partial / "neighbours.json", report)
    return report


def _import_bm25s() -> Any:
    try:
        import bm25s
    except ImportError:
        raise UserError('neighbours are found by BM25, which needs bm25s: pip install "spacy-mtl[neighbours]"') from None
    return bm25s


def _nearest(bm25s: Any, paragraphs: Sequence[str], queries: Sequence[str], k: int) -> List[int]:
    """The indices of the `k` nearest paragraphs of each query, sorted, each once."""
    index = bm25s.BM25()
    index.index(bm25s.tokenize(_normalized(paragraphs), stopwords=None, token_pattern=r"\S+"))
    shortened = [" ".join(text.split()[:MAX_QUERY_WORDS]) for text in _normalized(queries)]
    indices, _ = index.retrieve(bm25s.tokenize(shortened, stopwords=None, token_pattern=r"\S+"), k=k)
    return np.unique(indices).tolist()


def _normalized(texts: Iterable[str]) -> List[str]:
    """The texts as lower-case words, separated by spaces."""
    return [" ".join(WORD.findall(text.lower())) for text in texts]


def _random_paragraphs(paragraphs: Sequence[str], words: int, seed: int) -> List[int]:
    """The indices of random paragraphs with at least so many words in all, sorted."""
    indices: List[int] = []
    for i in random.Random(seed).sample(range(len(paragraphs)), len(paragraphs)):
        if words <= 0:
            break
        indices.append(i)
        words -= len(paragraphs[i].split())
    return sorted(indices)
