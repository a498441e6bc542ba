"""Gold entities as constraints on tags. NumPy and Docs."""

from typing import List, Tuple

import numpy as np
from spacy.attrs import ENT_IOB
from spacy.tokens import Doc
from spacy.training import Example

from mtl.data.docs import widened_span
from mtl.tasks.ner.offsets import gold_entities, off_tokens


def allowed_tags(example: Example, labels: List[str], tokens: np.ndarray) -> np.ndarray:
    """Which tags the gold annotation allows at tokens of the predicted Doc.

    All tags are allowed where nothing is annotated, where a gold entity does not fit the predicted tokens, and where its label is
    unknown (none is guessed).

    Args:
        example (Example): The predicted Doc, and the reference with the gold entities.
        labels (List[str]): The entity types.
        tokens (np.ndarray): Indices of the predicted Doc's tokens that have vectors.

    Returns:
        np.ndarray: Shape (tokens, tags), bool.
    """
    predicted, reference = example.predicted, example.reference
    entities, missing = _entities(predicted, reference)
    step = np.full(len(predicted) + 1, -1)
    step[tokens] = np.arange(len(tokens))
    allowed = np.zeros((len(tokens), 1 + 2 * len(labels)), dtype=bool)
    allowed[:, 0] = True
    index = {label: i for i, label in enumerate(labels)}
    free = missing[tokens]
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
    for after, inside in closed:  # an annotated entity does not continue, even if the next token is not annotated
        if after < len(allowed) and free[after]:
            allowed[after, inside] = False
    return allowed


def _entities(predicted: Doc, reference: Doc) -> Tuple[List[Tuple[int, int, str]], np.ndarray]:
    """Gold entities in tokens of `predicted` (first, after the last, label), and which of its tokens are not annotated."""
    missing = np.zeros(len(predicted), dtype=bool)
    entities = []
    for start, end in unannotated(reference):
        _cover(missing, predicted, start, end)
    for start, end, label in gold_entities(reference):
        span = predicted.char_span(start, end)
        if span is None:
            _cover(missing, predicted, start, end)
        else:
            entities.append((span.start, span.end, label))
    return entities, missing


def unannotated(reference: Doc) -> List[Tuple[int, int]]:
    """The characters of the tokens of which nothing is known: without IOB value, and in no entity that is off tokens."""
    known = off_tokens(reference)
    tokens = [reference[int(i)] for i in np.flatnonzero(reference.to_array(ENT_IOB) == 0)]
    places = ((token.idx, token.idx + len(token)) for token in tokens)
    return [(start, end) for start, end in places if not any(first < end and start < last for first, last, _ in known)]


def _cover(missing: np.ndarray, doc: Doc, start: int, end: int) -> None:
    """Mark the tokens that share characters with `start` to `end`."""
    span = widened_span(doc, start, end)
    missing[span.start : span.end] = True
