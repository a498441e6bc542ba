"""How a text's tokens relate to each other in a teacher's encoder, as an auxiliary task: it needs no annotation."""

from typing import Any

from mtl.registry import Task


class RelationsTask(Task):
    """Similarities between the token vectors of a document, taken over from a teacher."""

    name = "relations"
    factory = "mtl_relations"
    title = "token relations"
    order = 95
    is_auxiliary = True
    is_taught = True

    def is_annotated(self, doc: Any) -> bool:
        """Never: there is nothing to learn but what a teacher says."""
        return False
