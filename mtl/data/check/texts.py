"""The texts of labelled data: what is in two splits, repeated, damaged, or of another kind."""

import re
from collections import Counter, defaultdict
from typing import Callable, Dict, Iterable, Iterator, List, Sequence, Set, Tuple

from ftfy.badness import is_bad

from mtl.data.check.facts import Item
from mtl.data.check.findings import ERROR, NOTE, WARNING, Finding, Place, found_at
from mtl.data.duplicates import NearDuplicates, normalized
from mtl.progress import CountProgress

TRAIN = "train"
TINY, HUGE = 3, 5000  # words
ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ufeff]")  # control characters, and what could not be decoded
SIMILARITY = 0.8  # from which texts are nearly the same
COMPARED = 2000  # documents of a split whose words are compared with those of another
LEAST_COMPARED = 50  # documents, below which words say little
OTHER_WORDS = 0.05  # share of words that another split lacks, beyond twice what is usual, from which texts are of another kind


def text_findings(items: Sequence[Item]) -> Iterator[Finding]:
    """Empty, tiny and huge documents, and characters that hardly are meant."""
    kinds: List[Tuple[str, str, Callable[[str], bool], str, str]] = [
        (ERROR, "empty", lambda text: not text.strip(), "documents are empty", "remove them"),
        (NOTE, "tiny", lambda text: 0 < len(text.split()) < TINY, f"documents have fewer than {TINY} words",
         "see if they are complete"),
        (WARNING, "huge", lambda text: len(text.split()) > HUGE, f"documents have more than {HUGE:,} words",
         "cut them where they have sections: a batch holds at least one document"),
        (WARNING, "odd characters", lambda text: ODD.search(text) is not None or is_bad(text),
         "documents have control characters, or such as come from a wrong encoding (Ã©, â€)",
         "save the source as UTF-8, or mtl convert --repair text"),
    ]  # fmt: skip
    for level, kind, applies, what, todo in kinds:
        yield from found_at(level, kind, what, todo, [Place(item.where, item.text) for item in items if applies(item.text)])


def shared_texts(items: Sequence[Item]) -> Iterator[Finding]:
    """Texts that are in two splits, of whatever tasks, for a shared encoder sees all of them; and repeated ones."""
    by_text: Dict[str, List[Item]] = defaultdict(list)
    by_group: Dict[str, List[Item]] = defaultdict(list)
    for item in items:
        by_text[normalized(item.text)].append(item)
        by_group[item.group].append(item)
    by_text.pop("", None)
    by_group.pop("", None)
    todo = "remove them from the training data, or split again: mtl split"
    same = [place for group in by_text.values() for place in _across_splits(group, "the same text as")]
    yield from found_at(ERROR, "same text in two splits", "documents have the text of one in another split", todo, same)
    torn = [place for name, group in by_group.items() for place in _across_splits(group, f"of the group {name!r}, as")]
    yield from found_at(
        ERROR, "group in two splits", "documents are of a group that is in another split", "split by groups", torn
    )
    what = f"documents share {SIMILARITY:.0%} of their 5-word sequences with one of another split"
    near = [Place(f"{item.where}: nearly the same as {others[0].where}", item.text) for item, others in near_pairs(by_text)]
    yield from found_at(WARNING, "nearly the same text in two splits", what, todo, near)
    again = [
        Place(f"{item.where}: the same text and annotation as {earlier.where}", item.text)
        for item, earlier in repeated(by_text.values())
    ]
    yield from found_at(
        NOTE, "repeated", "documents repeat one of the same split", "they count twice; remove what is not meant", again
    )


def _across_splits(group: Sequence[Item], how: str) -> List[Place]:
    first = min(group, key=lambda item: item.split != TRAIN)
    return [Place(f"{item.where}: {how} {first.where}", item.text) for item in group if item.split != first.split]


def near_pairs(by_text: Dict[str, List[Item]]) -> Iterator[Tuple[Item, List[Item]]]:
    """Documents with those of other splits that they are nearly the same as, but not the same. Training documents are with none:
    each pair is that of the other document.
    """
    if len({item.split for group in by_text.values() for item in group}) < 2:
        return
    finder = NearDuplicates(SIMILARITY)
    known: List[Item] = []
    ordered = sorted(by_text.values(), key=lambda group: min(item.split != TRAIN for item in group))
    with CountProgress("comparing texts", "documents", len(ordered)) as progress:
        for group in progress.over(ordered):
            first = min(group, key=lambda item: item.split != TRAIN)
            others = [known[number] for number in finder.add(first.text)]
            others = [other for other in others if other.split != first.split]
            known.append(first)
            if others:
                yield first, others


def repeated(groups: Iterable[Sequence[Item]]) -> Iterator[Tuple[Item, Item]]:
    """Documents that say again what an earlier one of the same split with the same text says."""
    for group in groups:
        seen: Dict[Tuple[str, str, str, int], Item] = {}
        for item in group if len(group) > 1 else ():
            said = [
                (item.split, title, key, value) for title, fact in item.facts.items() for key, value in fact.gold.items()
            ]  # fmt: skip
            if said and all(one in seen for one in said):
                yield item, seen[said[0]]
            for one in said:
                seen.setdefault(one, item)


# Texts of another kind


def other_words(items: Sequence[Item], unlabelled: Sequence[str]) -> Iterator[Finding]:
    """Splits, and unlabelled text, whose words are not those of the training data."""
    texts: Dict[str, List[str]] = defaultdict(list)
    for item in items:
        texts[item.split].append(item.text)
    train = _sample(texts.pop(TRAIN, []))
    parts = {**{split: _sample(own) for split, own in texts.items()}, "the unlabelled text": _sample(unlabelled)}
    for name, part in parts.items():
        if min(len(train), len(part)) < LEAST_COMPARED:
            continue
        known, other = (train, part) if name != "the unlabelled text" else (part, train)
        size = min(len(known) // 2, len(other))
        usual, found = _unknown(known[::2][:size], known[1::2][:size]), _unknown(known[::2][:size], other[:size])
        if found > 2 * usual + OTHER_WORDS:
            lacks, has = ("train lacks", name) if name != "the unlabelled text" else (f"{name} lacks", "train")
            message = f"{lacks} {found:.0%} of the words of {has}; between halves of the former it is {usual:.0%}"
            todo = "see if they are of the same kind: scores on other texts than those of training will be low"
            if name == "the unlabelled text":
                todo = "see if it is of the same domain: adapting to another one does not help"
            yield Finding(WARNING, "other words", message, todo)


def _sample(texts: Sequence[str]) -> List[str]:
    return list(texts[:: max(1, len(texts) // COMPARED)][:COMPARED])


def _unknown(known: Sequence[str], other: Sequence[str]) -> float:
    """The share of the other texts' words that the known texts lack."""
    words: Set[str] = {word for text in known for word in normalized(text).split()}
    counts = Counter(word for text in other for word in normalized(text).split())
    return sum(count for word, count in counts.items() if word not in words) / max(1, sum(counts.values()))
