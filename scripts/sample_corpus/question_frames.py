# ruff: noqa: E501, RUF100 - one sentence frame per line
"""Frames of questions: for each kind several wordings (slots as in frames.py)."""

from __future__ import annotations

from sample_corpus.frames import frames

QUESTIONS: dict[str, list[str]] = {
    "cause": frames("""
What {was|turned out to be} the cause of the {event|report}?
What did the troubleshooting identify as the cause?
"""),
    "ruled": frames("""
What was {ruled out|excluded} as the cause?
What was suspected but not confirmed?
"""),
    "loc": frames("""
Where {was|on the aircraft was} the cause found?
At which position was the cause found?
"""),
    "fixpart": frames("""
{Which|What} part was worked on to cure the defect?
To which part was the repair applied?
"""),
    "fix": frames("""
What was done to the $FPN to {cure the defect|clear the entry}?
How did the mechanics deal with the $FPN to cure the defect?
"""),
    "fixref": frames("""
{Which|What} reference was used for the repair?
Under which reference was the repair made?
"""),
    "notice": frames("""
What {symptom|problem} was reported?
What was the complaint about?
"""),
    "phase": frames("""
When was the symptom {first |}noticed?
When did the problem occur?
"""),
    "hist": frames("""
{Which|What} earlier defect is mentioned?
What had been found on an earlier occasion?
"""),
}
