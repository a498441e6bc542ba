"""Clean raw documents: repair them, drop repetitions, and drop the text of labelled evaluation data (decontamination)."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Sequence, Set

import ftfy
from spacy.vocab import Vocab

from mtl.data.docs import docbin_files, read_docs
from mtl.data.duplicates import SHINGLE_WORDS, WORD, NearDuplicates
from mtl.data.formats.detect import read_records
from mtl.data.records import Report
from mtl.errors import UserError, check_range

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufff9-\ufffc]")
NGRAM_WORDS = 13  # words in a row that a paragraph and a labelled document may not share (Brown et al. 2020, appendix C)
MAX_LISTED = 20  # dropped paragraphs that a report lists


@dataclass(frozen=True)
class CleanSettings:
    """How to clean text. A paragraph is a line; blank lines separate documents.

    Args:
        min_words (int): Shorter paragraphs are dropped.
        near_duplicate_threshold (float): Jaccard similarity of the sets of word 5-grams at which a document is dropped as a near
            duplicate of an earlier one; 0 to keep near duplicates.
        decontaminate (Sequence[str]): Labelled files (dev, test) whose text is dropped.
    """

    min_words: int = 3
    near_duplicate_threshold: float = 0.8
    decontaminate: Sequence[str] = ()

    def check(self) -> None:
        """Check every setting.

        Raises:
            UserError: A setting is out of range; the message names it and what is allowed.
        """
        check_range("min-words", self.min_words, 0)
        check_range("near-duplicate-threshold", self.near_duplicate_threshold, 0.0, 1.0)


@dataclass
class CleanReport:
    """What cleaning changed.

    Args:
        counts (Dict[str, int]): How many paragraphs (for near duplicates: documents) each step changed or dropped.
        contaminated (List[str]): The first paragraphs that were dropped because they are in a labelled document.
    """

    counts: Dict[str, int] = field(default_factory=dict)
    contaminated: List[str] = field(default_factory=list)

    def count(self, change: str) -> None:
        """Count a change."""
        self.counts[change] = self.counts.get(change, 0) + 1

    def lines(self) -> List[str]:
        """The report as lines for a person."""
        lines = [f"{change}: {count:,}" for change, count in self.counts.items()]
        return lines + [f"  in a labelled document: {start}" for start in self.contaminated]


def clean(documents: Iterable[str], settings: CleanSettings, report: CleanReport) -> Iterator[str]:
    """Stream cleaned documents, in order.

    Memory holds a hash for each paragraph and a signature for each document.

    Args:
        documents (Iterable[str]): The raw documents.
        settings (CleanSettings): How to clean.
        report (CleanReport): Counts what was changed.

    Raises:
        UserError: A setting is out of range, or a labelled file cannot be read.
    """
    settings.check()
    labelled_ngrams: Set[int] = set()
    if settings.decontaminate:
        labelled_ngrams = {ngram for text in labelled_texts(settings.decontaminate) for ngram in _ngrams(text)}
    seen: Set[bytes] = set()
    near = NearDuplicates(settings.near_duplicate_threshold) if settings.near_duplicate_threshold else None
    for document in documents:
        cleaned = (_cleaned_paragraph(line, settings, seen, labelled_ngrams, report) for line in document.split("\n"))
        paragraphs = [paragraph for paragraph in cleaned if paragraph]
        if not paragraphs:
            continue
        text = "\n".join(paragraphs)
        if near is not None and near.seen(text):
            report.count("near duplicates, dropped (documents)")
            continue
        yield text


def _cleaned_paragraph(
    line: str, settings: CleanSettings, seen: Set[bytes], labelled_ngrams: Set[int], report: CleanReport
) -> str:
    """The repaired paragraph, or an empty string if it is dropped."""
    printable = CONTROL.sub("", line)
    if printable != line:
        report.count("control characters, removed")
    text = ftfy.fix_text(printable, uncurl_quotes=False, fix_line_breaks=False).strip()
    if text != printable.strip():
        report.count("broken characters, repaired")  # wrong encodings, but also ligatures and full-width letters
    word_count = len(text.split())
    if not word_count:
        return ""
    if word_count < settings.min_words:
        report.count(f"fewer than {settings.min_words} words, dropped")
        return ""
    digest = hashlib.blake2b(" ".join(text.lower().split()).encode(), digest_size=8).digest()
    if digest in seen:
        report.count("repeated (such as boilerplate), dropped")
        return ""
    seen.add(digest)
    if labelled_ngrams and not labelled_ngrams.isdisjoint(_ngrams(text)):
        report.count("in a labelled document, dropped")
        if len(report.contaminated) < MAX_LISTED:
            report.contaminated.append(text if len(text) <= 80 else text[:77] + "...")
        return ""
    return text


def _ngrams(text: str) -> Iterator[int]:
    """Hashes of all n-grams of `NGRAM_WORDS` words. A shorter text counts as one, unless it is too short to be telling."""
    words = WORD.findall(text.lower())
    if NGRAM_WORDS > len(words) >= SHINGLE_WORDS:
        yield hash(tuple(words))
    for start in range(len(words) - NGRAM_WORDS + 1):
        yield hash(tuple(words[start : start + NGRAM_WORDS]))


def labelled_files(paths: Sequence[str]) -> List[Path]:
    """Find the labelled files that paths stand for.

    Args:
        paths (Sequence[str]): Labelled files, and folders of converted ones.

    Raises:
        UserError: There is no such file.
    """
    files = [file for path in map(Path, paths) for file in (docbin_files(path) if path.is_dir() else [path])]
    for file in files:
        if not file.is_file():
            raise UserError(f"{file}: no such file; a labelled file is needed")
    return files


def labelled_texts(paths: Sequence[str]) -> Iterator[str]:
    """Stream the texts of labelled files, in any format that `mtl convert` reads or converted already.

    Raises:
        UserError: A file is missing or cannot be read.
    """
    vocab = Vocab()
    for file in labelled_files(paths):
        if file.suffix == ".spacy":
            yield from (doc.text for doc in read_docs(file, vocab))
        else:
            yield from (record.text for record in read_records(file, Report()))
