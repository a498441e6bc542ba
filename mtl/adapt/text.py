"""Raw text to packed blocks of wordpieces, with `datasets`."""

import random
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np
from datasets import Dataset, Features, Value, disable_progress_bars
from datasets import Sequence as DatasetSequence
from transformers import PreTrainedTokenizerFast

from mtl.data.records import numbered_lines, parse_json
from mtl.errors import UserError

SUFFIXES = (".txt", ".jsonl", ".spacy")


def read_documents(paths: Sequence[str]) -> List[str]:
    """The documents of text files: .txt (a blank line between documents), .jsonl (key "text"), .spacy; folders of them.

    RAISES (UserError): a file is missing, empty, of another kind, or has no text.
    """
    documents = [text for path in paths for file in _files(Path(path)) for text in _read(file) if text.strip()]
    if not documents:
        raise UserError(f"{', '.join(map(str, paths))}: no text found")
    return documents


def _files(path: Path) -> List[Path]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        if not files:
            raise UserError(f"{path}: no {', '.join(SUFFIXES)} file in the folder")
        return files
    if path.exists() and path.suffix not in SUFFIXES:
        raise UserError(f"{path}: text is read from {', '.join(SUFFIXES)}, not from {path.suffix!r}")
    return [path]


def _read(path: Path) -> Iterator[str]:
    if path.suffix == ".spacy":
        import spacy

        from mtl.data.docs import read_docs

        yield from (doc.text for doc in read_docs(path, spacy.blank("xx").vocab))
    elif path.suffix == ".jsonl":
        for number, line in numbered_lines(path):
            if line.strip():
                yield _text_of(line, f"{path}, line {number}")
    else:
        paragraphs: List[str] = []
        for _, line in numbered_lines(path) + [(0, "")]:
            if line.strip():
                paragraphs.append(line)
            elif paragraphs:
                yield "\n".join(paragraphs)
                paragraphs = []


def _text_of(line: str, where: str) -> str:
    try:
        text = parse_json(line, where)["text"]
    except (KeyError, TypeError):
        raise UserError(f'{where}: the key "text" is missing') from None
    if not isinstance(text, str):
        raise UserError(f'{where}: "text" is no string')
    return text


def split_documents(documents: List[str], share: float, seed: int) -> Tuple[List[str], List[str]]:
    """Training and held-out documents; whole documents, so that no sentence's neighbour leaks.

    RAISES (UserError): too few documents to hold any out.
    """
    held = max(1, round(share * len(documents)))
    if held >= len(documents):
        raise UserError(f"{len(documents)} document(s): too few to hold out {share:.0%}; separate documents by blank lines")
    order = random.Random(seed).sample(range(len(documents)), len(documents))
    return [documents[i] for i in sorted(order[held:])], [documents[i] for i in sorted(order[:held])]


def pack_blocks(documents: List[str], tokenizer: PreTrainedTokenizerFast, length: int, cache: str) -> Dataset:
    """Pack documents, each closed by the separator, into blocks of exactly `length` wordpieces, none padded.

    Columns: `pieces` (length,) wordpiece ids with the tokenizer's own specials at both ends; `words` (length,) the word
    each piece belongs to, counted from 1 within the block, 0 for specials. The last, shorter block is padded.
    `cache` is the folder for the memory-mapped Arrow files.
    """
    disable_progress_bars()
    texts = Dataset.from_dict({"text": documents})
    features = Features({"pieces": DatasetSequence(Value("int32")), "words": DatasetSequence(Value("int32"))})
    prefix, suffix = special_ends(tokenizer)

    def pack(batch: Dict[str, List[str]]) -> Dict[str, List[np.ndarray]]:
        return _pack(batch["text"], tokenizer, length, prefix, suffix)

    return texts.map(
        pack,
        batched=True,
        batch_size=1000,
        remove_columns=["text"],
        features=features,
        cache_file_name=str(Path(cache) / f"blocks-{len(documents)}-{length}.arrow"),
        load_from_cache_file=False,
    ).with_format("numpy")


def special_ends(tokenizer: PreTrainedTokenizerFast) -> Tuple[List[int], List[int]]:
    """The special wordpieces that the tokenizer itself puts before and after a text."""
    encoding = tokenizer.backend_tokenizer.encode("a")
    mask = encoding.special_tokens_mask
    first = mask.index(0)
    last = len(mask) - mask[::-1].index(0)
    return encoding.ids[:first], encoding.ids[last:]


def _pack(
    texts: List[str], tokenizer: PreTrainedTokenizerFast, length: int, prefix: List[int], suffix: List[int]
) -> Dict[str, List[np.ndarray]]:
    pieces: List[int] = []
    words: List[int] = []
    count = 0
    for encoding in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False):
        pieces += encoding.ids + suffix[:1]
        words += [count + 1 + (word or 0) for word in encoding.word_ids] + [0] * len(suffix[:1])
        count = max(words[-len(encoding.ids) - 1 :], default=count)
    room = length - len(prefix) - len(suffix)
    ends = [0] * len(prefix), [0] * len(suffix)
    pad = tokenizer.pad_token_id or 0
    blocks: Dict[str, List[np.ndarray]] = {"pieces": [], "words": []}
    for start in range(0, len(pieces), room):
        body, body_words = pieces[start : start + room], np.array(words[start : start + room])
        if not body_words.any():  # a last separator alone
            continue
        body_words = np.where(body_words > 0, body_words - body_words[body_words > 0].min() + 1, 0)
        padding = room - len(body)
        blocks["pieces"].append(np.array(prefix + body + suffix + [pad] * padding, dtype=np.int32))
        blocks["words"].append(np.array([*ends[0], *body_words, *ends[1], *[0] * padding], dtype=np.int32))
    return blocks
