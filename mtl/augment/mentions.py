"""Entities for entities of the same type, from the training documents or a gazetteer."""

import json
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple

from spacy.language import Language
from spacy.tokens import Doc

from mtl.augment.augmenter import SECTION, Augmenter, check_kinds
from mtl.augment.rewrite import Edit, kind_of, rewritten
from mtl.data.docs import gold_questions, read_docs
from mtl.errors import UserError, check_range

Mention = Tuple[str, ...]  # its tokens, each with the white space that follows


def mention_augmenter(
    source: Optional[str] = None, gazetteer: Optional[str] = None, level: float = 0.3, share: float = 0.5,
    keep: List[str] = ["entities"], seed: int = 0,
) -> "Mentions":  # fmt: skip
    """`mtl.MentionAugmenter.v1`: see `Mentions`."""
    return Mentions(source, gazetteer, level, share, keep, seed)


class Mentions(Augmenter):
    """Replaces entities by others of their type (Dai and Adel 2020, https://arxiv.org/abs/2010.11683).

    source (str): documents whose entities are put in, a `.spacy` file or folder. gazetteer (str): JSON Lines with "label" and
    "pattern", as spaCy's entity ruler has them; or both. share (float): of the entities of a document, how many are replaced;
    one at least. keep (list): the kinds of annotation that hold with other entities: categories, say, where they do not
    depend on which part had failed. An entity that a question names is not replaced where questions are kept, nor one in which
    another kept span begins or ends.
    RAISES (UserError): neither source nor gazetteer, or one of them is broken or holds no entity.
    """

    def __init__(
        self, source: Optional[str], gazetteer: Optional[str], level: float, share: float, keep: List[str], seed: int
    ) -> None:
        super().__init__(level, seed)
        check_range(f"{SECTION} share", share, 0.0, 1.0)
        check_kinds(keep)
        if source is None and gazetteer is None:
            raise UserError(f"{SECTION} mtl.MentionAugmenter.v1 needs entities: set source, gazetteer, or both")
        self.source, self.gazetteer, self.share, self.keep = source, gazetteer, share, keep
        self.listed = read_gazetteer(Path(gazetteer)) if gazetteer is not None else []
        self._known: Dict[str, List[Mention]] = {}

    def known(self, nlp: Language) -> Dict[str, List[Mention]]:
        """The mentions of each type, each once."""
        if not self._known:
            found: Dict[str, Set[Mention]] = {}
            for reference in read_docs(self.source, nlp.vocab) if self.source is not None else ():
                for ent in (one for one in reference.ents if not any(token.is_space for token in one)):
                    found.setdefault(ent.label_, set()).add(tuple(token.text_with_ws for token in ent))
            for label, text in self.listed:
                found.setdefault(label, set()).add(tuple(token.text_with_ws for token in nlp.make_doc(text)))
            if not found:
                raise UserError(f"{SECTION} source {self.source}: no entity in it")
            self._known = {label: sorted(mentions) for label, mentions in found.items()}
        return self._known

    def changed(self, nlp: Language, reference: Doc) -> Optional[Doc]:
        known = self.known(nlp)
        asked = " ".join(gold_questions(reference).values()).lower() if "questions" in self.keep else ""
        bounds = {
            i
            for key, group in reference.spans.items()
            if kind_of(key, group) in self.keep
            for span in group
            for i in (span.start, span.end)
        }
        ents = [
            ent for ent in reference.ents
            if ent.label_ in known and ent.text.lower() not in asked and bounds.isdisjoint(range(ent.start + 1, ent.end))
        ]  # fmt: skip
        edits = [
            Edit(ents[i].start, ents[i].end, self.chance.choice(known[ents[i].label_]))
            for i in self.some(list(range(len(ents))), self.share)
        ]
        return rewritten(reference, edits, self.keep) if edits else None


def read_gazetteer(path: Path) -> List[Tuple[str, str]]:
    """(label, text) of each line. RAISES (UserError): the file is missing, or a line is not of that form."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{SECTION} gazetteer {path}: cannot be read ({error})") from error
    found = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                row = json.loads(line)
                label, pattern = row["label"], row["pattern"]
            except (ValueError, KeyError, TypeError):
                label = pattern = None
            if not (isinstance(label, str) and isinstance(pattern, str) and pattern.strip()):
                raise UserError(f'{path}, line {number}: not of the form {{"label": "PART", "pattern": "air cycle machine"}}')
            found.append((label, " ".join(pattern.split())))
    if not found:
        raise UserError(f"{SECTION} gazetteer {path}: no entity in it")
    return found
