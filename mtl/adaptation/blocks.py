"""A corpus as packed blocks of subwords in memory-mapped shards, made once for each text and tokenizer."""

import hashlib
import json
import shutil
from array import array
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from datasets import Dataset, Features, Value, disable_progress_bars, load_from_disk
from datasets import Sequence as DatasetSequence
from tokenizers import Encoding
from transformers import PreTrainedTokenizerFast

from mtl.adaptation.cleaning import CleanReport, CleanSettings, clean, labelled_files
from mtl.adaptation.text import stream_documents, text_files
from mtl.errors import UserError
from mtl.files import read_json, replacing, sha256_of, write_json
from mtl.progress import Bar, Echo

FORMAT = 5  # of the shards; shards of another format are not used
CHUNK_CHARACTERS = 1 << 20  # tokenized at once, on all cores: 100 MB of encodings


@dataclass(frozen=True)
class BlockSettings:
    """How to divide a text.

    Args:
        block_size (int): Subwords in a block.
        validation_split (float): Fraction of documents to hold out; 0 for none.
        seed (int): Decides which documents.
    """

    block_size: int
    validation_split: float
    seed: int


@dataclass
class Corpus:
    """A tokenized text.

    Rows of the datasets are blocks: `subwords`, shape (block_size,), ids with the tokenizer's special tokens at both ends, and
    `words`, shape (block_size,), the word of each subword, counted from 1 within the block, 0 for special tokens. Only the last
    block is padded.

    Args:
        train (Dataset): Blocks to train on.
        held_out (Optional[Dataset]): Blocks to evaluate on; None if no document is held out.
        documents (int): Number of documents.
        held_out_documents (int): How many of them are held out.
        words (int): Number of words, separated by white space.
        held_out_bytes (int): Size of the held-out documents as UTF-8.
        key (str): Identifies the text, the tokenizer and the settings.
        cleaning (Optional[Dict[str, Any]]): The `CleanReport`, as a dict; None if the text was not cleaned.
    """

    train: Dataset
    held_out: Optional[Dataset]
    documents: int
    held_out_documents: int
    words: int
    held_out_bytes: int
    key: str
    cleaning: Optional[Dict[str, Any]]


def load_corpus(
    paths: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    settings: BlockSettings,
    cache: Path,
    echo: Echo,
    cleaning: Optional[CleanSettings] = None,
) -> Corpus:
    """Open the shards of a text, which are written first if they are missing or damaged.

    Args:
        paths (Sequence[str]): Text files, folders and patterns.
        tokenizer (PreTrainedTokenizerFast): The encoder's tokenizer.
        settings (BlockSettings): Block size and held-out fraction.
        cache (Path): The folder of all shards.
        echo (Echo): Shows messages.
        cleaning (Optional[CleanSettings]): How to clean the text first; None leaves it as it is, in constant memory.

    Raises:
        UserError: There is no text, there are too few documents to hold any out, or a file is missing or damaged.
    """
    disable_progress_bars()  # of datasets, in favour of our own, which knows the total
    files = text_files(paths)
    key = _key(files, tokenizer, settings, cleaning)
    folder = cache / key
    if folder.exists():
        damaged = _damaged_shard(folder)
        if not damaged:
            echo(f"using the tokenized text in {folder}")
            return _open(folder)
        echo(f"{damaged}: the shard is damaged; the text is tokenized again")
        shutil.rmtree(folder)
    with replacing(folder) as partial:
        partial.mkdir()
        properties = _write(partial, files, tokenizer, settings, cleaning)
        shards = {file.relative_to(partial).as_posix(): sha256_of(file) for file in sorted(partial.rglob("*")) if file.is_file()}
        write_json(partial / "corpus.json", {"key": key, **properties, "sha256": shards})
    corpus = _open(folder)
    for line in CleanReport(**corpus.cleaning).lines() if corpus.cleaning else ():
        echo(line)
    return corpus


def _key(
    files: Sequence[Path], tokenizer: PreTrainedTokenizerFast, settings: BlockSettings, cleaning: Optional[CleanSettings]
) -> str:
    """A hash of everything the shards depend on: every byte of the text, the tokenizer, the settings."""
    digest = hashlib.blake2b(digest_size=16)
    if cleaning is not None:
        digest.update(json.dumps([cleaning.min_words, cleaning.near_duplicate_threshold]).encode())
        files = [*files, *labelled_files(cleaning.decontaminate)]
    digest.update(json.dumps([FORMAT, asdict(settings), special_ids(tokenizer)]).encode())
    digest.update(tokenizer.backend_tokenizer.to_str().encode())
    for file in files:
        digest.update(sha256_of(file).encode())
    return digest.hexdigest()


