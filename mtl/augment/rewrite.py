"""A Doc of which some tokens give way to others, with its annotation at the new places."""

from dataclasses import dataclass
from typing import Any, Collection, Dict, Iterable, List, Sequence, Set, Tuple

from spacy.tokens import Doc, Span, SpanGroup

from mtl.data.docs import gold_questions

KINDS = ("categories", "entities", "questions", "score", "tags", "sentences", "dependencies")

OF_TOKENS = {"TAG": ("tags", "tag_"), "POS": ("pos", "pos_"), "LEMMA": ("lemmas", "lemma_"), "MORPH": ("morphs", "morph")}


@dataclass(frozen=True)
class Edit:
    """The tokens from `start` to `end` give way to `words`, which may be none.

    words: each with the white space that follows it; the last one's is that of the last token that it stands for.
    """

    start: int
    end: int
    words: Tuple[str, ...]


def rewritten(doc: Doc, edits: Iterable[Edit], keep: Collection[str] = KINDS) -> Doc:
    """A new Doc. Of the annotation the `keep` kinds are taken over, entities and answers at their new places.

    Tags, lemmas and morphology stay where one token stands for one, sentences and dependencies where that is so everywhere.
    RAISES (ValueError): two edits overlap, or an entity or span begins or ends within one.
    """
    ordered = sorted(edits, key=lambda edit: edit.start)
    words: List[str] = []
    spaces: List[bool] = []
    origin: List[int] = []  # of each new token the old one, -1 where it stands for several or is one of several
    place: Dict[int, int] = {}  # old boundary -> new boundary
    done = 0
    for edit in [*ordered, Edit(len(doc), len(doc), ())]:
        if not done <= edit.start <= edit.end:
            raise ValueError(f"the edit of tokens {edit.start} to {edit.end} overlaps another")
        for i in range(done, edit.start):
            place[i] = len(words)
            words.append(doc[i].text)
            spaces.append(bool(doc[i].whitespace_))
            origin.append(i)
        place[edit.start] = len(words)
        single = len(edit.words) == 1 and edit.end == edit.start + 1
        for word in edit.words:
            words.append(word.rstrip())
            spaces.append(word != word.rstrip())
            origin.append(edit.start if single else -1)
        if edit.words:
            spaces[-1] = bool(doc[edit.end - 1].whitespace_)
        done = edit.end
        place[done] = len(words)
    new = Doc(doc.vocab, words=words, spaces=spaces, **_token_annotation(doc, origin, keep))
    if "categories" in keep:
        new.cats = dict(doc.cats)
    _take_spans(doc, new, place, keep)
    if "entities" in keep and doc.has_annotation("ENT_IOB"):
        unknown = [i for i, token in enumerate(doc) if token.ent_iob == 0]
        missing = [
            Span(new, place[i], place[i + 1]) for i in unknown if i in place and i + 1 in place and place[i] < place[i + 1]
        ]
        kept = [moved for ent in doc.ents if (moved := _moved(ent, new, place)) is not None]
        new.set_ents(kept, missing=missing, default="outside")
    return new


def _token_annotation(doc: Doc, origin: Sequence[int], keep: Collection[str]) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    if "tags" in keep:
        for kind, (setting, attribute) in OF_TOKENS.items():
            if doc.has_annotation(kind):
                found[setting] = [str(getattr(doc[i], attribute)) if i >= 0 else "" for i in origin]
    same = list(origin) == list(range(len(doc)))
    if "dependencies" in keep and same and doc.has_annotation("DEP"):
        return found | {"heads": [token.head.i for token in doc], "deps": [token.dep_ for token in doc]}
    if "sentences" in keep and doc.has_annotation("SENT_START") and same:
        found["sent_starts"] = [token.is_sent_start for token in doc]
    return found


def _take_spans(doc: Doc, new: Doc, place: Dict[int, int], keep: Collection[str]) -> None:
    for key, group in doc.spans.items():
        if kind_of(key, group) not in keep:
            continue
        spans = [moved for span in group if (moved := _moved(span, new, place)) is not None]
        attrs = dict(group.attrs)
        if "answers" in attrs:  # as they were written; where that is not in the text any more, the spans alone say it
            attrs["answers"] = {id: [one for one in texts if one in new.text] for id, texts in attrs["answers"].items()}
        new.spans[key] = SpanGroup(new, name=key, spans=spans, attrs=attrs)


def _moved(span: Span, new: Doc, place: Dict[int, int]) -> Any:
    """The span in the new Doc; None where none of its tokens is left."""
    if span.start not in place or span.end not in place:
        raise ValueError(f"an edit crosses the bounds of {span.text!r}")
    start, end = place[span.start], place[span.end]
    return Span(new, start, end, label=span.label, kb_id=span.kb_id, span_id=span.id) if start < end else None


def kind_of(key: str, group: SpanGroup) -> str:
    """Which of `KINDS` the spans under a key are."""
    return "questions" if key == "qa" else "score" if "value" in group.attrs else "entities"


def kinds_of(doc: Doc) -> Set[str]:
    """What the Doc is annotated for, of `KINDS`."""
    spans = {kind_of(key, group) for key, group in doc.spans.items()}
    found = {
        "categories": bool(doc.cats),
        "entities": doc.has_annotation("ENT_IOB") or "entities" in spans,
        "questions": bool(gold_questions(doc)),
        "score": "score" in spans,
        "tags": any(doc.has_annotation(kind) for kind in OF_TOKENS),
        "sentences": doc.has_annotation("SENT_START"),
        "dependencies": doc.has_annotation("DEP"),
    }
    return {kind for kind, has in found.items() if has}


def free_words(doc: Doc) -> List[int]:
    """The tokens that are words and stand in no entity, answer or other span, nor where entities are not annotated."""
    taken = {i for group in doc.spans.values() for span in group for i in range(span.start, span.end)}
    outside = ("O",) if doc.has_annotation("ENT_IOB") else ("",)
    words = (token for token in doc if token.is_alpha and len(token) > 1)
    return [token.i for token in words if token.i not in taken and token.ent_iob_ in outside]


def like(word: str, model: str) -> str:
    """The word in the case of the model: capitals, a capital first, or as it is."""
    if model.isupper() and len(model) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word
