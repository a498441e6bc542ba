"""Gold entities as constraints on tags. NumPy and Docs."""

from typing import List, Tuple

import numpy as np
from spacy.attrs import ENT_IOB
from spacy.tokens import Doc
from spacy.training import Example

from mtl.data.docs import widened_span


def allowed_tags(example: Example, labels: List[str], kept: np.ndarray) -> np.ndarray:
    """Which tags the gold annotation allows at the kept tokens of `example.predicted`: (kept, tags) bool.

    kept: indices of the predicted Doc's tokens that have vectors. All tags are allowed where nothing is annotated, where a
    gold entity does not fit the predicted tokens, and where its label is unknown (none is guessed).
    """
    predicted, reference = example.predicted, example.reference
    entities, missing = _entities(predicted, reference)
    step = np.full(len(predicted) + 1, -1)
    step[kept] = np.arange(len(kept))
    allowed = np.zeros((len(kept), 1 + 2 * len(labels)), dtype=bool)
    allowed[:, 0] = True
    index = {label: i for i, label in enumerate(labels)}
    free = missing[kept]
    closed: List[Tuple[int, int]] = []  # step after an entity, its I tag
    for start, end, label in entities:
        steps = step[start:end][step[start:end] >= 0]
        if label not in index:
            free[steps] = True
        elif len(steps):
            begin = 1 + 2 * index[label]
            allowed[steps] = False
            allowed[steps[0], begin] = True
            allowed[steps[1:], begin + 1] = True
            closed.append((steps[-1] + 1, begin + 1))
    allowed[free] = True
    for after, inside in closed:  # an annotated entity ends where it ends, also before a token that is not annotated
        if after < len(allowed) and free[after]:
            allowed[after, inside] = False
    return allowed


def _entities(predicted: Doc, reference: Doc) -> Tuple[List[Tuple[int, int, str]], np.ndarray]:
    """Gold entities as tokens of `predicted`, and which of its tokens are not annotated."""
    missing = np.zeros(len(predicted), dtype=bool)
    found = []
    for token in np.flatnonzero(reference.to_array(ENT_IOB) == 0):
        start = reference[int(token)].idx
        _cover(missing, predicted, start, start + len(reference[int(token)]))
    for ent in reference.ents:
        span = predicted.char_span(ent.start_char, ent.end_char)
        if span is None:
            _cover(missing, predicted, ent.start_char, ent.end_char)
        else:
            found.append((span.start, span.end, ent.label_))
    return found, missing


def _cover(missing: np.ndarray, doc: Doc, start: int, end: int) -> None:
    span = widened_span(doc, start, end)
    missing[span.start : span.end] = True
