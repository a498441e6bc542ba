"""Records to documents in spaCy's format, a shard at a time, in several processes where that pays."""

import multiprocessing
import os
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Deque, Dict, Iterator, List, Tuple

from spacy.language import Language
from spacy.tokens import DocBin

from mtl.data.docs import blank_pipeline, record_to_doc
from mtl.data.records import Record, Report
from mtl.registry import registered_tasks

LEAST_CHARACTERS = 20_000_000  # of the records, from which more than one process pays
AHEAD = 2  # shards for each process that are on their way
Label = Tuple[str, str]  # what the task calls its annotation, label


@dataclass
class Shard:
    """Documents in spaCy's format.

    Args:
        docs (bytes): A DocBin.
        size (int): Number of documents.
        characters (int): Of their texts.
        report (Report): What was repaired and left out.
        first (Dict[Label, str]): Each label -> where it was first seen.
        is_annotated (bool): Whether a document has an annotation.
    """

    docs: bytes = b""
    size: int = 0
    characters: int = 0
    report: Report = field(default_factory=Report)
    first: Dict[Label, str] = field(default_factory=dict)
    is_annotated: bool = False


def make_shard(records: List[Record], nlp: Language) -> Shard:
    """The documents of the records.

    Raises:
        UserError: An annotation contradicts its text.
    """
    shard, docbin, tasks = Shard(size=len(records)), DocBin(), registered_tasks()
    for record in records:
        doc = record_to_doc(record, nlp, shard.report)
        for task in tasks:
            if task.is_annotated(doc):
                shard.is_annotated |= not task.is_auxiliary
                for label in task.labels(doc):
                    shard.first.setdefault((task.title, label), record.where)
        docbin.add(doc)
        shard.characters += len(record.text)
    shard.docs = docbin.to_bytes()
    return shard


def make_shards(records: List[Record], lang: str, size: int, processes: int) -> Iterator[Shard]:
    """The documents of the records, which are given up on the way.

    Args:
        records (List[Record]): The records; empty afterwards.
        lang (str): The language whose tokenizer is used.
        size (int): Documents in a shard.
        processes (int): How many processes; 0 for all cores if the records are many, else one.

    Raises:
        UserError: An annotation contradicts its text.
    """
    if not processes:
        is_large = sum(len(record.text) for record in records) >= LEAST_CHARACTERS
        processes = len(os.sched_getaffinity(0)) if is_large and hasattr(os, "sched_getaffinity") else 1
    parts = _taken(records, size)
    if processes == 1:
        nlp = blank_pipeline(lang)
        yield from (make_shard(part, nlp) for part in parts)
        return
    context = multiprocessing.get_context("forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_start, initargs=(lang,)) as pool:
        waiting: Deque[Future] = deque(pool.submit(_work, part) for part in islice(parts, AHEAD * processes))
        while waiting:
            shard = waiting.popleft().result()
            waiting.extend(pool.submit(_work, part) for part in islice(parts, 1))
            yield shard


def _taken(records: List[Record], size: int) -> Iterator[List[Record]]:
    records.reverse()
    while records:
        part = records[: -size - 1 : -1]
        del records[-size:]
        yield part


_nlp: List[Language] = []  # of a worker


def _start(lang: str) -> None:
    _nlp.append(blank_pipeline(lang))


def _work(records: List[Record]) -> Shard:
    return make_shard(records, _nlp[0])
