"""A Doc in which some tokens are replaced, with its annotation at the new positions."""

from dataclasses import dataclass
from typing import Any, Collection, Dict, FrozenSet, Iterable, List, Optional, Sequence, Set, Tuple

from spacy.tokens import Doc, Span, SpanGroup

from mtl.data.docs import GROUP
from mtl.registry import Change, Moved, Task, registered_tasks

SPANS, LEMMAS, SENTENCES, DEPENDENCIES = "spans", "lemmas", "sentences", "dependencies"  # annotation of no registered task
NO_TASK = frozenset({SPANS, LEMMAS, SENTENCES, DEPENDENCIES})
NO_TASK_SURVIVES = {
    Change.SYNONYMS: NO_TASK,
    Change.NOISE: NO_TASK,
    Change.MENTIONS: frozenset({SPANS}),  # no entity is replaced in which one starts or ends
    Change.LIKELY_WORDS: frozenset({SPANS}),  # no word in one is replaced
}
LEMMA_ATTRIBUTES = {"LEMMA": ("lemma_", "lemmas"), "MORPH": ("morph", "morphs")}


@dataclass(frozen=True)
class Edit:
    """Replaces the tokens from `start` to `end` by `words`, which may be empty.

    Args:
        start (int): First token.
        end (int): The token after the last.
        words (Tuple[str, ...]): Each with the white space after it. The last one gets that of the last token it replaces.
    """

    start: int
    end: int
    words: Tuple[str, ...]


class Moves(Moved):
    """Where the tokens of a document went.

    Args:
        origins (Sequence[int]): For each new token the old one it stands for, or -1.
        boundaries (Dict[int, int]): Old token boundary -> new token boundary.
    """

    def __init__(self, origins: Sequence[int], boundaries: Dict[int, int]) -> None:
        self._origins, self.boundaries = origins, boundaries

    @property
    def origins(self) -> Sequence[int]:
        return self._origins

    def span(self, span: Span, doc: Doc) -> Optional[Span]:
        """The span in the new document; None if none of its tokens is left.

        Raises:
            ValueError: An edit crosses its bounds.
        """
        if span.start not in self.boundaries or span.end not in self.boundaries:
            raise ValueError(f"an edit crosses the bounds of {span.text!r}")
        start, end = self.boundaries[span.start], self.boundaries[span.end]
        return Span(doc, start, end, label=span.label, kb_id=span.kb_id, span_id=span.id) if start < end else None


def annotation_names() -> FrozenSet[str]:
    """Every kind of annotation that a rewritten document can keep: the names of the tasks, and what spaCy has beside them."""
    return frozenset({task.name for task in registered_tasks() if not task.is_auxiliary}) | NO_TASK


def surviving(change: Change) -> FrozenSet[str]:
    """The kinds of annotation that are still valid after a change of the text."""
    names = {task.name for task in registered_tasks() if change in task.survives}
    return frozenset(names) | NO_TASK_SURVIVES.get(change, frozenset())


def rewritten(doc: Doc, edits: Iterable[Edit], keep: Optional[Collection[str]] = None) -> Doc:
    """A new Doc with the edits made.

    Spans are kept at their new positions; what belongs to a token is kept where one token stands for one; sentences and
    dependencies are kept if that is so everywhere.

    Args:
        doc (Doc): The document.
        edits (Iterable[Edit]): They may not overlap.
        keep (Optional[Collection[str]]): The kinds of annotation to keep, of `annotation_names`; by default all.

    Raises:
        ValueError: Two edits overlap, or a kept span starts or ends inside one.
    """
    keep = annotation_names() if keep is None else keep
    words, spaces, moves = _apply(doc, edits)
    new = Doc(doc.vocab, words=words, spaces=spaces, **_syntax(doc, moves.origins, keep))
    claimed: Set[str] = set()
    for task in registered_tasks():
        claimed |= task.span_keys(doc)
        if task.name in keep:
            task.transfer(doc, new, moves)
    for key, group in doc.spans.items():
        if SPANS in keep and key not in claimed:
            spans = [moved for span in group if (moved := moves.span(span, new)) is not None]
            new.spans[key] = SpanGroup(new, name=key, spans=spans, attrs=dict(group.attrs))
    return new


