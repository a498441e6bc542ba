"""Questions that a text itself suggests, for teachers to answer where nobody has asked any. No torch.

A sentence with a few words replaced by "what" asks for these words (cloze questions as they are: Lewis et al. 2019,
https://arxiv.org/abs/1906.04980). The teacher decides what the answer is.
"""

from random import Random
from typing import List

from spacy.pipeline import Sentencizer
from spacy.tokens import Doc

MAX_WORDS = 20  # of a question
MAX_ANSWER = 3  # words that are asked for
SENTENCE_ENDS = frozenset(Sentencizer.default_punct_chars)
BLANK = "what"


def cloze_questions(doc: Doc, rng: Random, count: int) -> List[str]:
    """Questions about words of the text, each from another sentence if there are as many.

    Args:
        doc (Doc): The text. It needs no sentence boundaries.
        rng (Random): Where the draws come from.
        count (int): How many questions, at most.
    """
    sentences = [sentence for sentence in _sentences(doc) if _content(sentence)]
    picked = rng.sample(sentences, min(count, len(sentences)))
    return list(dict.fromkeys(_question(sentence, rng) for sentence in picked))


def _sentences(doc: Doc) -> List[List[str]]:
    """The words of each sentence, without the mark at its end."""
    sentences: List[List[str]] = [[]]
    for token in doc:
        if token.text in SENTENCE_ENDS or "\n\n" in token.text_with_ws:
            sentences.append([])
        elif not token.is_space:
            sentences[-1].append(token.text)
    return [sentence for sentence in sentences if len(sentence) > 2]


def _content(sentence: List[str]) -> List[int]:
    """The indices of words that are worth asking for: with letters or digits, and not of the shortest, which mostly are
    function words.
    """
    return [i for i, word in enumerate(sentence) if len(word) > 3 and any(map(str.isalnum, word))]


def _question(sentence: List[str], rng: Random) -> str:
    content = _content(sentence)
    first = rng.choice(content)
    end = first + 1
    while end < len(sentence) and end - first < MAX_ANSWER and end in content:
        end += 1
    start = max(0, min(first - MAX_WORDS // 2, len(sentence) - MAX_WORDS))
    return " ".join([*sentence[start:first], BLANK, *sentence[end : start + MAX_WORDS]]) + "?"
