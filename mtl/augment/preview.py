"""Documents before and after their augmentation, for a person to compare."""

from difflib import SequenceMatcher
from itertools import islice
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training.augment import dont_augment
from spacy.util import dot_to_object, load_config, load_model_from_config, registry
from thinc.api import Config

from mtl.augment.rewrite import annotations_of
from mtl.errors import UserError

MAX_DOCUMENTS = 5000  # read in search of changed ones
CONTEXT_BEFORE = 12  # tokens shown before the first change
MAX_SHOWN_TOKENS = 60

Pair = Tuple[Doc, Doc]


def preview(config: Path, overrides: Dict[str, Any], count: int) -> Iterator[Pair]:
    """The first documents of a config's training corpus that its augmenter changes, before and after.

    Args:
        config (Path): The training config.
        overrides (Dict[str, Any]): Settings that replace those of the config, by dotted name.
        count (int): Most pairs to return.

    Raises:
        UserError: The config does not exist, or it has no augmenter.
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
    pairs = (
        (example.reference, changed.reference)
        for example in islice(corpus(nlp), MAX_DOCUMENTS)
        for changed in augmenter(nlp, example)
        if changed is not example
    )
    return islice(pairs, count)


def _tokenizer_of(config: Config) -> Language:
    """A pipeline without components, for its tokenizer."""
    bare = config.copy()
    bare["nlp"]["pipeline"], bare["components"] = [], {}
    return load_model_from_config(bare, auto_fill=True)


def pair_lines(before: Doc, after: Doc) -> List[str]:
    """A pair as lines of text: words that differ in «», entities as [text|LABEL], and the annotation of the second document.

    Args:
        before (Doc): The document.
        after (Doc): What the augmenter returned for it.
    """
    old, new = [token.text for token in before], [token.text for token in after]
    changes = [code for code in SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if code[0] != "equal"]
    starts = min((code[1] for code in changes), default=0), min((code[3] for code in changes), default=0)
    old_tokens = {i for code in changes for i in range(code[1], code[2])}
    new_tokens = {i for code in changes for i in range(code[3], code[4])}
    return [
        f"before  {_marked_text(before, old_tokens, max(0, starts[0] - CONTEXT_BEFORE))}",
        f"after   {_marked_text(after, new_tokens, max(0, starts[1] - CONTEXT_BEFORE))}",
        f"        annotation: {', '.join(sorted(annotations_of(after))) or 'none'}",
    ]


def _marked_text(doc: Doc, changed: Set[int], start: int) -> str:
    """The text from a token on, with changed tokens and entities marked."""
    by_start = {ent.start: ent for ent in doc.ents}
    by_end = {ent.end: ent for ent in doc.ents}
    parts = ["... "] if start else []
    stop = min(len(doc), start + MAX_SHOWN_TOKENS)
    for i in range(start, stop):
        token = doc[i]
        word = ("[" if i in by_start else "") + (f"«{token.text}»" if i in changed else token.text)
        parts.append(word + (f"|{by_end[i + 1].label_}]" if i + 1 in by_end else "") + token.whitespace_)
    return " ".join(("".join(parts) + (" ..." if stop < len(doc) else "")).split())
