"""Whether documents that a pipeline is scored on are among those that it learns from."""

import logging
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Optional

from spacy.language import Language
from spacy.tokens import Doc

from mtl.data.docs import read_docs
from mtl.data.duplicates import normalized

logger = logging.getLogger(__name__)
MOST_BYTES = 100_000_000  # of training files that are read for this


def shared_texts(train: Iterable[Doc], scored: Iterable[Doc]) -> int:
    """How many of the documents that are scored have the text of one in training, but for case and punctuation."""
    known = {normalized(doc.text) for doc in train} - {""}
    return sum(normalized(doc.text) in known for doc in scored)


def leak_note(train: Iterable[Doc], scored: List[Doc]) -> Optional[str]:
    """A line on documents that are scored and trained on; None if there are none."""
    count = shared_texts(train, scored)
    if not count:
        return None
    return (
        f"{count:,} of the {len(scored):,} documents that are scored on are in the training data too, so scores are too high; "
        f"mtl check shows which, mtl check --fix removes them"
    )


def warn_of_leaks(corpus: Any, dev_corpus: Any, nlp: Language) -> None:
    """Warn of dev documents that are trained on, if the training corpus reads files that are not very large."""
    files = [Path(file) for group in getattr(corpus, "files", {}).values() for file in group]
    if not files or sum(file.stat().st_size for file in files) > MOST_BYTES:
        return
    note = leak_note(_docs(files, nlp), [example.reference for example in dev_corpus(nlp)])
    if note:
        logger.warning(note)


def _docs(files: Iterable[Path], nlp: Language) -> Iterator[Doc]:
    for file in files:
        yield from read_docs(file, nlp.vocab)
