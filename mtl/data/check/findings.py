"""What a check has found: for a person, for programs, and as a page."""

import html
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Sequence

ERROR, WARNING, NOTE = "error", "warning", "note"
LEVELS = (ERROR, WARNING, NOTE)
MAX_PLACES = 5  # of a finding that are listed
MAX_TEXT = 300  # characters of a document that are shown


@dataclass
class Place:
    """Where something was found.

    Args:
        where (str): File and line, and what is there.
        text (str): The document's text.
    """

    where: str
    text: str = ""


@dataclass
class Finding:
    """One thing that is wrong.

    Args:
        level (str): "error" (scores would be wrong, or training fails), "warning" or "note".
        kind (str): What kind it is, for programs.
        message (str): What, and how often.
        todo (str): What to do.
        places (List[str]): Where, the first few.
        texts (List[str]): The beginnings of the documents there.
        count (int): How often.
    """

    level: str
    kind: str
    message: str
    todo: str = ""
    places: List[str] = field(default_factory=list)
    texts: List[str] = field(default_factory=list)
    count: int = 1


def found_at(level: str, kind: str, what: str, todo: str, places: Sequence[Place]) -> Iterator[Finding]:
    """A finding with its first places; none if there are no places."""
    if places:
        first = places[:MAX_PLACES]
        texts = [place.text[:MAX_TEXT] for place in first]
        yield Finding(level, kind, f"{len(places):,} {what}", todo, [place.where for place in first], texts, len(places))


def check_lines(result: Dict[str, Any]) -> Iterator[str]:
    """The result of `check_data` as lines for a person."""
    yield "documents: " + ", ".join(f"{split} {count:,}" for split, count in result["documents"].items())
    for title, counts in result["annotated"].items():
        yield f"  {title}: " + ", ".join(f"{split} {count:,}" for split, count in counts.items())
    for finding in result["findings"]:
        yield f"{finding['level']}: {finding['message']}" + (f". {_sentence(finding['todo'])}" if finding["todo"] else "")
        yield from (f"    {place}" for place in finding["places"])
        if finding["count"] > len(finding["places"]) > 0:
            yield f"    ... and {finding['count'] - len(finding['places']):,} more"


def worst(result: Dict[str, Any]) -> str:
    """The level of the worst finding; "" if there is none."""
    levels = {finding["level"] for finding in result["findings"]}
    return next((level for level in LEVELS if level in levels), "")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def check_page(result: Dict[str, Any]) -> str:
    """The result of `check_data` as an HTML page that needs no other file."""
    counts = "".join(
        f"<tr><td>{html.escape(title)}</td>" + "".join(f"<td>{by_split.get(split, 0):,}</td>" for split in result["documents"])
        + "</tr>"
        for title, by_split in {"documents": result["documents"], **result["annotated"]}.items()
    )  # fmt: skip
    heads = "".join(f"<th>{html.escape(split)}</th>" for split in result["documents"])
    findings = "".join(map(_finding_html, result["findings"])) or "<p>Nothing found.</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>mtl check</title>'
        f"<style>{STYLE}</style></head><body><h1>mtl check</h1>"
        f"<table><tr><th></th>{heads}</tr>{counts}</table>{findings}</body></html>\n"
    )


STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
td,th{padding:.1rem .8rem;text-align:right}td:first-child{text-align:left}
section{border-left:4px solid #999;padding:.1rem 1rem;margin:1rem 0}.error{border-color:#c00}.warning{border-color:#d80}
blockquote{margin:.2rem 0 .8rem 1rem;color:#555;white-space:pre-wrap}code{font-size:.85rem}
"""


def _finding_html(finding: Dict[str, Any]) -> str:
    places = "".join(
        f"<div><code>{html.escape(place)}</code><blockquote>{html.escape(text)}</blockquote></div>"
        for place, text in zip(finding["places"], finding["texts"])
    )
    more = finding["count"] - len(finding["places"])
    rest = f"<p>… and {more:,} more</p>" if finding["places"] and more > 0 else ""
    todo = f" {html.escape(_sentence(finding['todo']))}." if finding["todo"] else ""
    return (
        f'<section class="{finding["level"]}"><p><b>{finding["level"]}</b>: {html.escape(finding["message"])}.{todo}</p>'
        f"{places}{rest}</section>"
    )
