"""Raw documents made fit to learn from: repaired, without repetitions, and without what the heads are tested on."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Sequence, Set

import ftfy
import numpy as np
from spacy.vocab import Vocab

from mtl.data.docs import docbin_files, read_docs, read_records
from mtl.data.records import Report
from mtl.errors import UserError, check_range

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufff9-\ufffc]")
WORD = re.compile(r"\w+")
GRAM = 13  # words that a paragraph and a labelled document may not share in a row (Brown et al. 2020, appendix C)
SHINGLE = 5  # words, of which near duplicates share most
PERMUTATIONS = 128  # of a signature, which estimates the share to within 0.04
NAMED = 20  # dropped paragraphs that a report names


@dataclass(frozen=True)
class CleanSettings:
    """Paragraphs are lines, documents what blank lines separate.

    min_words: shorter paragraphs are dropped. near_duplicates: a document is dropped if so large a share (Jaccard) of its word
    5-grams is an earlier one's; 0 turns that off. away_from: labelled files (dev, test) whose text the result must not hold.
    """

    min_words: int = 3
    near_duplicates: float = 0.8
    away_from: Sequence[str] = ()

    def check(self) -> None:
        """RAISES (UserError): a setting is out of range; it is named with what is allowed."""
        check_range("min-words", self.min_words, 0)
        check_range("near-duplicates", self.near_duplicates, 0.0, 1.0)


@dataclass
class CleanReport:
    """How many paragraphs (documents, for near duplicates) each step changed or dropped, and the contaminated ones by name."""

    counts: Dict[str, int] = field(default_factory=dict)
    contaminated: List[str] = field(default_factory=list)

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def lines(self) -> List[str]:
        """What there is to say of it."""
        said = [f"{what}: {count:,}" for what, count in self.counts.items()]
        return said + [f"  in a labelled document: {start}" for start in self.contaminated]


def clean(documents: Iterable[str], settings: CleanSettings, report: CleanReport) -> Iterator[str]:
    """The documents that are left, in order; memory holds a hash for each paragraph and a signature for each document."""
    settings.check()
    grams = {gram for text in labelled_texts(settings.away_from) for gram in _grams(text)} if settings.away_from else set()
    seen: Set[bytes] = set()
    near = NearDuplicates(settings.near_duplicates) if settings.near_duplicates else None
    for document in documents:
        kept = [text for line in document.split("\n") if (text := _paragraph(line, settings, seen, grams, report))]
        if not kept:
            continue
        text = "\n".join(kept)
        if near is not None and near.seen(text):
            report.count("near duplicates, dropped (documents)")
            continue
        yield text


def _paragraph(line: str, settings: CleanSettings, seen: Set[bytes], grams: Set[int], report: CleanReport) -> str:
    """The paragraph repaired, or "" if it is to go."""
    without = CONTROL.sub("", line)
    if without != line:
        report.count("control characters, removed")
    text = ftfy.fix_text(without, uncurl_quotes=False, fix_line_breaks=False).strip()
    if text != without.strip():
        report.count("broken characters, repaired")  # of encoding, also ligatures and wide letters
    words = len(text.split())
    if not words:
        return ""
    if words < settings.min_words:
        report.count(f"fewer than {settings.min_words} words, dropped")
        return ""
    digest = hashlib.blake2b(" ".join(text.lower().split()).encode(), digest_size=8).digest()
    if digest in seen:
        report.count("repeated, boilerplate too, dropped")
        return ""
    seen.add(digest)
    if grams and not grams.isdisjoint(_grams(text)):
        report.count("in a labelled document, dropped")
        if len(report.contaminated) < NAMED:
            report.contaminated.append(text if len(text) <= 80 else text[:77] + "...")
        return ""
    return text


def _grams(text: str) -> Iterator[int]:
    """The hashes of all runs of `GRAM` words; of a shorter text, of the whole if it is not too short to tell anything."""
    words = WORD.findall(text.lower())
    if GRAM > len(words) >= SHINGLE:
        yield hash(tuple(words))
    for start in range(len(words) - GRAM + 1):
        yield hash(tuple(words[start : start + GRAM]))


def labelled_files(paths: Sequence[str]) -> List[Path]:
    """The files that labelled files and folders of converted ones name. RAISES (UserError): there is no such file."""
    files = [file for path in map(Path, paths) for file in (docbin_files(path) if path.is_dir() else [path])]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: no such file; labelled text to keep away from is read there")
    return files


def labelled_texts(paths: Sequence[str]) -> Iterator[str]:
    """The texts of labelled files of any format that `mtl convert` reads, and of converted ones."""
    vocab = Vocab()
    for file in labelled_files(paths):
        if file.suffix == ".spacy":
            yield from (doc.text for doc in read_docs(file, vocab))
        else:
            yield from (record.text for record in read_records(file, Report()))


class NearDuplicates:
    """Documents that repeat most of an earlier one, found by MinHash LSH (datasketch)."""

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHashLSH

        self.threshold = threshold
        self.index = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)
        self.signatures: List[np.ndarray] = []

    def seen(self, text: str) -> bool:
        """Whether an earlier document is near this one; it is remembered if not."""
        from datasketch import MinHash

        words = WORD.findall(text.lower())
        shingles = {" ".join(words[i : i + SHINGLE]).encode() for i in range(max(1, len(words) - SHINGLE + 1))}
        signature = MinHash(num_perm=PERMUTATIONS, seed=1)
        signature.update_batch(shingles)
        values = signature.hashvalues.astype(np.uint32)
        if any(np.mean(values == self.signatures[key]) >= self.threshold for key in self.index.query(signature)):
            return True
        self.index.insert(len(self.signatures), signature)
        self.signatures.append(values)
        return False
