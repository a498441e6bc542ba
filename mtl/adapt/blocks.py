"""A corpus as packed blocks of wordpieces in memory-mapped shards, made once for a text and a tokenizer."""

import hashlib
import json
import shutil
from array import array
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from datasets import Dataset, Features, Value, disable_progress_bars, load_from_disk
from datasets import Sequence as DatasetSequence
from tokenizers import Encoding
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from mtl.adapt.cleaning import CleanReport, CleanSettings, clean, labelled_files
from mtl.adapt.text import stream_documents, text_files
from mtl.errors import UserError
from mtl.files import read_json, replacing, sha256_of, write_json

FORMAT = 4  # of the shards; another one is made anew
TOGETHER = 1 << 20  # characters that are cut into wordpieces at once, on all cores: 100 MB of encodings


@dataclass(frozen=True)
class BlockSettings:
    """length: wordpieces a block. held_out: share of documents kept apart; 0 is none. seed: which ones."""

    length: int
    held_out: float
    seed: int


@dataclass
class Corpus:
    """train, held: datasets of `pieces` (length,), wordpiece ids with the tokenizer's own specials at both ends, and `words`
    (length,), the word of each piece, counted from 1 within the block, 0 for specials. No block but the last is padded.
    held: None where none is held out."""

    train: Dataset
    held: Optional[Dataset]
    documents: int
    held_documents: int
    words: int
    held_bytes: int  # of the documents held out, as UTF-8
    key: str
    cleaning: Optional[Dict[str, Any]]  # what `CleanReport` holds


def load_corpus(
    paths: Sequence[str],
    tokenizer: PreTrainedTokenizerFast,
    settings: BlockSettings,
    cache: Path,
    echo: Callable[[str], None],
    cleaning: Optional[CleanSettings] = None,
) -> Corpus:
    """The corpus of text files, out of its shards in `cache`, which are made first where there are none or where they are broken.

    cleaning: how the text is cleaned first; None leaves it as it is, and memory does not grow with it.
    RAISES (UserError): no text; too few documents to hold any out; as `stream_documents`.
    """
    disable_progress_bars()  # of datasets; there is one of our own, which knows the end
    files = text_files(paths)
    key = _key(files, tokenizer, settings, cleaning)
    folder = cache / key
    if folder.exists():
        broken = _broken_shard(folder)
        if not broken:
            echo(f"tokenised before: {folder}")
            return _open(folder)
        echo(f"{broken}: the shard is broken; the text is tokenised anew")
        shutil.rmtree(folder)
    with replacing(folder) as partial:
        partial.mkdir()
        about = _write(partial, files, tokenizer, settings, cleaning)
        shards = {file.relative_to(partial).as_posix(): sha256_of(file) for file in sorted(partial.rglob("*")) if file.is_file()}
        write_json(partial / "corpus.json", {"key": key, **about, "sha256": shards})
    corpus = _open(folder)
    for line in CleanReport(**corpus.cleaning).lines() if corpus.cleaning else ():
        echo(line)
    return corpus


def _key(
    files: Sequence[Path], tokenizer: PreTrainedTokenizerFast, settings: BlockSettings, cleaning: Optional[CleanSettings]
) -> str:
    """What the shards depend on: every byte of the text, the tokenizer, the settings."""
    digest = hashlib.blake2b(digest_size=16)
    if cleaning is not None:
        digest.update(json.dumps([cleaning.min_words, cleaning.near_duplicates]).encode())
        files = [*files, *labelled_files(cleaning.away_from)]
    digest.update(json.dumps([FORMAT, asdict(settings), special_ends(tokenizer)]).encode())
    digest.update(tokenizer.backend_tokenizer.to_str().encode())
    for file in files:
        digest.update(sha256_of(file).encode())
    return digest.hexdigest()


def _broken_shard(folder: Path) -> str:
    """The first file that is not as it was written, "" if all are."""
    try:
        hashes = read_json(folder / "corpus.json")["sha256"]
    except (UserError, KeyError):
        return str(folder / "corpus.json")
    for name, sha256 in hashes.items():
        if not (folder / name).exists() or sha256_of(folder / name) != sha256:
            return str(folder / name)
    return ""


