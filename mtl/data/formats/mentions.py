"""Where a mention is, when a file says both its text and its offsets, which may count other units than characters."""

from typing import Callable, Dict, Optional, Tuple

from mtl.data.formats.reading import Reading
from mtl.data.records import Report
from mtl.errors import UserError

NEARBY = 48  # characters around its offsets in which a mention is looked for
UTF16 = "UTF-16 units"


def place_mention(
    text: str, start: int, end: int, mention: Optional[str], where: str, report: Report, reading: Reading
) -> Optional[Tuple[int, int]]:
    """The characters of a mention.

    Args:
        text (str): The document's.
        start (int): Where the file says that it begins.
        end (int): Where the file says that it ends.
        mention (Optional[str]): Its text as the file has it; None if the file does not say. White space may differ.
        where (str): File and line, for messages.
        report (Report): Counts what was repaired and left out.
        reading (Reading): With "offsets" in `repair`, a mention that is elsewhere is looked for.

    Returns:
        Optional[Tuple[int, int]]: First character, and the one after the last; None if it was looked for and not found.

    Raises:
        UserError: The mention is not there, and shall not be looked for.
    """
    if mention is None or _same(text[start:end], mention):
        return start, end
    described = f"{where}: the mention is {mention!r}, but the text at {start}:{end} is {text[start:end]!r}"
    if "offsets" not in reading.repair:
        raise UserError(f"{described}. Correct it, or let it be looked for: --repair offsets")
    for unit, converted in UNITS.items():
        place = converted(text, start), converted(text, end)
        if _same(text[slice(*place)], mention):
            report.note(f"mentions with offsets in {unit}, converted", described)
            return place
    begin = max(0, start - NEARBY)
    found = _occurrences(text[begin : end + NEARBY], mention)
    if not found:
        report.note("mentions left out because they are not near their offsets", described)
        return None
    nearest = min((begin + place for place in found), key=lambda place: abs(place - start))
    report.note("mentions found near their offsets", f"{described}; found at {nearest}")
    return nearest, nearest + len(mention)


def _same(part: str, mention: str) -> bool:
    return part == mention or (part.split() == mention.split() != [])


def _occurrences(text: str, mention: str) -> Tuple[int, ...]:
    return tuple(i for i in range(len(text)) if mention and text.startswith(mention, i))


def characters_of_utf16(text: str, units: int) -> int:
    """The character at which so many UTF-16 units of the text have passed."""
    return _characters(text, 2 * units, "utf-16-le", 2)


def characters_of_bytes(text: str, units: int) -> int:
    """The character at which so many bytes of the text in UTF-8 have passed."""
    return _characters(text, units, "utf-8", 1)


def _characters(text: str, size: int, encoding: str, unit: int) -> int:
    encoded = text.encode(encoding)
    beyond = max(0, size - len(encoded)) // unit  # stays beyond the text, where it is an error
    return len(encoded[:size].decode(encoding, errors="ignore")) + beyond


UNITS: Dict[str, Callable[[str, int], int]] = {UTF16: characters_of_utf16, "bytes": characters_of_bytes}
