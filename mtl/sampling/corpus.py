"""Corpus readers for spaCy's `[corpora]`: several DocBins, sampled together and streamed from disk."""

import random
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Union

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.training.augment import dont_augment

from mtl.data.docs import bare_doc, docbin_files, load_docbin
from mtl.errors import UserError
from mtl.registry import heads_of, registered_tasks
from mtl.sampling.augmented import augmented
from mtl.sampling.order import Order, shuffled_order
from mtl.sampling.strategies import Sampling, Scores, temperature_sampling
from mtl.settings import ByName, by_name

AugmentExample = Callable[[Language, Example], Iterable[Example]]  # what spaCy calls an augmenter


def multi_task_corpus(
    paths: ByName[Optional[Union[str, Path]]],
    sampling: Optional[Sampling] = None,
    order: Optional[Order] = None,
    seed: int = 0,
    augmenter: Optional[AugmentExample] = None,
) -> "MultiTaskCorpus":
    """Reader `mtl.MultiTaskCorpus.v1`: see `MultiTaskCorpus`.

    The default sampling is `mtl.TemperatureSampling.v1`, the default order `mtl.ShuffledOrder.v1`.
    """
    return MultiTaskCorpus(paths, sampling or temperature_sampling(), seed, order or shuffled_order(), augmenter or dont_augment)


class MultiTaskCorpus:
    """Examples of several tasks, for `[corpora.train]` with `max_epochs = -1`.

    Each call gives one epoch: of every task as many examples as the sampling says, taken from passes over its corpus that are
    reshuffled each time and continue from epoch to epoch. So any two examples of a task have been seen equally often, plus or
    minus one. Documents may carry any subset of the annotations.

    Args:
        paths (ByName[Optional[Union[str, Path]]]): Task -> a `.spacy` file, or a folder of them. Of a folder, one file at a
            time is in memory, so convert a large corpus into shards (`mtl convert --shard-size`); files are shuffled, and the
            documents within each.
        sampling (Sampling): How many examples of each task an epoch has.
        seed (int): Of everything random.
        order (Order): In which order the tasks come.
        augmenter (AugmentExample): Changes some of the examples. What it adds does not count in the sampling.

    Raises:
        UserError: No task, or a path that is not set or has no `.spacy` file.
    """

    def __init__(
        self, paths: ByName[Optional[Union[str, Path]]], sampling: Sampling, seed: int, order: Order = shuffled_order(),
        augmenter: AugmentExample = dont_augment,
    ) -> None:  # fmt: skip
        paths = by_name("corpora.train.paths", paths)
        if not paths:
            raise UserError("[corpora.train.paths] is empty: name at least one task and its .spacy file or folder")
        for task, path in paths.items():
            if path is None:
                raise UserError(f"[corpora.train.paths] {task} is not set: give a .spacy file or a folder of them")
        self.files = {task: docbin_files(path) for task, path in paths.items() if path is not None}
        self.sampling, self.seed, self.order, self.augmenter = sampling, seed, order, augmenter
        self.epoch = 0
        self._sizes: Dict[str, int] = {}
        self._streams: Dict[str, Iterator[Doc]] = {}
        self._remainders: Dict[str, float] = dict.fromkeys(self.files, 0.0)  # fractions of an example, carried over

    @property
    def sizes(self) -> Dict[str, int]:
        """Number of documents of each task.

        Raises:
            UserError: A task has none.
        """
        if not self._sizes:
            self._sizes = {task: sum(len(load_docbin(file)) for file in files) for task, files in self.files.items()}
            for task, size in self._sizes.items():
                if not size:
                    raise UserError(f"{self.files[task][0]}: no document in it, for the task {task!r} of [corpora.train.paths]")
        return self._sizes

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """One epoch. Its order depends on the seed, the epoch and the sampling alone."""
        if not self._streams:
            self._scan(nlp)
        counts = self._counts(self.epoch, score_histories(nlp))
        if not any(counts.values()):
            raise UserError(f"[corpora.train.sampling] gives epoch {self.epoch} no example of any task")
        order = self.order(counts, random.Random(f"{self.seed}/order/{self.epoch}"))
        self.epoch += 1
        for task in order:
            if task not in self._streams:
                self._streams[task] = self._passes(task, nlp)
            yield from augmented(nlp, make_example(nlp, next(self._streams[task])), self.augmenter)

    def _scan(self, nlp: Language) -> None:
        """Show all documents to the heads, because `nlp.initialize` asks for the first 100 only."""
        for _, pipe in nlp.components:
            if hasattr(pipe, "scan"):
                files = (file for files in self.files.values() for file in files)
                pipe.scan(doc for file in files for doc in load_docbin(file).get_docs(nlp.vocab))

    def _counts(self, epoch: int, scores: Scores) -> Dict[str, int]:
        """Whole examples of each task. Fractions are carried over to the next epoch."""
        counts = {}
        for task, amount in self.sampling(self.sizes, epoch, scores).items():
            total = amount + self._remainders[task]
            counts[task] = int(total + 1e-9)
            self._remainders[task] = total - counts[task]
        return counts

    def _passes(self, task: str, nlp: Language) -> Iterator[Doc]:
        """Shuffled passes over a task's corpus, without end."""
        number = 0
        while True:
            rng = random.Random(f"{self.seed}/{task}/{number}")
            files = list(self.files[task])
            rng.shuffle(files)
            for file in files:
                docs = list(load_docbin(file).get_docs(nlp.vocab))
                rng.shuffle(docs)
                yield from docs
            number += 1


