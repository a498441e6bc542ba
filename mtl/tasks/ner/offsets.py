"""Gold entities whose edges lie inside tokens, kept as characters: another tokenizer may fit them, and scores count them.

`doc.spans["entities_off_tokens"]` is an empty group whose attrs hold "offsets", a list of [start, end, label].
"""

from collections import Counter
from typing import Dict, Iterable, List, Sequence, Set, Tuple

from spacy.tokens import Doc, SpanGroup

from mtl.data.docs import without_edge_space

OFF_TOKENS = "entities_off_tokens"  # key of doc.spans
LEAST_SHARE = 0.02  # of the entities off tokens that a character has to mend to be worth a split

Offsets = Tuple[int, int, str]  # first character, character after the last, label


def set_off_tokens(doc: Doc, entities: Sequence[Offsets]) -> None:
    """Keep entities that `doc.ents` cannot hold."""
    if entities:
        doc.spans[OFF_TOKENS] = SpanGroup(doc, name=OFF_TOKENS, attrs={"offsets": [list(entity) for entity in entities]})


def off_tokens(doc: Doc) -> List[Offsets]:
    """The entities that `doc.ents` cannot hold."""
    if OFF_TOKENS not in doc.spans:
        return []
    return [(start, end, label) for start, end, label in doc.spans[OFF_TOKENS].attrs.get("offsets", [])]


def gold_entities(doc: Doc) -> List[Offsets]:
    """All gold entities of a document, by characters, without white space at their edges."""
    spans = (span for ent in doc.ents if (span := without_edge_space(ent)) is not None)
    return sorted([(span.start_char, span.end_char, span.label_) for span in spans] + off_tokens(doc))


def split_characters(docs: Iterable[Doc]) -> str:
    """The characters at which a tokenizer has to split as well, so that most entities off tokens fit.

    Letters, digits and the full stop, which is in every number, are not among them.
    """
    needs: List[List[Set[str]]] = []  # for each entity, for each of its edges inside a token, the characters that would do
    for doc in filter(off_tokens, docs):
        starts, ends = {token.idx for token in doc}, {token.idx + len(token) for token in doc}
        for start, end, _ in off_tokens(doc):
            edges = [edge for edge, fitting in ((start, starts), (end, ends)) if edge not in fitting]
            needs.append([{c for c in doc.text[edge - 1 : edge + 1] if not c.isalnum() and c not in ". "} for edge in edges])
    chosen: Set[str] = set()
    left = [edges for edges in needs if all(edges)]
    while left:
        mended = Counter(c for edges in left for c in {c for edge in edges for c in edge} - chosen if _fit(edges, chosen | {c}))
        if not mended:  # no single character mends any: those of entities that need two
            mended = Counter(c for edges in left for edge in edges for c in edge - chosen)
        best, count = max(sorted(mended.items()), key=lambda item: item[1])
        if count < max(1, LEAST_SHARE * len(needs)):
            break
        chosen.add(best)
        left = [edges for edges in left if not _fit(edges, chosen)]
    return "".join(sorted(chosen))


def _fit(edges: Sequence[Set[str]], chosen: Set[str]) -> bool:
    return all(edge & chosen for edge in edges)


def character_scores(pairs: Iterable[Tuple[List[Offsets], List[Offsets]]]) -> Dict[str, float]:
    """Precision, recall and F1 of exact characters and label, from predicted and gold entities by document."""
    right = predicted_count = gold_count = 0
    for predicted, gold in pairs:
        right += len(set(predicted) & set(gold))
        predicted_count += len(set(predicted))
        gold_count += len(set(gold))
    precision, recall = right / max(predicted_count, 1), right / max(gold_count, 1)
    return {"p": precision, "r": recall, "f": 2 * precision * recall / max(precision + recall, 1e-12)}
