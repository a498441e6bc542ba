"""Records to spaCy Docs, laid out as the heads read them, and to DocBin files that stream from disk."""

import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Union

from spacy.language import Language
from spacy.tokens import Doc, DocBin, Span, SpanGroup
from spacy.vocab import Vocab

from mtl.data.conll import read_conll
from mtl.data.jsonl import read_jsonl
from mtl.data.pubtator import read_pubtator
from mtl.data.records import Answer, Entity, Question, Record, Report, read_text
from mtl.data.squad import read_squad
from mtl.errors import UserError, check_choice
from mtl.files import replacing

Reader = Callable[[str, Report], Iterator[Record]]

READERS: Dict[str, Reader] = {
    "jsonl": read_jsonl,
    "squad": read_squad,
    "pubtator": read_pubtator,
    "conll": read_conll,
}
REPAIR_DISTANCE = 48  # characters on each side in which an answer's text is looked for


def read_records(path: Union[str, Path], report: Report, format: str = "auto") -> Iterator[Record]:
    """Read a labelled file in the named format, or in the one its first lines show."""
    check_choice("--format", format, ("auto", *READERS))
    reader = READERS[guess_format(path) if format == "auto" else format]
    return reader(str(path), report)


def guess_format(path: Union[str, Path]) -> str:
    """The format by content, since names mislead (JSON Lines is often named .json).

    RAISES (UserError): none fits.
    """
    text = read_text(path).lstrip()
    first = text.split("\n", 1)[0]
    if text.startswith("{"):
        try:
            row = json.loads(first)
        except json.JSONDecodeError:
            return "squad"  # one object over several lines
        return "squad" if isinstance(row.get("data"), list) else "jsonl"
    if first.count("|") >= 2 and first.split("|")[1] in ("t", "a"):
        return "pubtator"
    if first.startswith("-DOCSTART-") or (len(first.split()) >= 2 and first.split()[-1][:2] in {"O", "B-", "I-", "S-", "U-"}):
        return "conll"
    raise UserError(f"{path}: the format is not recognised; name it with --format ({', '.join(READERS)})")


def record_to_doc(record: Record, nlp: Language, report: Report) -> Doc:
    """Build the Doc: `cats`, `ents` (missing where a mention does not fit the tokens), `spans["qa"]`."""
    doc = nlp.make_doc(record.text)
    report.count("documents")
    if record.cats is not None:
        doc.cats = record.cats
        report.count("documents with categories")
    if record.entities is not None:
        _set_entities(doc, record, record.entities, report)
        report.count("documents with entities")
    if record.number is not None:
        set_gold_number(doc, record.number)
        report.count("documents with a score")
    if record.questions is not None:
        _set_questions(doc, record, record.questions, report)
        report.count("documents with questions")
    return doc


def gold_questions(doc: Doc) -> Dict[str, str]:
    """The questions that the Doc is annotated for, by id."""
    return dict(doc.spans["qa"].attrs.get("questions", {})) if "qa" in doc.spans else {}


def bare_doc(doc: Doc, vocab: Vocab) -> Doc:
    """The same tokens, and nothing else."""
    return Doc(vocab, words=[token.text for token in doc], spaces=[bool(token.whitespace_) for token in doc])


def gold_number(doc: Doc, key: str = "score") -> Optional[float]:
    """The number that the Doc is annotated with, None where it has none."""
    return doc.spans[key].attrs.get("value") if key in doc.spans else None


def set_gold_number(doc: Doc, value: float, key: str = "score") -> None:
    """Annotate the Doc with a number: `doc.spans[key].attrs["value"]`, which a DocBin keeps."""
    doc.spans[key] = SpanGroup(doc, name=key, attrs={"value": float(value)})


def widened_span(doc: Doc, start: int, end: int, **kwargs: Any) -> Span:
    """The characters' span, widened to whole tokens. RAISES (ValueError): there are no such characters."""
    span = doc.char_span(start, end, alignment_mode="expand", **kwargs)
    if span is None:
        raise ValueError(f"no token at characters {start}:{end} of {len(doc.text)}")
    return span


def _set_entities(doc: Doc, record: Record, entities: List[Entity], report: Report) -> None:
    spans: List[Span] = []
    missing: List[Span] = []
    taken: set = set()
    for entity in sorted(entities, key=lambda e: (e.start, -e.end)):
        if not 0 <= entity.start < entity.end <= len(doc.text):
            raise UserError(
                f"{record.where}: entity {entity.label} at {entity.start}:{entity.end} lies outside the text of "
                f"{len(doc.text)} characters"
            )
        mention = doc.text[entity.start : entity.end]
        if mention != mention.strip() and mention.strip():
            report.note("entities trimmed of white space", f"{record.where}: {entity.label} {mention!r}")
            start = entity.start + len(mention) - len(mention.lstrip())
            entity, mention = Entity(start, start + len(mention.strip()), entity.label), mention.strip()
        span = doc.char_span(entity.start, entity.end, label=entity.label)
        if span is None:
            outer = widened_span(doc, entity.start, entity.end)
            report.note(
                "entities off token boundaries, tokens left unannotated",
                f"{record.where}: {entity.label} {mention!r} is part of the token(s) {outer.text!r}",
            )
            if taken.isdisjoint(range(outer.start, outer.end)):
                missing.append(outer)
                taken.update(range(outer.start, outer.end))
        elif taken.isdisjoint(range(span.start, span.end)):
            spans.append(span)
            taken.update(range(span.start, span.end))
        else:
            report.note("entities overlapping another, left out", f"{record.where}: {entity.label} {span.text!r} overlaps")
    report.count("entities", len(spans))
    doc.set_ents(spans, missing=missing, default="outside")


