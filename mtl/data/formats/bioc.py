"""BioC, as JSON and as XML: documents of passages with annotations, whose offsets count from the start of the document."""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple
from xml.etree import ElementTree

from mtl.data.formats.source import Source
from mtl.data.records import Entity, Record, Report, read_text
from mtl.errors import UserError

Passage = Dict[str, Any]  # "offset", "text", "annotations", as in BioC JSON


def is_bioc_json(source: Source) -> bool:
    """Whether the first object has BioC's documents."""
    return any(
        (isinstance(row.get("documents"), list) and any("passages" in one for one in row["documents"] if isinstance(one, dict)))
        or isinstance(row.get("passages"), list)
        for row in source.first_objects
    )  # fmt: skip


def bioc_records(row: Any, where: str, report: Report) -> Iterator[Record]:
    """The documents of a BioC collection, or of one document.

    Raises:
        UserError: A key is missing, or a mention is not at its offsets.
    """
    documents = row.get("documents", [row]) if isinstance(row, dict) else []
    for number, document in enumerate(documents, start=1):
        place = f"{where}, document {document.get('id', number)}" if isinstance(document, dict) else where
        try:
            passages = document["passages"]
            yield _record([(passage["offset"], passage) for passage in passages], place, report)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{place}: not in the shape of BioC ({type(error).__name__}: {error})") from None


def is_bioc_xml(source: Source) -> bool:
    """Whether the file is XML with BioC's root."""
    return source.kind == "text" and source.first_line.startswith("<") and "<collection" in read_text(source.path)[:4000]


def read_bioc_xml(source: Source, report: Report) -> Iterator[Record]:
    """Read a BioC XML file.

    Raises:
        UserError: It is no XML, or a part is missing.
    """
    path = Path(source.path)
    try:
        root = ElementTree.fromstring(read_text(path))
    except ElementTree.ParseError as error:
        raise UserError(f"{path}: not valid XML ({error})") from None
    for number, document in enumerate(root.iter("document"), start=1):
        where = f"{path}, document {document.findtext('id') or number}"
        try:
            passages = [_xml_passage(passage) for passage in document.iter("passage")]
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: not in the shape of BioC ({error})") from None
        yield _record([(passage["offset"], passage) for passage in passages], where, report)


def _xml_passage(element: ElementTree.Element) -> Passage:
    annotations = [
        {
            "infons": {infon.get("key"): infon.text for infon in annotation.iter("infon")},
            "text": annotation.findtext("text"),
            "locations": [
                {"offset": int(place.get("offset", "")), "length": int(place.get("length", ""))}
                for place in annotation.iter("location")
            ],
        }
        for annotation in element.iter("annotation")
    ]
    return {"offset": int(element.findtext("offset") or 0), "text": element.findtext("text") or "", "annotations": annotations}


def _record(passages: List[Tuple[int, Passage]], where: str, report: Report) -> Record:
    text = ""
    entities: List[Entity] = []
    for offset, passage in sorted(passages, key=lambda part: part[0]):
        text = text.ljust(offset) if len(text) <= offset else text
        base = offset - len(text)  # below 0 only if offsets count other units than characters
        text += passage.get("text") or ""
        if passage.get("relations"):
            report.count("relations left out", len(passage["relations"]))
        for annotation in passage.get("annotations", ()):
            if not annotation["locations"]:
                report.count("annotations without a place left out")
                continue
            entities.append(_entity(annotation, text, base, where, report))
    return Record(text, where, entities=entities)


def _entity(annotation: Dict[str, Any], text: str, base: int, where: str, report: Report) -> Entity:
    places = [(place["offset"] - base, place["offset"] + place["length"] - base) for place in annotation["locations"]]
    start, end = min(place[0] for place in places), max(place[1] for place in places)
    if len(places) > 1:
        report.count("discontinuous mentions, read from their first to their last character")
    elif annotation.get("text") not in (None, text[start:end]):
        raise UserError(f"{where}: the mention is {annotation['text']!r}, but the text at {start}:{end} is {text[start:end]!r}")
    infons = annotation.get("infons") or {}
    return Entity(start, end, str(infons.get("type") or infons.get("label") or "ENTITY"))
