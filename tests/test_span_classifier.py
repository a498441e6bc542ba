"""Attributes of entities: gold on spans, predictions on the entities that the pipeline finds."""

import pytest
import spacy
import torch
from conftest import gold_doc, make_nlp, overfit, sample_examples
from spacy.tokens import Doc, DocBin, Span
from spacy.training import Example
from spacy.vocab import Vocab

from mtl.data.docs import record_to_doc
from mtl.data.records import Entity, Record, Report
from mtl.encoder.model.vectors import TokenVectors
from mtl.errors import UserError
from mtl.tasks.pooling import mean_pooled, pooled_spans
from mtl.tasks.span_classifier.gold import set_span_labels, span_labels
from mtl.tasks.span_classifier.metrics import score_labels

NLP = spacy.blank("en")
SEVERITY = {"key": "severity", "exclusive": True}


def severity_examples(nlp):
    """The last pump of a text is bad where the text says failed; which pump is told by its place alone."""
    examples = []
    for text, values in (("The pump failed in Oslo.", ["high"]), ("The pump was good in Oslo.", ["low"]),
                         ("A pump failed and a pump was good.", ["high", "low"])):  # fmt: skip
        starts = [i for i in range(len(text)) if text.startswith("pump", i)]
        doc = gold_doc(nlp, text, ents=[(start, start + 4, "PART") for start in starts])
        set_span_labels(doc, "severity", list(doc.ents), [[value] for value in values])
        examples.append(Example(nlp.make_doc(text), doc))
    return examples


@pytest.fixture(scope="module")
def exclusive(tiny):
    nlp = make_nlp(tiny(), heads=("ner", "span_classifier"), examples=severity_examples, span_classifier=SEVERITY)
    overfit(nlp, severity_examples(nlp))
    return nlp


def test_exclusive_labels_depend_on_the_span_and_its_context(exclusive):
    doc = exclusive("A pump failed and a pump was good.")
    assert [(ent.text, ent._.severity) for ent in doc.ents] == [("pump", ["high"]), ("pump", ["low"])]
    for scores in doc.spans["severity"].attrs["scores"]:
        assert sum(scores.values()) == pytest.approx(1.0, abs=1e-5) and set(scores) == {"high", "low"}
    assert doc[0:1]._.severity == []  # a span that nobody has labelled


def test_labels_are_scored_on_gold_spans_and_end_to_end(exclusive):
    scores = exclusive.evaluate(severity_examples(exclusive))
    assert scores["severity_f"] == scores["severity_acc"] == scores["severity_end_to_end_f"] == 1.0
    with exclusive.select_pipes(disable="ner"):
        scores = exclusive.evaluate(severity_examples(exclusive))
    assert scores["severity_f"] == 1.0  # the gold spans are labelled all the same
    assert scores["severity_end_to_end_f"] == 0.0  # but the pipeline has found none


def test_several_labels_hold_each_by_itself(tiny):
    nlp = make_nlp(tiny(), heads=("ner", "span_classifier"))
    overfit(nlp)
    doc = nlp("The pump failed in Oslo.")
    assert {ent.text: sorted(ent._.attributes) for ent in doc.ents} == {"pump": ["BAD", "OLD"], "Oslo": []}
    assert sorted(doc.spans["attributes"].attrs["scores"][0]) == ["BAD", "OLD"]


def test_spans_of_a_group_are_labelled_instead_of_entities(tiny):
    settings = {"spans": "candidates"}
    nlp = make_nlp(tiny(), heads=("span_classifier",), span_classifier=settings)
    overfit(nlp)
    doc = nlp.make_doc("The pump failed in Oslo.")
    doc.spans["candidates"] = [doc[1:2], doc[4:5]]
    assert [(span.text, sorted(labels)) for span, labels in span_labels(nlp(doc), "attributes")] == [
        ("pump", ["BAD", "OLD"]), ("Oslo", []),
    ]  # fmt: skip
    assert span_labels(nlp("The pump failed in Oslo."), "attributes") == []


def test_training_uses_gold_spans_and_leaves_unannotated_ones_alone(tiny):
    """Only annotated spans are in the loss: an entity without attributes changes nothing."""
    nlp = make_nlp(tiny(), heads=("span_classifier",))
    text = "The pump failed in Oslo."
    few, more = (gold_doc(nlp, text, ents=[(4, 8, "PART"), (19, 23, "LOC")][:n], attributes={"pump": ["BAD"]}) for n in (1, 2))
    losses = [nlp.update([Example(nlp.make_doc(text), doc)], sgd=False, losses={})["span_classifier"] for doc in (few, more)]
    assert losses[0] == losses[1] > 0
    other = gold_doc(nlp, text, attributes={"pump": ["BAD"], "Oslo": []})
    assert nlp.update([Example(nlp.make_doc(text), other)], sgd=False, losses={})["span_classifier"] != losses[0]


def test_gold_survives_a_docbin_and_other_tokens(tiny):
    doc = gold_doc(NLP, "The pump failed.", attributes={"pump": ["BAD"]})
    (back,) = DocBin().from_bytes(DocBin(docs=[doc]).to_bytes()).get_docs(Vocab())
    assert [(span.text, labels) for span, labels in span_labels(back, "attributes")] == [("pump", ["BAD"])]
    nlp = make_nlp(tiny(), heads=("span_classifier",))
    merged = Doc(nlp.vocab, words=["The pump", "failed", "."], spaces=[True, False, False])
    assert nlp.update([Example(merged, gold_doc(nlp, "The pump failed.", attributes={"pump": ["BAD"]}))], sgd=False)


