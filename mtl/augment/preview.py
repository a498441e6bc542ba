"""Pairs of a document before and after its augmentation, as a person reads them."""

from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training.augment import dont_augment
from spacy.util import dot_to_object, load_config, load_model_from_config, registry
from thinc.api import Config

from mtl.augment.rewrite import kinds_of
from mtl.errors import UserError

MOST_READ = 5000  # documents, to find so many pairs among
AROUND, LONGEST = 12, 60  # tokens: shown before the first change, and in all

Pair = Tuple[Doc, Doc]


def preview(config: Path, overrides: Dict[str, Any], count: int) -> Iterator[Pair]:
    """The first documents of the config's training corpus that its augmenter changes, each with what becomes of it.

    RAISES (UserError): there is no such config, or it has no augmenter.
    """
    if not config.is_file():
        raise UserError(f"{config}: no such file; a training config is needed")
    loaded = load_config(config, overrides=overrides, interpolate=True)
    nlp = _tokenizer_of(loaded)
    name = loaded["training"]["train_corpus"]
    corpus = registry.resolve({"corpus": dot_to_object(loaded, name)})["corpus"]
    augmenter = getattr(corpus, "augmenter", dont_augment)
    if augmenter is dont_augment:
        raise UserError(f'{config}: [{name}.augmenter] is not set; give it, for example, @augmenters = "mtl.NoiseAugmenter.v1"')
    corpus.augmenter = dont_augment
    found = (
        (example.reference, changed.reference)
        for example in islice(corpus(nlp), MOST_READ) for changed in augmenter(nlp, example) if changed is not example
    )  # fmt: skip
    return islice(found, count)


def _tokenizer_of(config: Config) -> Language:
    """A pipeline without components, for its tokenizer."""
    bare = config.copy()
    bare["nlp"]["pipeline"], bare["components"] = [], {}
    return load_model_from_config(bare, auto_fill=True)


def pair_lines(before: Doc, after: Doc) -> List[str]:
    """Both, with the words that differ in «», entities as [text|LABEL], and what the second is annotated for."""
    old, new = [token.text for token in before], [token.text for token in after]
    changes = [step for step in SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if step[0] != "equal"]
    first = min((step[1] for step in changes), default=0), min((step[3] for step in changes), default=0)
    differs = {i for step in changes for i in range(step[1], step[2])}, {i for step in changes for i in range(step[3], step[4])}
    return [
        f"before  {_shown(before, differs[0], max(0, first[0] - AROUND))}",
        f"after   {_shown(after, differs[1], max(0, first[1] - AROUND))}",
        f"        holds: {', '.join(sorted(kinds_of(after))) or 'no annotation'}",
    ]


def _shown(doc: Doc, differs: set, start: int) -> str:
    begins = {ent.start: ent for ent in doc.ents}
    ends = {ent.end: ent for ent in doc.ents}
    parts = ["... "] if start else []
    stop = min(len(doc), start + LONGEST)
    for i in range(start, stop):
        token = doc[i]
        bounded = ("[" if i in begins else "") + (f"«{token.text}»" if i in differs else token.text)
        parts.append(bounded + (f"|{ends[i + 1].label_}]" if i + 1 in ends else "") + token.whitespace_)
    return " ".join(("".join(parts) + (" ..." if stop < len(doc) else "")).split())