def _apply(doc: Doc, edits: Iterable[Edit]) -> Tuple[List[str], List[bool], Moves]:
    """The new words and spaces, and where the tokens went."""
    words: List[str] = []
    spaces: List[bool] = []
    origins: List[int] = []
    boundaries: Dict[int, int] = {}
    done = 0
    for edit in [*sorted(edits, key=lambda edit: edit.start), Edit(len(doc), len(doc), ())]:
        if not done <= edit.start <= edit.end:
            raise ValueError(f"the edit of tokens {edit.start} to {edit.end} overlaps another")
        for i in range(done, edit.start):
            boundaries[i] = len(words)
            words.append(doc[i].text)
            spaces.append(bool(doc[i].whitespace_))
            origins.append(i)
        boundaries[edit.start] = len(words)
        one_for_one = len(edit.words) == 1 and edit.end == edit.start + 1
        for word in edit.words:
            words.append(word.rstrip())
            spaces.append(word != word.rstrip())
            origins.append(edit.start if one_for_one else -1)
        if edit.words:
            spaces[-1] = bool(doc[edit.end - 1].whitespace_)
        done = edit.end
        boundaries[done] = len(words)
    return words, spaces, Moves(origins, boundaries)


def _syntax(doc: Doc, origins: Sequence[int], keep: Collection[str]) -> Dict[str, Any]:
    """Lemmas, morphology, sentences and dependencies, as the constructor of Doc takes them."""
    arguments: Dict[str, Any] = {}
    if LEMMAS in keep:
        for kind, (attribute, argument) in LEMMA_ATTRIBUTES.items():
            if doc.has_annotation(kind):
                arguments[argument] = [str(getattr(doc[i], attribute)) if i >= 0 else "" for i in origins]
    unchanged = list(origins) == list(range(len(doc)))
    if DEPENDENCIES in keep and unchanged and doc.has_annotation("DEP"):
        return arguments | {"heads": [token.head.i for token in doc], "deps": [token.dep_ for token in doc]}
    if SENTENCES in keep and doc.has_annotation("SENT_START") and unchanged:
        arguments["sent_starts"] = [token.is_sent_start for token in doc]
    return arguments


def annotations_of(doc: Doc) -> Set[str]:
    """The kinds of annotation that the document carries, of `annotation_names`."""
    tasks = [task for task in registered_tasks() if not task.is_auxiliary]
    names = {task.name for task in tasks if task.is_annotated(doc)}
    claimed = {key for task in tasks for key in task.span_keys(doc)}
    others = {
        SPANS: bool(set(doc.spans) - claimed - {GROUP}),
        LEMMAS: any(doc.has_annotation(kind) for kind in LEMMA_ATTRIBUTES),
        SENTENCES: doc.has_annotation("SENT_START"),
        DEPENDENCIES: doc.has_annotation("DEP"),
    }
    return names | {name for name, present in others.items() if present}


def prompts_of(doc: Doc, keep: Collection[str]) -> List[str]:
    """The prompts, such as questions, of the kept kinds of annotation."""
    tasks: List[Task] = [task for task in registered_tasks() if task.name in keep]
    return sorted({prompt for task in tasks for prompt in task.encodings(doc) if prompt is not None})


def free_words(doc: Doc) -> List[int]:
    """The tokens that are words, outside of all entities and other spans, and not where entities are left unannotated."""
    taken = {i for group in doc.spans.values() for span in group for i in range(span.start, span.end)}
    outside = ("O",) if doc.has_annotation("ENT_IOB") else ("",)
    words = (token for token in doc if token.is_alpha and len(token) > 1)
    return [token.i for token in words if token.i not in taken and token.ent_iob_ in outside]


def in_case_of(word: str, model: str) -> str:
    """The word in the letter case of the model: capitals, an initial capital, or as it is."""
    if model.isupper() and len(model) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if model[:1].isupper() else word
