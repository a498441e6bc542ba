"""BioC, as JSON and as XML: documents of passages with annotations, whose offsets count from the start of the document."""

from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple
from xml.etree import ElementTree

from mtl.data.formats.mentions import place_mention
from mtl.data.formats.reading import Reading
from mtl.data.formats.source import Source
from mtl.data.records import Entity, Record, Report
from mtl.errors import UserError

LARGEST_GAP = 10_000  # characters between passages
COLLECTIONS = ("documents", "PubTator3")  # keys of a collection's documents
Passage = Dict[str, Any]  # "offset", "text", "annotations", as in BioC JSON


def is_bioc_json(source: Source) -> bool:
    """Whether the first object has BioC's documents."""
    return any(
        isinstance(row.get("passages"), list)
        or any(isinstance(one, dict) and "passages" in one for key in COLLECTIONS for one in _list(row.get(key)))
        for row in source.first_objects
    )


def _list(value: Any) -> List[Any]:
    return value if isinstance(value, list) else []


def read_bioc_json(source: Source, report: Report) -> Iterator[Record]:
    """Read BioC JSON: collections, or documents by row; PubTator 3 calls the documents "PubTator3".

    Raises:
        UserError: A key is missing, or a mention is not at its offsets.
    """
    for where, row in source.rows():
        documents = next((row[key] for key in COLLECTIONS if key in row), [row]) if isinstance(row, dict) else []
        for number, document in enumerate(documents or (), start=1):
            place = f"{where}, document {document.get('id', number)}" if isinstance(document, dict) else where
            try:
                parts = [part for passage in document["passages"] for part in passage.get("sentences") or [passage]]
                passages = [(part["offset"], part) for part in parts]
                yield _record(passages, place, report, source.reading)
            except (KeyError, TypeError, AttributeError) as error:
                raise UserError(f"{place}: not in the shape of BioC ({type(error).__name__}: {error})") from None


def is_bioc_xml(source: Source) -> bool:
    """Whether the file is XML with BioC's root."""
    return source.kind == "text" and source.first_line.startswith("<") and "<collection" in source.text[:4000]


def read_bioc_xml(source: Source, report: Report) -> Iterator[Record]:
    """Read a BioC XML file.

    Raises:
        UserError: It is no XML, or a part is missing.
    """
    path = Path(source.path)
    try:
        root = ElementTree.fromstring(source.text)
    except ElementTree.ParseError as error:
        raise UserError(f"{path}: not valid XML ({error})") from None
    for number, document in enumerate(root.iter("document"), start=1):
        where = f"{path}, document {document.findtext('id') or number}"
        try:
            passages = [
                _xml_passage(part) for passage in document.iter("passage") for part in passage.findall("sentence") or [passage]
            ]
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: not in the shape of BioC ({error})") from None
        yield _record([(passage["offset"], passage) for passage in passages], where, report, source.reading)


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


def _record(passages: List[Tuple[int, Passage]], where: str, report: Report, reading: Reading) -> Record:
    text = ""
    entities: List[Entity] = []
    for offset, passage in sorted(passages, key=lambda part: part[0]):
        if type(offset) is not int or offset - len(text) > LARGEST_GAP:
            raise UserError(f"{where}: a passage at {str(offset)[:20]}, and the text before it has {len(text):,} characters")
        text = text.ljust(offset) if len(text) <= offset else text
        base = offset - len(text)  # below 0 only if offsets count other units than characters
        text += passage.get("text") or ""
        if passage.get("relations"):
            report.count("relations left out", len(passage["relations"]))
        for annotation in passage.get("annotations", ()):
            if not annotation["locations"]:
                report.count("annotations without a place left out")
                continue
            entity = _entity(annotation, text, base, where, report, reading)
            entities += [] if entity is None else [entity]
    return Record(text, where, entities=entities)


def _entity(annotation: Dict[str, Any], text: str, base: int, where: str, report: Report, reading: Reading) -> Optional[Entity]:
    infons = annotation.get("infons") or {}
    label = str(infons.get("type") or infons.get("label") or "ENTITY")
    places = [(place["offset"] - base, place["offset"] + place["length"] - base) for place in annotation["locations"]]
    start, end = min(place[0] for place in places), max(place[1] for place in places)
    if len(places) > 1:
        report.count("discontinuous mentions, read from their first to their last character")
        return Entity(start, end, label)
    place = place_mention(text, start, end, annotation.get("text"), where, report, reading)
    return None if place is None else Entity(*place, label)
