"""Unlabelled text of the domain, in longer genres."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable

from sample_corpus import context_frames, frames, genres, lexicon
from sample_corpus.documents import compose, make_document
from sample_corpus.plans import choose_moves, order_moves
from sample_corpus.scenario import Scenario, fresh_suspects, make_scenario, other_class
from sample_corpus.sentences import parse, sentence

DOMAIN_WORDS = 76_000
DOMAIN_REPORTS = 480
NGRAM = 13


def plain_sentences(rng: random.Random, pool: list[str], count: int, scene: Scenario) -> str:
    """A paragraph of different sentences without markup."""
    chosen = rng.sample(pool, min(count, len(pool)))
    parts = []
    for frame in chosen:
        fresh_suspects(rng, scene, set())
        parts.append(parse(sentence(rng, frame, scene))[0])
    return " ".join(parts)


def domain_scene(rng: random.Random) -> Scenario:
    """A scenario that may use the whole lexicon."""
    return make_scenario(rng, other_class(rng), "domain")


def shop_report(rng: random.Random) -> list[str]:
    """A report on a component from the workshop."""
    scene = domain_scene(rng)
    middle = rng.choice((frames.DECISIVE, frames.DECISIVE_BY_CLASS[scene.label], frames.CONTRAST))
    return [
        plain_sentences(rng, genres.SHOP_INTRO, rng.randint(2, 4), scene),
        plain_sentences(rng, genres.SHOP_BODY, rng.randint(3, 6), scene),
        plain_sentences(rng, middle, 1, scene) + " " + plain_sentences(rng, context_frames.RULED_OUT, 2, scene),
        plain_sentences(rng, genres.SHOP_END, rng.randint(1, 3), scene),
    ]


def lesson(rng: random.Random, pool: list[str]) -> list[str]:
    """A training note or troubleshooting guide: several paragraphs on one system."""
    system, paragraphs = "", []
    for _ in range(rng.randint(2, 4)):
        scene = domain_scene(rng)
        while system and scene.system != system:
            scene = domain_scene(rng)
        system = scene.system
        paragraphs.append(plain_sentences(rng, pool, rng.randint(3, 6), scene))
    return paragraphs


def bulletin(rng: random.Random) -> list[str]:
    """A service bulletin around one event."""
    scene = domain_scene(rng)
    story = compose(rng, scene, order_moves(rng, choose_moves(rng, scene.label)), terse=False).text
    opening, closing = (plain_sentences(rng, genres.BULLETIN, rng.randint(3, 5), scene) for _ in range(2))
    return [opening, story, closing]


def handover(rng: random.Random) -> list[str]:
    """A shift handover: one item per paragraph."""
    items = []
    for _ in range(rng.randint(4, 8)):
        items.append(plain_sentences(rng, genres.HANDOVER, 1, domain_scene(rng)))
    return items


def domain_documents(rng: random.Random) -> Iterable[list[str]]:
    """Short reports first, then the longer genres, endlessly."""
    for _ in range(DOMAIN_REPORTS):
        yield [make_document(rng, rng.choice(lexicon.CLASSES), "domain").text]
    makers: list[Callable[[random.Random], list[str]]] = [
        shop_report, lambda r: lesson(r, genres.TRAINING), lambda r: lesson(r, genres.GUIDE), bulletin, handover,
    ]  # fmt: skip
    while True:
        yield rng.choice(makers)(rng)


def ngrams(text: str, size: int = NGRAM) -> set[tuple[str, ...]]:
    """The word n-grams of a text, in lower case."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)}


def make_domain(rng: random.Random, eval_texts: Iterable[str], labelled: Iterable[str]) -> list[list[str]]:
    """Unlabelled documents as lists of paragraphs, without those that share a 13-gram with a dev or test text."""
    forbidden = set().union(*(ngrams(text) for text in eval_texts))
    labelled_texts = {text.lower() for text in labelled}
    documents: list[list[str]] = []
    words = 0
    for paragraphs in domain_documents(rng):
        remaining = [p for p in paragraphs if not ngrams(p) & forbidden and p.lower() not in labelled_texts]
        if remaining and not ngrams(" ".join(remaining)) & forbidden:
            documents.append(remaining)
            words += sum(len(p.split()) for p in remaining)
        if words >= DOMAIN_WORDS:
            break
    rng.shuffle(documents)
    return documents