def _damaged_shard(folder: Path) -> str:
    """The first file that differs from what was written; empty if there is none."""
    try:
        hashes = read_json(folder / "corpus.json")["sha256"]
    except (UserError, KeyError):
        return str(folder / "corpus.json")
    for name, sha256 in hashes.items():
        if not (folder / name).exists() or sha256_of(folder / name) != sha256:
            return str(folder / name)
    return ""


def _open(folder: Path) -> Corpus:
    stored = read_json(folder / "corpus.json")
    names = ("train", "held_out")
    parts = {name: load_from_disk(str(folder / name)).with_format("numpy") for name in names if (folder / name).exists()}
    fields = ("documents", "held_out_documents", "words", "held_out_bytes", "key", "cleaning")
    return Corpus(parts["train"], parts.get("held_out"), **{name: stored[name] for name in fields})


def _write(
    folder: Path,
    files: List[Path],
    tokenizer: PreTrainedTokenizerFast,
    settings: BlockSettings,
    cleaning: Optional[CleanSettings],
) -> Dict[str, Any]:
    """Write the shards.

    Returns:
        Dict[str, Any]: The properties of the corpus, for `corpus.json`.
    """
    report = CleanReport()
    source = ", ".join(map(str, files[:3])) + (" ..." if len(files) > 3 else "")  # for messages
    documents: Iterable[str] = Bar(stream_documents(files), unit=" documents", desc="read", mininterval=1.0)
    counted = _CountedDocuments(documents if cleaning is None else clean(documents, cleaning, report))
    if cleaning is None:
        for _ in counted:
            pass
    else:  # clean once, then read the result
        files = [folder / "clean.jsonl"]
        with files[0].open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in counted)
    if not counted.documents:
        after = f" after cleaning ({'; '.join(report.lines())})" if report.counts else ""
        raise UserError(f"{source}: no text found{after}")
    is_held_out = _held_out(counted.documents, settings, source)
    for part, is_selected in (("train", ~is_held_out), ("held_out", is_held_out)):
        if not is_selected.any():
            continue
        with Bar(total=len(is_selected), unit=" documents", desc=f"tokenize ({part})", mininterval=1.0) as bar:
            arguments = {
                "files": files, "is_selected": is_selected, "tokenizer": tokenizer, "block_size": settings.block_size, "bar": bar,
            }  # fmt: skip
            _save(folder / part, arguments, source)
    (folder / "clean.jsonl").unlink(missing_ok=True)
    return {
        "documents": counted.documents,
        "held_out_documents": int(is_held_out.sum()),
        "words": counted.words,
        "held_out_bytes": int(np.frombuffer(counted.sizes, np.int64)[is_held_out].sum()),
        "cleaning": None if cleaning is None else asdict(report),
    }


class _CountedDocuments:
    """Documents that are counted as they are read."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts, self.documents, self.words = texts, 0, 0
        self.sizes = array("q")  # of each document, in bytes

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            self.documents += 1
            self.words += len(text.split())
            self.sizes.append(len(text.encode()))
            yield text


def _column_types(tokenizer: PreTrainedTokenizerFast) -> Dict[str, str]:
    """How the columns are stored: as small as possible, since they are mapped into memory."""
    return {"subwords": "uint16" if len(tokenizer) <= 1 << 16 else "int32", "words": "uint16"}


def _save(folder: Path, arguments: Dict[str, Any], source: str) -> None:
    """Write what `_blocks` makes of the arguments."""
    temporary = folder.with_name("temporary")
    types = _column_types(arguments["tokenizer"])
    features = Features({name: DatasetSequence(Value(type_)) for name, type_ in types.items()})
    try:
        dataset = Dataset.from_generator(
            _blocks, features=features, cache_dir=str(temporary), gen_kwargs=arguments, fingerprint=folder.name
        )
    except ValueError as error:
        if "corresponds to no data" in str(error):
            raise UserError(f"{source}: no usable text; the tokenizer finds no subword in it") from None
        raise
    dataset.save_to_disk(folder, max_shard_size="500MB")
    del dataset
    shutil.rmtree(temporary)


def _held_out(documents: int, settings: BlockSettings, source: str) -> np.ndarray:
    """Which documents are held out, bool, (documents,). Whole documents, so that no sentence's context leaks."""
    is_held_out = np.zeros(documents, dtype=bool)
    if settings.validation_split:
        count = max(1, round(settings.validation_split * documents))
        if count >= documents:
            raise UserError(
                f"{source}: {documents} document(s) are too few to hold out {settings.validation_split:.0%}; "
                f"blank lines separate documents"
            )
        is_held_out[np.random.default_rng(settings.seed).permutation(documents)[:count]] = True
    return is_held_out


