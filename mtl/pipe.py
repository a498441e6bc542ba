"""A better `pipe` than spaCy's: a failing Doc costs only that Doc, and batches have bounded memory."""

from typing import Any, Callable, Iterable, Iterator, List

from spacy.tokens import Doc

from mtl.timing import stage

# Tokens in a batch, unless a single Doc has more. The vectors of all of them are in memory until the last head is done.
MOST_TOKENS = 100_000


def batches(stream: Iterable[Doc], batch_size: int) -> Iterator[List[Doc]]:
    """Group a stream of Docs into batches.

    Args:
        stream (Iterable[Doc]): The Docs.
        batch_size (int): Most Docs in a batch. A batch of several Docs also has at most `MOST_TOKENS` tokens.
    """
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

    def pipe(self, stream: Iterable[Doc], *, batch_size: int = 128) -> Iterator[Doc]:
        """Apply the component to a stream of Docs in batches. The order is kept.

        Args:
            stream (Iterable[Doc]): The Docs.
            batch_size (int): Most Docs in a batch.
        """
        yield from self.run_in_batches(self._predict_and_annotate, stream, batch_size)

    def _predict_and_annotate(self, docs: List[Doc]) -> None:
        with stage(self.name):
            predictions = self.predict(docs)
        with stage("annotate"):
            self.set_annotations(docs, predictions)

    def run_in_batches(self, run: Callable[[List[Doc]], None], stream: Iterable[Doc], batch_size: int) -> Iterator[Doc]:
        """Run a function on batches of Docs, and give on the Docs that do not fail.

        Args:
            run (Callable): Annotates a batch.
            stream (Iterable[Doc]): The Docs.
            batch_size (int): Most Docs in a batch.
        """
        for docs in batches(stream, batch_size):
            try:
                run(docs)
            except Exception as error:
                docs = self._one_by_one(run, docs, error)
            yield from docs

    def _one_by_one(self, run: Callable[[List[Doc]], None], docs: List[Doc], error: Exception) -> List[Doc]:
        """The Docs of a failed batch that do not fail by themselves."""
        if len(docs) == 1:
            self._fail(docs, error)
            return []
        passed = []
        for doc in docs:
            try:
                run([doc])
                passed.append(doc)
            except Exception as doc_error:
                self._fail([doc], doc_error)
        return passed

    def _fail(self, docs: List[Doc], error: Exception) -> None:
        self.drop(docs)
        self.get_error_handler()(self.name, self, docs, error)

    def drop(self, docs: List[Doc]) -> None:
        """Forget what is kept for Docs that go no further."""
