"""A document with every kind of annotation, and the results of augmenters on documents, for the tests of augmentation."""

import spacy
from conftest import gold_doc
from spacy.training import Example

from mtl.tasks.qa.gold import gold_questions
from mtl.tasks.regressor.task import gold_number
from mtl.tasks.span_classifier.gold import span_labels

NLP = spacy.blank("en")
TEXT = "The pump in Oslo failed quickly and was not replaced."
ANNOTATED = {
    "cats": {"A": 1.0, "B": 0.0}, "ents": [(4, 8, "PART"), (12, 16, "LOC")], "qas": {"What failed?": "The pump", "Who?": None}
}  # fmt: skip
ALL_TASKS = {"textcat", "ner", "span_classifier", "qa", "tagger", "regressor"}


def whole_doc():
    """A document that is annotated for all tasks."""
    doc = gold_doc(NLP, TEXT, **ANNOTATED, score=2.5, attributes={"pump": ["OLD"], "Oslo": []})
    for token in doc:
        token.tag_ = f"T{token.i}"
    return doc


def changed_by(augmenter, *docs):
    """The references that an augmenter returns for each document."""
    return [[example.reference for example in augmenter(NLP, Example(NLP.make_doc(doc.text), doc))] for doc in docs]


def annotation(doc):
    """The annotation of entities, documents and spans, for comparison."""
    return {
        "ents": [(ent.text, ent.label_) for ent in doc.ents],
        "cats": dict(doc.cats),
        "questions": gold_questions(doc),
        "answers": [(span.text, span.id_) for span in doc.spans["qa"]],
        "score": gold_number(doc),
        "attributes": [(span.text, labels) for span, labels in span_labels(doc, "attributes")],
    }


def synonyms_of(word):
    """A dictionary of synonyms."""
    return {"quickly": ["very soon"], "failed": ["broke"], "pump": ["heart"]}.get(word, [])
