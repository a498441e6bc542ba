"""The corpus reader: several DocBins, mixed, streamed from disk."""

import random
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Union

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.training.augment import dont_augment

from mtl.data.docs import bare_doc, docbin_files, gold_number, gold_questions, load_docbin
from mtl.errors import UserError
from mtl.mixture.amounts import Amounts, Scores, temperature
from mtl.mixture.order import Order, shuffled

Augment = Callable[[Language, Example], Iterable[Example]]  # what spaCy calls an augmenter


def mixed_corpus(
    paths: Dict[str, Optional[Union[str, Path]]],
    amounts: Optional[Amounts] = None,
    order: Optional[Order] = None,
    seed: int = 0,
    augmenter: Optional[Augment] = None,
) -> "MixedCorpus":
    """`mtl.MixedCorpus.v1`: see `MixedCorpus`.

    Without `amounts`, `mtl.Temperature.v1` with its defaults; without `order`, `mtl.Shuffled.v1`.
    """
    return MixedCorpus(paths, amounts or temperature(), seed, order or shuffled(), augmenter or dont_augment)


class MixedCorpus:
    """Examples of several tasks, mixed, for `[corpora.train]` with `max_epochs = -1`.

    Each call gives one epoch: of every task as many examples as `amounts` says, drawn from passes over its corpus that are
    shuffled anew each time and go on from epoch to epoch. So between any two examples of a task there is a difference of at
    most one in how often they were seen. Documents may carry any subset of the annotations.

    paths: task -> a `.spacy` file, or a folder of them. Of a folder one file at a time is in memory, so a large corpus is
    converted into shards (`mtl convert --shard-size`); shuffling is over files and within each. augmenter: changes some of the
    examples; what it gives in addition counts in no amount.
    """

    def __init__(
        self, paths: Dict[str, Optional[Union[str, Path]]], amounts: Amounts, seed: int, order: Order = shuffled(),
        augmenter: Augment = dont_augment,
    ) -> None:  # fmt: skip
        if not paths:
            raise UserError("[corpora.train.paths] is empty: name at least one task and its .spacy file or folder")
        for task, path in paths.items():
            if path is None:
                raise UserError(f"[corpora.train.paths] {task} is not set: give a .spacy file or a folder of them")
        self.files = {task: docbin_files(path) for task, path in paths.items() if path is not None}
        self.amounts, self.seed, self.order, self.augmenter = amounts, seed, order, augmenter
        self.epoch = 0
        self._sizes: Dict[str, int] = {}
        self._streams: Dict[str, Iterator[Doc]] = {}
        self._owed: Dict[str, float] = dict.fromkeys(self.files, 0.0)

    @property
    def sizes(self) -> Dict[str, int]:
        """How many documents each task has. RAISES (UserError): a task has none."""
        if not self._sizes:
            self._sizes = {task: sum(len(load_docbin(file)) for file in files) for task, files in self.files.items()}
            for task, size in self._sizes.items():
                if not size:
                    raise UserError(f"{self.files[task][0]}: no document in it, for the task {task!r} of [corpora.train.paths]")
        return self._sizes

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """One epoch. The order depends on the seed, the epoch and the amounts alone."""
        if not self._streams:
            self._announce(nlp)
        counts = self._counts(self.epoch, scores_of(nlp))
        if not any(counts.values()):
            raise UserError(f"[corpora.train.amounts] give epoch {self.epoch} no example of any task; give it some")
        order = self.order(counts, random.Random(f"{self.seed}/order/{self.epoch}"))
        self.epoch += 1
        for task in order:
            if task not in self._streams:
                self._streams[task] = self._passes(task, nlp)
            yield from self.augmenter(nlp, make_example(nlp, next(self._streams[task])))

    def _announce(self, nlp: Language) -> None:
        """Show all documents to the heads, since `nlp.initialize` asks for the first 100 only."""
        for _, pipe in nlp.components:
            if hasattr(pipe, "announce"):
                files = (file for files in self.files.values() for file in files)
                pipe.announce(doc for file in files for doc in load_docbin(file).get_docs(nlp.vocab))

    def _counts(self, epoch: int, scores: Scores) -> Dict[str, int]:
        """Whole examples of each task; fractions are carried over to the next epoch."""
        counts = {}
        for task, amount in self.amounts(self.sizes, epoch, scores).items():
            owed = amount + self._owed[task]
            counts[task] = int(owed + 1e-9)
            self._owed[task] = owed - counts[task]
        return counts

    def _passes(self, task: str, nlp: Language) -> Iterator[Doc]:
        number = 0
        while True:
            chance = random.Random(f"{self.seed}/{task}/{number}")
            files = list(self.files[task])
            chance.shuffle(files)
            for file in files:
                yield from _shuffled(list(load_docbin(file).get_docs(nlp.vocab)), chance)
            number += 1


