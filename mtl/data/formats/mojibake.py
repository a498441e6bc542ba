"""Texts that were decoded in a wrong encoding, such as "cafÃ©" for "café", decoded anew (ftfy) with their annotation in place."""

from itertools import pairwise
from typing import Dict, List

import ftfy

from mtl.data.records import GoldAnswer, Record, Report


def decoded_anew(record: Record, report: Report) -> Record:
    """The record with its text as it was meant. Each part between two edges of annotations is decoded by itself.

    Args:
        record (Record): A document, which is changed.
        report (Report): Notes the texts that were changed.
    """
    answers: List[GoldAnswer] = [answer for question in record.questions or () for answer in question.answers]
    edges = {0, len(record.text)}
    edges |= {edge for entity in record.entities or () for edge in (entity.start, entity.end)}
    edges |= {edge for answer in answers for edge in (answer.start, answer.start + len(answer.text))}
    ordered = sorted(edge for edge in edges if 0 <= edge <= len(record.text))
    places: Dict[int, int] = {0: 0}
    text = ""
    for start, end in pairwise(ordered):
        text += ftfy.fix_encoding(record.text[start:end])
        places[end] = len(text)
    if text == record.text:
        return record
    report.note("texts decoded anew", f"{record.where}: {record.text[:40]!r} -> {text[:40]!r}")
    for entity in record.entities or ():
        entity.start, entity.end = places.get(entity.start, entity.start), places.get(entity.end, entity.end)
    for answer in answers:
        ends = answer.start, answer.start + len(answer.text)
        if all(edge in places for edge in ends):
            answer.start, answer.text = places[ends[0]], text[places[ends[0]] : places[ends[1]]]
    record.text = text
    return record
