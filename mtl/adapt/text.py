"""Raw text files as a stream of documents, whatever their size."""

from glob import glob
from pathlib import Path
from typing import Iterator, List, Sequence

from mtl.data.records import parse_json, stream_lines
from mtl.errors import UserError

KINDS = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet", ".spacy")


def read_documents(paths: Sequence[str]) -> List[str]:
    """All of `stream_documents`, in memory. RAISES (UserError): as there; no text."""
    documents = list(stream_documents(text_files(paths)))
    if not documents:
        raise UserError(f"{', '.join(map(str, paths))}: no text found")
    return documents


def text_files(paths: Sequence[str]) -> List[Path]:
    """The files that files, folders and patterns (`corpus/*.txt.gz`) name, each once.

    RAISES (UserError): there is none, or one of another kind is named itself.
    """
    files = [file for path in paths for file in _files(path)]
    return list(dict.fromkeys(files))


def _files(path: str) -> List[Path]:
    if Path(path).is_dir():
        files = sorted(file for file in Path(path).rglob("*") if _kind(file))
        if not files:
            raise UserError(f"{path}: no {', '.join(KINDS)} file in the folder")
        return files
    if not Path(path).exists():
        files = sorted(Path(file) for file in glob(str(path), recursive=True) if _kind(Path(file)))
        if not files:
            raise UserError(f"{path}: no such file" + (" of a kind that is read" if glob(str(path)) else ""))
        return files
    if not _kind(Path(path)):
        raise UserError(f"{path}: text is read from {', '.join(KINDS)}, not from {Path(path).suffix!r}")
    return [Path(path)]


def _kind(file: Path) -> str:
    return next((kind for kind in KINDS if file.name.endswith(kind) and file.is_file()), "")


def stream_documents(files: Sequence[Path]) -> Iterator[str]:
    """The documents of text files that are not blank, one after another.

    .txt: a blank line between documents; .jsonl: the key "text"; both also gzipped. .parquet: the column "text". .spacy: DocBin.
    RAISES (UserError): a file is missing or broken, with the line.
    """
    for file in files:
        yield from (text for text in _read(file) if text.strip())


def _read(path: Path) -> Iterator[str]:
    kind = _kind(path)
    if kind == ".spacy":
        import spacy

        from mtl.data.docs import read_docs

        yield from (doc.text for doc in read_docs(path, spacy.blank("xx").vocab))
    elif kind == ".parquet":
        yield from _parquet(path)
    elif kind.startswith(".jsonl"):
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


def _parquet(path: Path) -> Iterator[str]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            if "text" not in file.schema_arrow.names:
                raise UserError(f'{path}: the column "text" is missing; there are {", ".join(file.schema_arrow.names)}')
            for batch in file.iter_batches(1000, columns=["text"]):
                yield from (text for text in batch.column("text").to_pylist() if isinstance(text, str))
    except (ArrowException, OSError) as error:
        raise UserError(f"{path}: the Parquet file is broken ({str(error).splitlines()[0]}); copy it again") from error


def _text_of(line: str, where: str) -> str:
    try:
        text = parse_json(line, where)["text"]
    except (KeyError, TypeError):
        raise UserError(f'{where}: the key "text" is missing') from None
    if not isinstance(text, str):
        raise UserError(f'{where}: "text" is no string')
    return text
