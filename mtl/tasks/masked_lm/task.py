"""Masked language modelling as an auxiliary task: it needs no annotation."""

from typing import Any, Dict, Optional, Set

from spacy.tokens import Doc

from mtl.registry import Task, registered_tasks

SPACY_ANNOTATION = ("DEP",)  # what other components than registered tasks may learn from


class MaskedLMTask(Task):
    """Words of the text itself, hidden and predicted.

    Args:
        documents (str): What it learns from: "all" documents, or "unlabelled", those that no other task is annotated in.
    """

    name = "masked_lm"
    factory = "mtl_masked_lm"
    title = "masked words"
    order = 90
    is_auxiliary = True

    def __init__(self, documents: str = "all") -> None:
        self.documents = documents

    @classmethod
    def from_settings(cls, settings: Dict[str, Any]) -> "MaskedLMTask":
        return cls(settings.get("documents", "all"))

    @classmethod
    def initialize_settings(cls, encoder: str) -> Dict[str, Any]:
        return {"name": encoder}

    def is_annotated(self, doc: Doc) -> bool:
        return self.documents == "all" or not is_labelled(doc)

    def encodings(self, doc: Doc) -> Set[Optional[str]]:
        """None of its own: it is encoded with masks beside whatever the other tasks ask for."""
        return set()


def is_labelled(doc: Doc) -> bool:
    """Whether any other task, or a component of spaCy's, can learn from the document."""
    others = (task for task in registered_tasks() if not task.is_auxiliary)
    return bool(doc.spans) or any(task.is_annotated(doc) for task in others) or any(map(doc.has_annotation, SPACY_ANNOTATION))
