"""What our components' `pipe` does better than spaCy's: one failing Doc costs one Doc."""

from typing import Any, Iterable, Iterator, List

from spacy import util
from spacy.tokens import Doc


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
        """Apply the component to a stream of Docs, in batches; order is kept."""
        for batch in util.minibatch(stream, batch_size):
            docs = list(batch)
            try:
                self.set_annotations(docs, self.predict(docs))
            except Exception as error:
                docs = self._one_by_one(docs, error)
            yield from docs

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