def _shuffled(docs: List[Doc], chance: random.Random) -> List[Doc]:
    chance.shuffle(docs)
    return docs


def scores_of(nlp: Language) -> Scores:
    """Every score of the heads at the evaluations so far, by spaCy's name for it."""
    found: Scores = {}
    for _, pipe in nlp.pipeline:
        for scores in getattr(pipe, "scored", ()):
            for name, value in scores.items():
                found.setdefault(name, []).append(value)
    return found


def make_example(nlp: Language, reference: Doc) -> Example:
    """The reference beside a Doc that the pipeline's own tokenizer makes of the same text, as in production."""
    if reference.has_unknown_spaces:
        return Example(bare_doc(reference, nlp.vocab), reference)
    return Example(nlp.make_doc(reference.text), reference)


def learned_from(
    corpus: Callable[[Language], Iterable[Example]], heads: List[str] = []
) -> Callable[[Language], Iterator[Example]]:
    """`mtl.LearnedFrom.v1`: of another reader's examples, those that some head of the pipeline learns from, in their order.

    So one head can be trained by itself on a mixture for several. heads: those that count, by name; all where none is named.
    """

    def read(nlp: Language) -> Iterator[Example]:
        return (example for example in corpus(nlp) if is_learned_from(nlp, example.reference, heads))

    return read


def is_learned_from(nlp: Language, reference: Doc, heads: Sequence[str] = ()) -> bool:
    """Whether a head of the pipeline is annotated for; what is no head of ours may learn from anything."""
    trainable = [
        pipe for name, pipe in nlp.pipeline
        if hasattr(pipe, "update") and not hasattr(pipe, "listening_components") and (not heads or name in heads)
    ]  # fmt: skip
    return any(pipe.is_annotated(reference) if hasattr(pipe, "is_annotated") else True for pipe in trainable)


def encoded_words() -> Callable[[Example], int]:
    """`mtl.EncodedWords.v1`, for a batcher's `get_length`: a document's words times how often it is encoded in an update."""
    return count_encoded_words


def count_encoded_words(example: Example) -> int:
    """See `words_to_encode`."""
    return words_to_encode(example.reference)


def words_to_encode(reference: Doc) -> int:
    """Once for categories, entities and tags together, and once for each question."""
    tagged = any(reference.has_annotation(kind) for kind in ("ENT_IOB", "TAG", "POS"))
    plain = bool(reference.cats) or tagged or gold_number(reference) is not None
    return len(reference) * max(1, int(plain) + len(gold_questions(reference)))


def documents(paths: List[str]) -> Callable[[Language], Iterable[Example]]:
    """`mtl.Documents.v1`: all documents of files and folders, once and in order, for `[corpora.dev]`."""
    return lambda nlp: read_examples(nlp, paths)


def read_examples(nlp: Language, paths: Iterable[Union[str, Path]]) -> Iterator[Example]:
    """All documents of files and folders, once and in order."""
    for path in paths:
        for file in docbin_files(path):
            for reference in load_docbin(file).get_docs(nlp.vocab):
                yield make_example(nlp, reference)