def _set_questions(doc: Doc, record: Record, questions: List[Question], report: Report) -> None:
    texts: Dict[str, str] = {}
    answers: Dict[str, List[str]] = {}
    spans: List[Span] = []
    for question in questions:
        if not question.text.strip():
            raise UserError(f"{record.where}: question {question.id!r} is empty")
        if question.id in texts:
            raise UserError(f"{record.where}: the question id {question.id!r} is used twice")
        found = [place for answer in question.answers if (place := _place(doc.text, answer, record, report)) is not None]
        if question.answers and not found:
            report.count("questions left out, no answer of theirs is in the text")
            continue
        texts[question.id] = question.text
        answers[question.id] = [doc.text[start:end] for start, end in found]
        report.count("questions" if found else "questions without an answer")
        for start, end in found:
            span = widened_span(doc, start, end, label="answer", span_id=question.id)
            if (span.start_char, span.end_char) != (start, end):
                report.count("answers widened to whole tokens")
            spans.append(span)
    doc.spans["qa"] = SpanGroup(doc, name="qa", spans=spans, attrs={"questions": texts, "answers": answers})


def _place(text: str, answer: Answer, record: Record, report: Report) -> Optional[tuple]:
    """Where the answer really is: its own offset, or the nearest place within `REPAIR_DISTANCE`."""
    size = len(answer.text)
    if size and text[answer.start : answer.start + size] == answer.text:
        return answer.start, answer.start + size
    low = max(0, answer.start - REPAIR_DISTANCE)
    window = text[low : answer.start + size + REPAIR_DISTANCE]
    starts = [low + i for i in range(len(window)) if size and window.startswith(answer.text, i)]
    if starts:
        start = min(starts, key=lambda s: abs(s - answer.start))
        report.note(
            "answer offsets repaired",
            f"{record.where}: answer {answer.text[:60]!r} is at {start}, not at {answer.start}: repaired",
        )
        return start, start + size
    report.note(
        "answers left out, their text is not near the offset",
        f"{record.where}: answer {answer.text[:60]!r} is not at {answer.start}, where the text is "
        f"{text[answer.start : answer.start + min(size, 60)]!r}: left out",
    )
    return None


def write_docs(docs: Iterable[Doc], path: Union[str, Path], shard_size: int = 2000) -> int:
    """Write Docs to one `.spacy` file, or into a folder of shards where the path has no suffix.

    A folder is read back one shard at a time, so memory does not grow with the corpus. Written beside, then renamed.
    RETURNS (int): how many Docs were written.
    """
    path = Path(path)
    single = path.suffix == ".spacy"
    total = shard = 0
    docbin = DocBin()
    with replacing(path, "" if single else "*.spacy") as partial:
        if not single:
            partial.mkdir()
        for doc in docs:
            if not single and len(docbin) >= shard_size:
                docbin.to_disk(partial / f"{shard:05d}.spacy")
                docbin, shard = DocBin(), shard + 1
            docbin.add(doc)
            total += 1
        docbin.to_disk(partial if single else partial / f"{shard:05d}.spacy")
    return total


def docbin_files(path: Union[str, Path]) -> List[Path]:
    """The `.spacy` files at a path: the file itself, or those in the folder, sorted.

    RAISES (UserError): there is none.
    """
    path = Path(path)
    files = sorted(path.glob("**/*.spacy")) if path.is_dir() else [path] if path.exists() else []
    if not files:
        raise UserError(f"{path}: no .spacy file there; make one with `mtl convert`")
    return files


def load_docbin(path: Union[str, Path]) -> DocBin:
    """One `.spacy` file, still packed. RAISES (UserError): the file is broken."""
    try:
        return DocBin().from_disk(path)
    except Exception as error:  # zlib, msgpack and KeyError: whatever a truncated file makes of itself
        raise UserError(f"{path}: not a readable .spacy file ({type(error).__name__}: {error}); convert it again") from error


def read_docs(path: Union[str, Path], vocab: Vocab) -> Iterator[Doc]:
    """Stream the Docs of a `.spacy` file or a folder of them."""
    for file in docbin_files(path):
        yield from load_docbin(file).get_docs(vocab)
