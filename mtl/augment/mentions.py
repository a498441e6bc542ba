"""Entities replaced by others of the same type, from the training documents or a gazetteer."""

import json
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Set, Tuple

from spacy.language import Language
from spacy.tokens import Doc, Span

from mtl.augment.augmenter import SECTION, Augmenter, check_keep
from mtl.augment.rewrite import SPANS, Edit, prompts_of, rewritten, surviving
from mtl.data.docs import read_docs
from mtl.errors import UserError, check_range
from mtl.registry import Change, registered_tasks

Mention = Tuple[str, ...]  # its tokens, each with the white space after it


def mention_augmenter(
    source: Optional[str] = None, gazetteer: Optional[str] = None, level: float = 0.3, fraction: float = 0.5,
    keep: Optional[List[str]] = None, seed: int = 0,
) -> "MentionAugmenter":  # fmt: skip
    """Augmenter `mtl.MentionAugmenter.v1`: replaces entities by others of the same type.

    Mention replacement (Dai and Adel 2020, https://arxiv.org/abs/2010.11683). An entity that a question names is not replaced if
    questions are kept, nor is one in which another kept span starts or ends.

    Args:
        source (Optional[str]): The documents from which entities are taken, a `.spacy` file or a folder of them.
        gazetteer (Optional[str]): JSON Lines with "label" and "pattern", in the format of spaCy's entity ruler. At least one of
            `source` and `gazetteer` is needed.
        level (float): Fraction of the documents that are changed.
        fraction (float): Fraction of the entities that are replaced, at least one in a changed document.
        keep (Optional[List[str]]): The kinds of annotation that are valid with other entities: names of tasks, "spans",
            "lemmas", "sentences" or "dependencies". By default those that the tasks say survive. Add the task of the
            categories, for instance, if they do not depend on which part failed.
        seed (int): The same documents in the same order are changed in the same way.

    Raises:
        UserError: There is neither source nor gazetteer, one of them is damaged or has no entity, or a setting is out of range.
    """
    return MentionAugmenter(source, gazetteer, level, fraction, keep, seed)


class MentionAugmenter(Augmenter):
    """See `mention_augmenter`, which has the same arguments."""

    stream = "Mentions"

    def __init__(
        self, source: Optional[str], gazetteer: Optional[str], level: float, fraction: float, keep: Optional[List[str]], seed: int
    ) -> None:
        super().__init__(level, seed)
        check_range(f"{SECTION} fraction", fraction, 0.0, 1.0)
        self.keep = surviving(Change.MENTIONS) if keep is None else frozenset(keep)
        check_keep(self.keep)
        if source is None and gazetteer is None:
            raise UserError(f"{SECTION} mtl.MentionAugmenter.v1 needs entities: set source, gazetteer, or both")
        self.source, self.gazetteer, self.fraction = source, gazetteer, fraction
        self.gazetteer_entries = read_gazetteer(Path(gazetteer)) if gazetteer is not None else []
        self._mentions: Dict[str, List[Mention]] = {}

    def mentions(self, nlp: Language) -> Dict[str, List[Mention]]:
        """The distinct mentions of each type."""
        if not self._mentions:
            mentions: Dict[str, Set[Mention]] = {}
            for reference in read_docs(self.source, nlp.vocab) if self.source is not None else ():
                for ent in reference.ents:
                    if not any(token.is_space for token in ent):
                        mentions.setdefault(ent.label_, set()).add(tuple(token.text_with_ws for token in ent))
            for label, text in self.gazetteer_entries:
                mentions.setdefault(label, set()).add(tuple(token.text_with_ws for token in nlp.make_doc(text)))
            if not mentions:
                raise UserError(f"{SECTION} source {self.source}: no entity in it")
            self._mentions = {label: sorted(of_type) for label, of_type in mentions.items()}
        return self._mentions

    def changed(self, nlp: Language, reference: Doc) -> Optional[Doc]:
        mentions = self.mentions(nlp)
        prompts = " ".join(prompts_of(reference, self.keep)).lower()
        bounds = {i for span in self._kept_spans(reference) for i in (span.start, span.end)}
        ents = [
            ent for ent in reference.ents
            if ent.label_ in mentions and ent.text.lower() not in prompts and bounds.isdisjoint(range(ent.start + 1, ent.end))
        ]  # fmt: skip
        edits = [
            Edit(ents[i].start, ents[i].end, self.rng.choice(mentions[ents[i].label_]))
            for i in self.sample(list(range(len(ents))), self.fraction)
        ]
        return rewritten(reference, edits, self.keep) if edits else None

    def _kept_spans(self, reference: Doc) -> Iterator[Span]:
        """The spans in span groups whose annotation is kept."""
        owners = {key: task.name for task in registered_tasks() for key in task.span_keys(reference)}
        for key, group in reference.spans.items():
            if owners.get(key, SPANS) in self.keep:
                yield from group


def read_gazetteer(path: Path) -> List[Tuple[str, str]]:
    """Read a gazetteer as (label, text) of each line.

    Args:
        path (Path): JSON Lines with "label" and "pattern".

    Raises:
        UserError: The file is missing or empty, or a line has another form.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{SECTION} gazetteer {path}: cannot be read ({error})") from error
    entries = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                row = json.loads(line)
                label, pattern = row["label"], row["pattern"]
            except (ValueError, KeyError, TypeError):
                label = pattern = None
            if not (isinstance(label, str) and isinstance(pattern, str) and pattern.strip()):
                raise UserError(f'{path}, line {number}: not of the form {{"label": "PART", "pattern": "air cycle machine"}}')
            entries.append((label, " ".join(pattern.split())))
    if not entries:
        raise UserError(f"{SECTION} gazetteer {path}: no entity in it")
    return entries
