"""The vectors of Docs between the encoder and the heads that read them. No spaCy."""

import threading
from collections import deque
from typing import Any, Deque, Dict, Hashable, List, Optional, Sequence, Set, Tuple
from weakref import WeakKeyDictionary

from mtl.encoder.model.encoder import TokenVectors

MAX_BATCHES = 2  # a thread's most recent batches


class _Entry:
    """Where a Doc's vectors are, and which heads have read them."""

    __slots__ = ("batch", "readers", "row")

    def __init__(self, batch: "_Batch", row: int) -> None:
        self.batch, self.row = batch, row
        self.readers: Set[str] = set()


class _Batch:
    def __init__(self, vectors: Optional[TokenVectors]) -> None:
        self.vectors = vectors


class VectorCache:
    """Keeps the vectors of a Doc until every linked head has read them.

    A cache, not a contract: which heads will run is not known here, because spaCy does not say which pipeline a component is
    called from and which of its components are disabled. So only each thread's last batches are kept, and a head that misses
    has the Doc encoded again. Keys are weak, since a Doc that its owner has dropped needs no vectors.
    """

    def __init__(self) -> None:
        self._entries: WeakKeyDictionary[Hashable, _Entry] = WeakKeyDictionary()
        self._local = threading.local()

    def __len__(self) -> int:
        return sum(entry.batch.vectors is not None for entry in list(self._entries.values()))

    def put(self, docs: Sequence[Hashable], vectors: TokenVectors) -> None:
        """Add a batch, and drop the oldest of this thread.

        Args:
            docs (Sequence[Hashable]): The Docs.
            vectors (TokenVectors): One item for each.
        """
        batch = _Batch(vectors)
        for row, doc in enumerate(docs):
            self._entries[doc] = _Entry(batch, row)
        recent: Deque[_Batch] = self._local.__dict__.setdefault("recent", deque())
        recent.append(batch)
        if len(recent) > MAX_BATCHES:
            recent.popleft().vectors = None

    def get(self, docs: Sequence[Hashable]) -> List[Optional[Tuple[TokenVectors, int]]]:
        """For each Doc the batch it is in and its row, None for a miss."""
        entries: List[Optional[Tuple[TokenVectors, int]]] = []
        for doc in docs:
            entry = self._entries.get(doc)
            vectors = None if entry is None else entry.batch.vectors
            entries.append(None if entry is None or vectors is None else (vectors, entry.row))
        return entries

    def release(self, docs: Sequence[Hashable], reader: str, readers: Set[str]) -> None:
        """Drop Docs that all heads have read.

        Args:
            docs (Sequence[Hashable]): The Docs that a head is done with.
            reader (str): That head.
            readers (Set[str]): All linked heads that read Docs.
        """
        for doc in docs:
            entry = self._entries.get(doc)
            if entry is not None:
                entry.readers.add(reader)
                if entry.readers >= readers or entry.batch.vectors is None:
                    self._entries.pop(doc, None)

    def __deepcopy__(self, memo: Dict[int, Any]) -> "VectorCache":
        return VectorCache()

    def __reduce__(self) -> Tuple[Any, ...]:
        return VectorCache, ()
