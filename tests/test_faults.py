"""Gold annotation of other tools that no head can learn from is counted and said before training; see `Task.faults`."""

import logging
from collections import Counter

import pytest
import spacy
from conftest import gold_doc, make_nlp, sample_examples
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example

from mtl.data.convert import convert_splits
from mtl.data.docs import write_docs
from mtl.sampling.corpus import multi_task_corpus
from mtl.tasks.ner.task import NERTask
from mtl.tasks.qa.task import QATask
from mtl.tasks.span_classifier.task import SpanClassifierTask

NLP = spacy.blank("en")
WORDS = ["\n", "The", "pump", "\n", "failed", " \t", "."]


def spaced() -> Doc:
    return Doc(NLP.vocab, words=WORDS, spaces=[False] * len(WORDS))


def with_entities(*spans) -> Doc:
    doc = spaced()
    doc.ents = [Span(doc, start, end, label="PART") for start, end in spans]
    return doc


def with_answers(*spans, questions=("q0",)) -> Doc:
    doc = spaced()
    group = [Span(doc, start, end, label="answer", span_id=id) for start, end, id in spans]
    doc.spans["qa"] = SpanGroup(doc, name="qa", spans=group, attrs={"questions": dict.fromkeys(questions, "What?")})
    return doc


def asked() -> Doc:
    return gold_doc(NLP, "The pump failed.", qas={"What failed?": "The pump", "Who?": None})


def attributed() -> Doc:
    return gold_doc(NLP, "The pump failed.", attributes={"pump": ["BAD"]})


def from_dict(reference: Doc) -> Doc:
    example = Example(NLP.make_doc(reference.text), reference)
    return Example.from_dict(NLP.make_doc(reference.text), example.to_dict()).reference


CASES = [
    (NERTask(), with_entities((1, 3)), {}),
    (NERTask(), with_entities((0, 3), (3, 5)), {"entities with white space at the edges": 2}),
    (NERTask(), with_entities((1, 3), (3, 4), (5, 6)), {"entities of white space alone": 2}),
    (NERTask(), with_entities((0, 1), (1, 4)), {"entities of white space alone": 1, "entities with white space at the edges": 1}),
    (QATask(), with_answers((1, 3, "q0")), {}),
    (QATask(), with_answers((0, 3, "q0"), (1, 4, "q0")), {"answers with white space at the edges": 2}),
    (QATask(), with_answers((3, 4, "q0")), {"answers of white space alone": 1}),
    (QATask(), with_answers((1, 3, "q0"), (4, 5, "q7")), {"answers to a question that": 1}),
    (QATask(), NLP.make_doc("No questions."), {}),
    (QATask(), Doc.from_docs([asked(), asked()]), {"answers without their questions": 2}),
    (QATask(), from_dict(asked()), {"answers without their questions": 1}),
    (SpanClassifierTask(), attributed(), {}),
    (SpanClassifierTask(), Doc.from_docs([attributed(), attributed()]), {"spans in doc.spans['attributes'] whose labels": 2}),
    (SpanClassifierTask(), from_dict(attributed()), {"spans in doc.spans['attributes'] whose labels": 1}),
]


@pytest.mark.parametrize(("task", "doc", "expected"), CASES)
def test_a_fault_is_found(task, doc, expected):
    faults = Counter(task.faults(doc))
    assert {next(key for key in expected if fault.startswith(key)): count for fault, count in faults.items()} == expected


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def test_faults_of_the_sample_are_counted_before_the_first_step(tiny, warnings):
    def examples(nlp):
        merged = Doc.from_docs([asked(), asked()])
        return [*sample_examples(nlp), Example(merged.copy(), merged), Example(spaced(), with_entities((0, 3), (3, 4)))]

    make_nlp(tiny(), heads=("ner", "qa"), examples=examples)
    assert [message for message in warnings() if "training data has" in message] == [
        "the head 'ner': the training data has entities with white space at the edges, which is left out (1)",
        "the head 'ner': the training data has entities of white space alone, which are left out (1)",
        "the head 'qa': the training data has answers without their questions (doc.spans['qa'].attrs['questions']), which are "
        "left out (2)",
    ]


def test_a_fault_beyond_the_first_hundred_documents_is_found_too(tiny, tmp_path, warnings):
    """spaCy initializes from a sample; our reader shows the heads the whole corpus."""
    docs = [example.reference for example in sample_examples(NLP)] * 20
    write_docs([*docs, with_entities((0, 3))], tmp_path / "train.spacy")
    corpus = multi_task_corpus({"all": tmp_path / "train.spacy"})
    make_nlp(tiny(), heads=("ner",), examples=lambda nlp: [example for example, _ in zip(corpus(nlp), range(100))])
    assert sum("entities with white space at the edges, which is left out (1)" in message for message in warnings()) == 1


def test_convert_says_how_long_questions_and_answers_are(tmp_path):
    """What the window, and `max_answer_tokens`, must leave room for."""
    (tmp_path / "train.jsonl").write_text(
        '{"text": "The pump failed in Oslo.", "qas": [{"question": "What failed there?", "answers": [{"text": "The pump", '
        '"answer_start": 0}]}, {"question": "Who?", "answers": []}]}\n'
    )
    reports = convert_splits(
        {"train": tmp_path / "train.jsonl"},
        {"train": tmp_path / "train.spacy"},
        lang="en",
        shard_size=2000,
        allow_unseen=False,
    )
    counts = reports["train"].counts
    assert counts["words in the longest question"] == 3 and counts["tokens in the longest answer"] == 2