def test_records_give_flags_one_key_and_texts_keys_of_their_own():
    report = Report()
    entities = [Entity(4, 8, "PART", {"BAD": True, "OLD": False, "severity": "high"}), Entity(19, 23, "LOC", None),
                Entity(0, 3, "X", {"BAD": False})]  # fmt: skip
    doc = record_to_doc(Record("The pump failed in Oslo.", "here", entities=entities), NLP, report)
    assert [(span.text, labels) for span, labels in span_labels(doc, "attributes")] == [("pump", ["BAD"]), ("The", [])]
    assert [(span.text, labels) for span, labels in span_labels(doc, "severity")] == [("pump", ["high"])]
    assert report.counts["entities with attributes"] == 2 and report.counts["entities with severity"] == 1
    only_text = record_to_doc(Record("A pump.", "here", entities=[Entity(2, 6, "PART", {"severity": "low"})]), NLP, report)
    assert span_labels(only_text, "attributes") == []  # what is not said is not negative
    none = record_to_doc(Record("A pump.", "here", entities=[Entity(2, 6, "PART", {})]), NLP, report)
    assert [labels for _, labels in span_labels(none, "attributes")] == [[]]
    for name in ("qa", "score", "attributes", "no name"):
        with pytest.raises(UserError, match=f"here: the attribute '{name}' needs another name"):
            record_to_doc(Record("A pump.", "here", entities=[Entity(2, 6, "PART", {name: "x"})]), NLP, report)
    off = Record("The pumps failed.", "here", entities=[Entity(4, 8, "PART", {"BAD": True})])
    doc = record_to_doc(off, NLP, report)
    assert span_labels(doc, "attributes")[0][0].text == "pumps" and any("widened" in what for what in report.counts)


def test_scores_by_hand():
    assert score_labels([({"a"}, {"a", "b"}), ({"b"}, set()), (set(), set())]) == {
        "f": pytest.approx(0.5), "p": 0.5, "r": 0.5, "acc": pytest.approx(1 / 3),
    }  # fmt: skip
    assert score_labels([(set(), set())]) == {"f": 1.0, "p": 1.0, "r": 1.0, "acc": 1.0}


def test_pooling_is_the_mean_over_tokens_that_have_subwords():
    import numpy as np

    vectors = torch.arange(12.0).reshape(6, 2)
    tokens = TokenVectors(vectors, torch.zeros(2, 2), np.array([4, 2]), np.array([True, False, True, True, False, False]))
    actual = pooled_spans(tokens, np.array([0, 1, 3, 4]), np.array([3, 2, 4, 6]))
    expected = torch.stack([(vectors[0] + vectors[2]) / 2, torch.zeros(2), vectors[3], torch.zeros(2)])
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(mean_pooled(tokens), torch.stack([vectors[[0, 2, 3]].mean(0), torch.zeros(2)]))


@pytest.mark.parametrize(
    "settings, words",
    [({"key": "no name"}, "key = 'no name'"), ({"key": "ents"}, "another than that of the spans"),
        ({"key": "answers"}, "key = 'answers'"),
     ({"threshold": 2.0}, "threshold = 2.0 is out of range")],
)  # fmt: skip
def test_a_wrong_setting_is_named(settings, words):
    with pytest.raises(UserError, match=words):
        spacy.blank("en").add_pipe("mtl_span_classifier", config=settings)


def test_one_exclusive_label_is_refused(tiny):
    with pytest.raises(UserError, match="exclusive labels need at least two"):
        make_nlp(
            tiny(), heads=("span_classifier",), span_classifier={"exclusive": True},
            examples=lambda nlp: [Example(nlp.make_doc("a pump"), gold_doc(nlp, "a pump", attributes={"pump": ["X"]}))],
        )  # fmt: skip


def test_a_teacher_of_another_run_teaches_span_labels(tiny, tmp_path):
    teacher = make_nlp(tiny(), heads=("span_classifier",))
    overfit(teacher, steps=60)
    teacher.to_disk(tmp_path / "teacher")
    nlp = make_nlp(tiny(), heads=("span_classifier",))
    nlp.config["initialize"]["components"]["span_classifier"] = {
        "teacher": {"@misc": "mtl.Teacher.v1", "pipelines": [str(tmp_path / "teacher")]}
    }  # fmt: skip
    nlp.initialize(lambda: sample_examples(nlp))
    text = "The pump failed in Oslo."
    wrong = [Example(nlp.make_doc(text), gold_doc(nlp, text, attributes={"pump": [], "Oslo": ["BAD", "OLD"]}))]
    overfit(nlp, wrong, steps=60)  # the teacher, who knows better, has all of the loss
    doc = nlp.make_doc(text)
    doc.ents = [Span(doc, 1, 2, "PART"), Span(doc, 4, 5, "LOC")]
    assert {ent.text: sorted(ent._.attributes) for ent in nlp(doc).ents} == {"pump": ["BAD", "OLD"], "Oslo": []}
