"""Raw text files as a stream of documents, however large they are."""

from glob import glob
from pathlib import Path
from typing import Iterator, List, Sequence

from mtl.data.text_files import parse_json, stream_lines
from mtl.errors import UserError

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet", ".spacy")


def read_documents(paths: Sequence[str]) -> List[str]:
    """Read all documents into memory.

    Args:
        paths (Sequence[str]): Files, folders and patterns, as for `text_files`.

    Raises:
        UserError: There is no text, or a file is missing or damaged.
    """
    documents = list(stream_documents(text_files(paths)))
    if not documents:
        raise UserError(f"{', '.join(map(str, paths))}: no text found")
    return documents


def text_files(paths: Sequence[str]) -> List[Path]:
    """Find the files that paths stand for, each once.

    Args:
        paths (Sequence[str]): Files, folders and patterns (`corpus/*.txt.gz`).

    Raises:
        UserError: There is no such file, or a file of another type is named.
    """
    files = [file for path in paths for file in _files(path)]
    return list(dict.fromkeys(files))


def _files(path: str) -> List[Path]:
    if Path(path).is_dir():
        files = sorted(file for file in Path(path).rglob("*") if _suffix(file))
        if not files:
            raise UserError(f"{path}: no {', '.join(SUFFIXES)} file in the folder")
        return files
    if not Path(path).exists():
        files = sorted(Path(file) for file in glob(str(path), recursive=True) if _suffix(Path(file)))
        if not files:
            raise UserError(f"{path}: no such file" + (" of a type that can be read" if glob(str(path)) else ""))
        return files
    if not _suffix(Path(path)):
        raise UserError(f"{path}: text is read from {', '.join(SUFFIXES)}, not from {Path(path).suffix!r}")
    return [Path(path)]


def _suffix(file: Path) -> str:
    """The file's suffix if it can be read, else an empty string."""
    return next((suffix for suffix in SUFFIXES if file.name.endswith(suffix) and file.is_file()), "")


def stream_documents(files: Sequence[Path]) -> Iterator[str]:
    """Stream the documents of text files, without blank ones.

    .txt: blank lines separate documents; .jsonl: the key "text"; both also gzipped. .parquet: the column "text". .spacy: DocBin.

    Raises:
        UserError: A file is missing or damaged; the message names the line.
    """
    for file in files:
        yield from (text for text in _read(file) if text.strip())


def _read(path: Path) -> Iterator[str]:
    suffix = _suffix(path)
    if suffix == ".spacy":
        import spacy

        from mtl.data.docs import read_docs

        yield from (doc.text for doc in read_docs(path, spacy.blank("xx").vocab))
    elif suffix == ".parquet":
        yield from _parquet_texts(path)
    elif suffix.startswith(".jsonl"):
        for number, line in stream_lines(path):
            if line.strip():
                yield _text_of(line, f"{path}, line {number}")
    else:
        paragraphs: List[str] = []
        for _, line in stream_lines(path):
            if line.strip():
                paragraphs.append(line)
            elif paragraphs:
                yield "\n".join(paragraphs)
                paragraphs = []
        yield "\n".join(paragraphs)


def _parquet_texts(path: Path) -> Iterator[str]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            if "text" not in file.schema_arrow.names:
                raise UserError(f'{path}: the column "text" is missing; there are {", ".join(file.schema_arrow.names)}')
            for batch in file.iter_batches(1000, columns=["text"]):
                yield from (text for text in batch.column("text").to_pylist() if isinstance(text, str))
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: the Parquet file is damaged ({str(error).splitlines()[0]}); copy it again") from error


def _text_of(line: str, where: str) -> str:
    try:
        text = parse_json(line, where)["text"]
    except (KeyError, TypeError):
        raise UserError(f'{where}: the key "text" is missing') from None
    if not isinstance(text, str):
        raise UserError(f'{where}: "text" is not a string')
    return text
