"""The vectors of Docs between the encoder and the heads that read them. No spaCy."""

import threading
import weakref
from collections import deque
from typing import AbstractSet, Any, Deque, Dict, Hashable, List, Optional, Sequence, Set, Tuple

from mtl.encoder.model.encoder import TokenVectors

MAX_BATCHES = 2  # a thread's most recent batches


class _Batch:
    """Vectors, and which heads they are for. Freed when the last of its Docs is released."""

    __slots__ = ("__weakref__", "readers", "vectors")

    def __init__(self, vectors: TokenVectors, readers: AbstractSet[str]) -> None:
        self.vectors: Optional[TokenVectors] = vectors
        self.readers = readers


class _Entry:
    """Where a Doc's vectors are, and which heads have read them."""

    __slots__ = ("batch", "read_by", "row")

    def __init__(self, batch: _Batch, row: int) -> None:
        self.batch, self.row = batch, row
        self.read_by: Set[str] = set()


class VectorCache:
    """Keeps the vectors of a Doc until the heads have read them.

    A cache, not a contract: spaCy does not say which pipeline a component is called from and which of its components are
    disabled. A stream does tell, because each component of `nlp.pipe` begins before the one ahead of it gives its first Doc: see
    `announce`. Beyond that, only each thread's last batches are kept, and a head that misses has the Doc encoded again. Keys are
    weak, since a Doc that its owner has dropped needs no vectors.
    """

    def __init__(self) -> None:
        self._entries: weakref.WeakKeyDictionary[Hashable, _Entry] = weakref.WeakKeyDictionary()
        self._local = threading.local()

    def __len__(self) -> int:
        return sum(entry.batch.vectors is not None for entry in list(self._entries.values()))

    def announce(self, reader: str) -> None:
        """A head has begun a stream in this thread, and is about to ask the encoder for Docs."""
        self._announced.append(reader)

    def withdraw(self, reader: str) -> None:
        """A head's stream has ended. Forgets its announcement, if no encoder took it."""
        if reader in self._announced:
            self._announced.remove(reader)

    def take_announced(self) -> Set[str]:
        """The heads behind the encoder in the stream that begins now."""
        readers = set(self._announced)
        self._announced.clear()
        return readers

    @property
    def _announced(self) -> List[str]:
        return self._local.__dict__.setdefault("announced", [])

    def put(self, docs: Sequence[Hashable], vectors: TokenVectors, readers: AbstractSet[str]) -> None:
        """Add a batch, and drop the oldest of this thread.

        Args:
            docs (Sequence[Hashable]): The Docs.
            vectors (TokenVectors): One item for each.
            readers (AbstractSet[str]): The heads that will read them.
        """
        batch = _Batch(vectors, readers)
        for row, doc in enumerate(docs):
            self._entries[doc] = _Entry(batch, row)
        recent: Deque[weakref.ref[_Batch]] = self._local.__dict__.setdefault("recent", deque())
        recent.append(weakref.ref(batch))
        if len(recent) > MAX_BATCHES:
            oldest = recent.popleft()()
            if oldest is not None:
                oldest.vectors = None

    def get(self, docs: Sequence[Hashable]) -> List[Optional[Tuple[TokenVectors, int]]]:
        """For each Doc the batch it is in and its row, None for a miss."""
        entries: List[Optional[Tuple[TokenVectors, int]]] = []
        for doc in docs:
            entry = self._entries.get(doc)
            vectors = None if entry is None else entry.batch.vectors
            entries.append(None if entry is None or vectors is None else (vectors, entry.row))
        return entries

    def release(self, docs: Sequence[Hashable], reader: str) -> None:
        """Drop Docs that all their readers have read.

        Args:
            docs (Sequence[Hashable]): The Docs that a head is done with.
            reader (str): That head.
        """
        for doc in docs:
            entry = self._entries.get(doc)
            if entry is not None:
                entry.read_by.add(reader)
                if entry.read_by >= entry.batch.readers or entry.batch.vectors is None:
                    self.forget([doc])

    def forget(self, docs: Sequence[Hashable]) -> None:
        """Drop Docs, whoever has read them."""
        for doc in docs:
            self._entries.pop(doc, None)

    def __deepcopy__(self, memo: Dict[int, Any]) -> "VectorCache":
        return VectorCache()

    def __reduce__(self) -> Tuple[Any, ...]:
        return VectorCache, ()
