"""What our components' `pipe` does better than spaCy's: one failing Doc costs one Doc, and batches have bounded memory."""

from collections import deque
from typing import Any, Deque, Iterable, Iterator, List, Tuple

from spacy.tokens import Doc

from mtl.stages import stage

MOST_TOKENS = 100_000  # in a batch, unless one Doc alone has more: the vectors of all are held until the last head is done


def batches(stream: Iterable[Doc], batch_size: int) -> Iterator[List[Doc]]:
    """At most `batch_size` Docs each, and at most `MOST_TOKENS` tokens where there are several."""
    batch: List[Doc] = []
    tokens = 0
    for doc in stream:
        if batch and tokens + len(doc) > MOST_TOKENS:
            yield batch
            batch, tokens = [], 0
        batch.append(doc)
        tokens += len(doc)
        if len(batch) == batch_size:  # at once, not when the next Doc comes
            yield batch
            batch, tokens = [], 0
    if batch:
        yield batch


class RobustPipe:
    """Mixin before `TrainablePipe`: a batch that fails is run again Doc by Doc.

    Only the Docs that fail by themselves go to `nlp`'s error handler; the others stay in the stream, in order. (spaCy's own
    `pipe` hands the whole batch to the handler and loses it.)
    """

    name: str
    predict: Any
    set_annotations: Any
    get_error_handler: Any
    ahead = 0  # batches that a prediction is begun for before the one before them is handed on

    def begin(self, docs: List[Doc]) -> Any:
        """`predict`, in `pipe`."""
        return self.predict(docs)

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Apply the component to a stream of Docs, in batches; order is kept."""
        ahead = self.ahead if batch_size > 1 else 0
        begun: Deque[Tuple[List[Doc], Any]] = deque()
        for docs in batches(stream, batch_size):
            begun.append((docs, self._begun(docs)))
            if len(begun) > ahead:
                yield from self._finished(*begun.popleft())
        for docs, predictions in begun:
            yield from self._finished(docs, predictions)

    def _begun(self, docs: List[Doc]) -> Any:
        """The predictions, or the error that they end in."""
        try:
            with stage(self.name):
                return self.begin(docs)
        except Exception as error:
            return error

    def _finished(self, docs: List[Doc], predictions: Any) -> List[Doc]:
        try:
            if isinstance(predictions, Exception):
                raise predictions
            with stage("annotate"):
                self.set_annotations(docs, predictions)
        except Exception as error:
            return self._one_by_one(docs, error)
        return docs

    def _one_by_one(self, docs: List[Doc], error: Exception) -> List[Doc]:
        handler = self.get_error_handler()
        if len(docs) == 1:
            handler(self.name, self, docs, error)
            return []
        passed = []
        for doc in docs:
            try:
                self.set_annotations([doc], self.predict([doc]))
                passed.append(doc)
            except Exception as own_error:
                handler(self.name, self, [doc], own_error)
        return passed