def _blocks(
    files: List[Path], is_selected: np.ndarray, tokenizer: PreTrainedTokenizerFast, block_size: int, bar: Bar
) -> Iterator[Dict[str, np.ndarray]]:
    """Pack the selected documents, each closed by the separator (a decoder's end of text), into blocks."""
    prefix, suffix = special_ids(tokenizer)
    room = block_size - len(prefix) - len(suffix)
    separator = suffix[:1] or ([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])
    types = _column_types(tokenizer)
    subwords, words = np.zeros(0, np.int32), np.zeros(0, np.int32)
    for encodings in _encoded(files, is_selected, tokenizer, bar):
        subwords = np.concatenate([subwords, *(np.array(encoding.ids + separator, np.int32) for encoding in encodings)])
        words = np.concatenate([words, _word_numbers(encodings, int(words.max(initial=0)), len(separator))])
        packed = len(subwords) // room * room
        for start in range(0, packed, room):
            block = slice(start, start + room)
            if words[block].any():  # else it holds only separators
                yield _as_stored(_block(subwords[block], words[block], prefix, suffix), types)
        subwords, words = subwords[packed:], _renumbered(words[packed:])
    if words.any():
        last = _block(subwords, words, prefix, suffix)
        pad_id, padding = tokenizer.pad_token_id or 0, (0, room - len(subwords))
        padded = {"subwords": np.pad(last["subwords"], padding, constant_values=pad_id), "words": np.pad(last["words"], padding)}
        yield _as_stored(padded, types)


def _as_stored(block: Dict[str, np.ndarray], types: Dict[str, str]) -> Dict[str, np.ndarray]:
    return {name: block[name].astype(type_) for name, type_ in types.items()}


def _encoded(
    files: List[Path], is_selected: np.ndarray, tokenizer: PreTrainedTokenizerFast, bar: Bar
) -> Iterator[List[Encoding]]:
    """The encodings of the selected documents, many at a time."""
    texts: List[str] = []
    size = 0
    for selected, text in zip(is_selected, stream_documents(files)):
        bar.update()
        if selected:
            texts.append(text)
            size += len(text)
        if size >= CHUNK_CHARACTERS:
            yield tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
            texts, size = [], 0
    if texts:
        yield tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)


def _word_numbers(encodings: List[Encoding], last: int, separators: int) -> np.ndarray:
    """The word of each subword, numbered on from `last` through all documents; 0 for separators."""
    parts: List[np.ndarray] = []
    for encoding in encodings:
        numbers = np.array([0 if word is None else word for word in encoding.word_ids], np.int32) + last + 1
        parts += [numbers, np.zeros(separators, np.int32)]
        last = int(numbers.max(initial=last))
    return np.concatenate(parts)


def _block(subwords: np.ndarray, words: np.ndarray, prefix: List[int], suffix: List[int]) -> Dict[str, np.ndarray]:
    return {
        "subwords": np.concatenate([np.array(prefix, np.int32), subwords, np.array(suffix, np.int32)]),
        "words": np.pad(_renumbered(words), (len(prefix), len(suffix))),
    }


def _renumbered(words: np.ndarray) -> np.ndarray:
    """The same words, numbered from 1."""
    first = words[words > 0].min(initial=np.iinfo(np.int32).max)
    return np.where(words > 0, words - first + 1, 0).astype(np.int32)


def count_word_subwords(blocks: Dataset) -> int:
    """Number of subwords that belong to words, without special tokens, separators and padding."""
    return sum(int((np.concatenate(list(batch["words"])) > 0).sum()) for batch in blocks.iter(2000))


def special_ids(tokenizer: PreTrainedTokenizerFast) -> Tuple[List[int], List[int]]:
    """The ids of the special tokens that the tokenizer puts before and after a text."""
    encoding = tokenizer.backend_tokenizer.encode("a")
    is_special = encoding.special_tokens_mask
    start = is_special.index(0)
    end = len(is_special) - is_special[::-1].index(0)
    return encoding.ids[:start], encoding.ids[end:]