def _open(folder: Path) -> Corpus:
    about = read_json(folder / "corpus.json")
    parts = {
        part: load_from_disk(str(folder / part)).with_format("numpy") for part in ("train", "held") if (folder / part).exists()
    }
    given = {name: about[name] for name in ("documents", "held_documents", "words", "held_bytes", "key", "cleaning")}
    return Corpus(parts["train"], parts.get("held"), **given)


def _write(
    folder: Path,
    files: List[Path],
    tokenizer: PreTrainedTokenizerFast,
    settings: BlockSettings,
    cleaning: Optional[CleanSettings],
) -> Dict[str, Any]:
    """Write the shards; RETURNS what the corpus is like."""
    report = CleanReport()
    named = ", ".join(map(str, files[:3])) + (" ..." if len(files) > 3 else "")
    documents: Iterable[str] = tqdm(stream_documents(files), unit=" documents", desc="read", mininterval=1.0)
    counted = _Counted(documents if cleaning is None else clean(documents, cleaning, report))
    if cleaning is None:
        for _ in counted:
            pass
    else:  # cleaned once, and read again from there
        files = [folder / "clean.jsonl"]
        with files[0].open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in counted)
    if not counted.documents:
        left = f" that is left after cleaning ({'; '.join(report.lines())})" if report.counts else ""
        raise UserError(f"{named}: no text found{left}")
    held = _held_out(counted.documents, settings, named)
    for part, chosen in (("train", ~held), ("held", held)):
        if not chosen.any():
            continue
        with tqdm(total=len(held), unit=" documents", desc=f"tokenise ({part})", mininterval=1.0) as bar:
            given = {"files": files, "chosen": chosen, "tokenizer": tokenizer, "length": settings.length, "bar": bar}
            _save(folder / part, given, named)
    (folder / "clean.jsonl").unlink(missing_ok=True)
    about = {"documents": counted.documents, "held_documents": int(held.sum()), "words": counted.words}
    about["held_bytes"] = int(np.frombuffer(counted.bytes, np.int64)[held].sum())
    return {**about, "cleaning": None if cleaning is None else asdict(report)}


class _Counted:
    """Documents, counted as they pass."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts, self.documents, self.words = texts, 0, 0
        self.bytes = array("q")  # of each document

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            self.documents += 1
            self.words += len(text.split())
            self.bytes.append(len(text.encode()))
            yield text


def _types(tokenizer: PreTrainedTokenizerFast) -> Dict[str, str]:
    """What the columns are stored as: what is mapped into memory is to be small."""
    return {"pieces": "uint16" if len(tokenizer) <= 1 << 16 else "int32", "words": "uint16"}


def _save(folder: Path, given: Dict[str, Any], named: str) -> None:
    making = folder.with_name("making")
    try:
        types = {name: DatasetSequence(Value(kind)) for name, kind in _types(given["tokenizer"]).items()}
        made = {"features": Features(types), "cache_dir": str(making), "gen_kwargs": given, "fingerprint": folder.name}
        dataset = Dataset.from_generator(_blocks, **made)
    except ValueError as error:
        if "corresponds to no data" in str(error):
            raise UserError(f"{named}: no usable text; the tokenizer finds no wordpiece in it") from None
        raise
    dataset.save_to_disk(folder, max_shard_size="500MB")
    del dataset
    shutil.rmtree(making)


def _held_out(documents: int, settings: BlockSettings, named: str) -> np.ndarray:
    """(documents,), bool: which are held out. Whole documents, so that no sentence's neighbour leaks."""
    chosen = np.zeros(documents, dtype=bool)
    if settings.held_out:
        count = max(1, round(settings.held_out * documents))
        if count >= documents:
            raise UserError(
                f"{named}: {documents} document(s), too few to hold out {settings.held_out:.0%}; blank lines separate documents"
            )
        chosen[np.random.default_rng(settings.seed).permutation(documents)[:count]] = True
    return chosen


