"""The tagging task: gold in `token.tag_` or `token.pos_`; a token without value is not annotated."""

from typing import Any, ClassVar, Dict, List, Sequence, Set, Tuple

from spacy.tokens import Doc, Token

from mtl.registry import Change, ProbeItem, Score, Task

ATTRIBUTES = ("TAG", "POS")


class TaggerTask(Task):
    """A tag for each token.

    Args:
        attr (str): "TAG" for `token.tag_`, "POS" for `token.pos_`.
    """

    name = "tagger"
    factory = "mtl_tagger"
    order = 40
    survives = frozenset({Change.SYNONYMS, Change.NOISE, Change.SAME_LABEL})
    titles: ClassVar[Dict[str, str]] = {"TAG": "tags", "POS": "parts of speech"}

    def __init__(self, attr: str = "TAG") -> None:
        self.attr = attr
        self.title = self.titles[attr]  # type: ignore[misc]
        self.scores = (Score(f"{attr.lower()}_acc", f"{self.title}: accuracy"),)
        self.headlines = (f"{attr.lower()}_acc",)

    @classmethod
    def defaults(cls) -> Sequence["TaggerTask"]:
        return tuple(cls(attr) for attr in ATTRIBUTES)

    @classmethod
    def from_settings(cls, settings: Dict[str, Any]) -> "TaggerTask":
        return cls(settings.get("attr", "TAG"))

    def is_annotated(self, doc: Doc) -> bool:
        return doc.has_annotation(self.attr)

    def label_of(self, token: Token) -> str:
        """The token's tag, "" if it has none."""
        return token.tag_ if self.attr == "TAG" else token.pos_

    def labels(self, doc: Doc) -> Set[str]:
        return {tag for token in doc if (tag := self.label_of(token))}

    def signature(self, doc: Doc) -> Tuple[str, ...]:
        return (doc.to_array([self.attr]).tobytes().hex(),)

    def token_label(self, token: Token) -> Tuple[str, ...]:
        label = self.label_of(token)
        return (label,) if label else ()

    def transfer(self, doc: Doc, new: Doc, moved: Any) -> None:
        if doc.has_annotation(self.attr):
            for token, origin in zip(new, moved.origins):
                if origin >= 0:
                    setattr(token, "tag" if self.attr == "TAG" else "pos", getattr(doc[origin], self.attr.lower()))

    def usage(self, component: str) -> str:
        return f"[token.{self.attr.lower()}_ for token in doc]"

    def show(self, doc: Doc, component: str) -> List[str]:
        return [" ".join(f"{token.text}/{self.label_of(token)}" for token in doc if self.label_of(token))]

    def show_gold(self, doc: Doc) -> List[str]:
        return self.show(doc, self.name)

    def probe_items(self, doc: Doc) -> List[ProbeItem]:
        return [ProbeItem(None, [self.label_of(token) for token in doc])]
