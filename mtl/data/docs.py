"""Records to spaCy Docs, and Docs to and from `.spacy` files that stream from disk."""

from pathlib import Path
from typing import Any, ContextManager, Iterable, Iterator, List, Optional, Tuple, Union

import spacy
from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span, SpanGroup
from spacy.vocab import Vocab

from mtl.data.records import Record, Report
from mtl.errors import UserError
from mtl.files import replacing
from mtl.registry import registered_tasks

GROUP = "group"  # key of a row, and of doc.spans, whose empty group has it in its attrs


def record_to_doc(record: Record, nlp: Language, report: Report) -> Doc:
    """Tokenize a record's text and let every task write its annotation to the Doc.

    Raises:
        UserError: An annotation contradicts the text.
    """
    doc = nlp.make_doc(record.text)
    report.count("documents")
    for task in registered_tasks():
        task.annotate(doc, record, report)
    group = record.extra.get(GROUP)
    if group not in (None, ""):
        doc.spans[GROUP] = SpanGroup(doc, name=GROUP, attrs={"name": str(group)})
    return doc


def group_of(doc: Doc) -> str:
    """What the document is of, such as a patient or a contract; "" if that is not known."""
    return str(doc.spans[GROUP].attrs.get("name", "")) if GROUP in doc.spans else ""


def blank_pipeline(lang: str) -> Language:
    """The language's tokenizer, for texts of any length.

    Raises:
        UserError: spaCy has no such language.
    """
    try:
        nlp = spacy.blank(lang)
    except ImportError as error:
        if "E048" in str(error) or "Can't import language" in str(error):
            raise UserError(f"--lang {lang!r}: spaCy has no such language; use a code such as en, de or xx") from None
        raise UserError(f"--lang {lang!r}: {' '.join(str(error).split())}") from None
    nlp.max_length = max(nlp.max_length, 10**9)  # the limit protects spaCy's parser, which does not run here
    return nlp


def bare_doc(doc: Doc, vocab: Vocab) -> Doc:
    """A Doc with the same tokens and nothing else."""
    return Doc(vocab, words=[token.text for token in doc], spaces=[bool(token.whitespace_) for token in doc])


def widened_span(doc: Doc, start: int, end: int, **kwargs: Any) -> Span:
    """The span of all tokens that share characters with `start` to `end`.

    Raises:
        ValueError: No token is there.
    """
    span = doc.char_span(start, end, alignment_mode="expand", **kwargs)
    if span is None:
        raise ValueError(f"no token at characters {start}:{end} of {len(doc.text)}")
    return span


def without_edge_space(span: Span) -> Optional[Span]:
    """The span without white-space tokens at its edges; None if nothing else is in it.

    No head can learn or predict such edges: white space has no vector.
    """
    start, end = span.start, span.end
    while start < end and span.doc[start].is_space:
        start += 1
    while start < end and span.doc[end - 1].is_space:
        end -= 1
    if (start, end) == (span.start, span.end):
        return span
    return Span(span.doc, start, end, label=span.label, span_id=span.id) if start < end else None


def edge_space_faults(spans: Iterable[Span], what: str) -> List[str]:
    """For each span with white space at an edge, a description of that: see `Task.faults`."""
    faults = []
    for span in spans:
        trimmed = without_edge_space(span)
        if trimmed is None:
            faults.append(f"{what} of white space alone, which are left out")
        elif trimmed is not span:
            faults.append(f"{what} with white space at the edges, which is left out")
    return faults


def trimmed_offsets(text: str, start: int, end: int) -> Tuple[int, int]:
    """Character offsets without white space at the edges of what they select; equal if that is all there is."""
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return start, start + len(part.strip())


def write_docs(docs: Iterable[Doc], path: Union[str, Path], shard_size: int = 2000) -> int:
    """Write Docs to one `.spacy` file, or to a folder of shards if the path has no suffix.

    A folder is read back one shard at a time, so memory does not grow with the corpus.

    Args:
        docs (Iterable[Doc]): The documents.
        path (Union[str, Path]): A `.spacy` file or a folder. Written beside and then renamed.
        shard_size (int): Documents in a shard.

    Returns:
        int: How many Docs were written.
    """
    with replacing_docs(path) as partial:
        return save_docs(docs, partial, None if Path(path).suffix == ".spacy" else shard_size)


def replacing_docs(path: Union[str, Path]) -> ContextManager[Path]:
    """Replace a `.spacy` file, or a folder of them: see `replacing`."""
    return replacing(path, "" if Path(path).suffix == ".spacy" else "*.spacy")


def save_docs(docs: Iterable[Doc], path: Path, shard_size: Optional[int]) -> int:
    """Write Docs to a new folder of shards, or to one file if the size of shards is None. Returns how many."""
    if shard_size is not None:
        path.mkdir()
    total = shard = 0
    docbin = DocBin()
    for doc in docs:
        if shard_size is not None and len(docbin) >= shard_size:
            docbin.to_disk(path / f"{shard:05d}.spacy")
            docbin, shard = DocBin(), shard + 1
        docbin.add(doc)
        total += 1
    docbin.to_disk(path if shard_size is None else path / f"{shard:05d}.spacy")
    return total


def docbin_files(path: Union[str, Path]) -> List[Path]:
    """The `.spacy` files at a path: the file itself, or those in the folder, sorted.

    Raises:
        UserError: There is none.
    """
    path = Path(path)
    files = sorted(path.glob("**/*.spacy")) if path.is_dir() else [path] if path.exists() else []
    if not files:
        raise UserError(f"{path}: no .spacy file there; make one with `mtl convert`")
    return files


def load_docbin(path: Union[str, Path]) -> DocBin:
    """Read one `.spacy` file without unpacking its Docs.

    Raises:
        UserError: The file is damaged.
    """
    try:
        return DocBin().from_disk(path)
    except Exception as error:  # zlib, msgpack or KeyError, depending on where a truncated file ends
        raise UserError(f"{path}: not a readable .spacy file ({type(error).__name__}: {error}); convert it again") from error


def read_docs(path: Union[str, Path], vocab: Vocab) -> Iterator[Doc]:
    """Stream the Docs of a `.spacy` file or a folder of them."""
    for file in docbin_files(path):
        docbin = load_docbin(file)
        try:
            yield from docbin.get_docs(vocab)
        except (KeyError, ValueError, IndexError, TypeError) as error:  # strings or arrays that are missing
            raise UserError(f"{file}: not a readable .spacy file ({str(error)[:100]}); convert it again") from error