def _blocks(
    files: List[Path], chosen: np.ndarray, tokenizer: PreTrainedTokenizerFast, length: int, bar: tqdm
) -> Iterator[Dict[str, np.ndarray]]:
    """Pack the chosen documents, each closed by the separator (a decoder's: its end of text), into blocks of `length` pieces."""
    prefix, suffix = special_ends(tokenizer)
    room = length - len(prefix) - len(suffix)
    separator = suffix[:1] or ([] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id])
    types = _types(tokenizer)
    pieces, words = np.zeros(0, np.int32), np.zeros(0, np.int32)
    for encodings in _encoded(files, chosen, tokenizer, bar):
        pieces = np.concatenate([pieces, *(np.array(encoding.ids + separator, np.int32) for encoding in encodings)])
        words = np.concatenate([words, _count_words(encodings, int(words.max(initial=0)), len(separator))])
        whole = len(pieces) // room * room
        for start in range(0, whole, room):
            own = slice(start, start + room)
            if words[own].any():  # else it is separators alone
                yield _stored(_block(pieces[own], words[own], prefix, suffix), types)
        pieces, words = pieces[whole:], _from_one(words[whole:])
    if words.any():
        last = _block(pieces, words, prefix, suffix)
        pad, padding = tokenizer.pad_token_id or 0, (0, room - len(pieces))
        padded = {"pieces": np.pad(last["pieces"], padding, constant_values=pad), "words": np.pad(last["words"], padding)}
        yield _stored(padded, types)


def _stored(block: Dict[str, np.ndarray], types: Dict[str, str]) -> Dict[str, np.ndarray]:
    return {name: block[name].astype(kind) for name, kind in types.items()}


def _encoded(files: List[Path], chosen: np.ndarray, tokenizer: PreTrainedTokenizerFast, bar: tqdm) -> Iterator[List[Encoding]]:
    texts: List[str] = []
    size = 0
    for own, text in zip(chosen, stream_documents(files)):
        bar.update()
        if own:
            texts.append(text)
            size += len(text)
        if size >= TOGETHER:
            yield tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
            texts, size = [], 0
    if texts:
        yield tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)


def _count_words(encodings: List[Encoding], before: int, separators: int) -> np.ndarray:
    """The word of each wordpiece, counted on from `before` over the documents; 0 for separators."""
    parts: List[np.ndarray] = []
    for encoding in encodings:
        own = np.array([0 if word is None else word for word in encoding.word_ids], np.int32) + before + 1
        parts += [own, np.zeros(separators, np.int32)]
        before = int(own.max(initial=before))
    return np.concatenate(parts)


def _block(pieces: np.ndarray, words: np.ndarray, prefix: List[int], suffix: List[int]) -> Dict[str, np.ndarray]:
    return {
        "pieces": np.concatenate([np.array(prefix, np.int32), pieces, np.array(suffix, np.int32)]),
        "words": np.pad(_from_one(words), (len(prefix), len(suffix))),
    }


def _from_one(words: np.ndarray) -> np.ndarray:
    """The same words, counted from 1."""
    first = words[words > 0].min(initial=np.iinfo(np.int32).max)
    return np.where(words > 0, words - first + 1, 0).astype(np.int32)


def count_words_pieces(blocks: Dataset) -> int:
    """How many wordpieces of words there are, without specials, separators and padding."""
    return sum(int((np.concatenate(list(batch["words"])) > 0).sum()) for batch in blocks.iter(2000))


def special_ends(tokenizer: PreTrainedTokenizerFast) -> Tuple[List[int], List[int]]:
    """The special wordpieces that the tokenizer itself puts before and after a text."""
    encoding = tokenizer.backend_tokenizer.encode("a")
    mask = encoding.special_tokens_mask
    first = mask.index(0)
    last = len(mask) - mask[::-1].index(0)
    return encoding.ids[:first], encoding.ids[last:]
