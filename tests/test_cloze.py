"""Questions about words of a text, where nobody has asked any."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spacy.lang.en import English

from mtl.tasks.qa.cloze import MAX_WORDS, cloze_questions
from mtl.tasks.qa.gold import asked_questions
from mtl.tasks.qa.task import OPEN_QUESTIONS, QATask

NLP = English()
TEXT = "The hydraulic pump failed in Oslo. Nobody had noticed the leaking valve before take-off!"


def test_a_question_is_a_sentence_with_some_words_asked_for():
    questions = {question for seed in range(50) for question in cloze_questions(NLP(TEXT), random.Random(seed), 2)}
    assert "The what failed in Oslo?" not in questions  # neighbouring words are asked for together: "hydraulic pump failed"
    assert "The what in Oslo?" in questions and "The hydraulic what in Oslo?" in questions
    assert all(question.count("what") == 1 and question.endswith("?") for question in questions)
    assert len(questions) > 5


@given(st.text(max_size=400), st.integers(0, 5), st.integers(0, 9))
def test_any_text_has_short_questions_or_none(text, count, seed):
    doc = NLP(text)
    questions = cloze_questions(doc, random.Random(seed), count)
    assert len(questions) <= count and questions == cloze_questions(doc, random.Random(seed), count)
    assert all(len(question.split(" ")) <= MAX_WORDS + 1 and "what" in question for question in questions)


@pytest.mark.parametrize("text", ["", "a b c", "...", "Oslo."])
def test_a_text_without_a_sentence_has_none(text):
    assert cloze_questions(NLP(text), random.Random(0), 2) == []


def test_texts_are_asked_them_where_no_labelled_document_asks():
    doc = NLP(TEXT)
    QATask().ask(doc, [], random.Random(0))
    assert len(asked_questions(doc)) == OPEN_QUESTIONS and all("what" in q for q in asked_questions(doc).values())