def score_histories(nlp: Language) -> Scores:
    """Every score of the heads at the evaluations so far, by spaCy's name for it."""
    histories: Scores = {}
    for head in heads_of(nlp).values():
        for scores in head.score_history:
            for name, value in scores.items():
                histories.setdefault(name, []).append(value)
    return histories


def make_example(nlp: Language, reference: Doc) -> Example:
    """The reference beside a Doc that the pipeline's own tokenizer makes of the same text, as in production."""
    if reference.has_unknown_spaces:
        return Example(bare_doc(reference, nlp.vocab), reference)
    return Example(nlp.make_doc(reference.text), reference)


def annotated_examples(
    corpus: Callable[[Language], Iterable[Example]], heads: List[str] = []
) -> Callable[[Language], Iterator[Example]]:
    """Reader `mtl.AnnotatedExamples.v1`: another reader's examples that some head of the pipeline can learn from, in order.

    With it a single head can be trained on a corpus made for several.

    Args:
        corpus (Callable): The other reader.
        heads (List[str]): Names of the components that count; by default all of the pipeline.
    """

    def read(nlp: Language) -> Iterator[Example]:
        return (example for example in corpus(nlp) if is_annotated_for_any(nlp, example.reference, heads))

    return read


def is_annotated_for_any(nlp: Language, reference: Doc, heads: Sequence[str] = ()) -> bool:
    """Whether a component can learn from the document. Components that are no heads of ours may learn from any."""
    trainable = [
        pipe
        for name, pipe in nlp.pipeline
        if hasattr(pipe, "update") and not hasattr(pipe, "listening_components") and (not heads or name in heads)
    ]
    return any(pipe.is_annotated(reference) if hasattr(pipe, "is_annotated") else True for pipe in trainable)


def encoded_words() -> Callable[[Example], int]:
    """`mtl.EncodedWords.v1`, for a batcher's `get_length`: a document's words times how often a step encodes it."""
    return count_encoded_words


def count_encoded_words(example: Example) -> int:
    """See `words_to_encode`."""
    return words_to_encode(example.reference)


def words_to_encode(reference: Doc) -> int:
    """The document's words times how often a step encodes it: at least once, and for all tasks that share an encoding, once."""
    encodings = {encoding for task in registered_tasks() for encoding in task.encodings(reference)}
    return len(reference) * max(1, len(encodings))


def documents(paths: List[str]) -> Callable[[Language], Iterable[Example]]:
    """Reader `mtl.Documents.v1`: all documents of files and folders, once and in order, for `[corpora.dev]`.

    Args:
        paths (List[str]): `.spacy` files or folders of them.
    """
    return lambda nlp: read_examples(nlp, paths)


def read_examples(nlp: Language, paths: Iterable[Union[str, Path]]) -> Iterator[Example]:
    """All documents of files and folders, once and in order."""
    for path in paths:
        for file in docbin_files(path):
            for reference in load_docbin(file).get_docs(nlp.vocab):
                yield make_example(nlp, reference)
