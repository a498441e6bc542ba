"""`mtl export-data`: what is written for a tool is read back as the same annotation."""

import json

import pytest
import spacy
from conftest import make_nlp, overfit, sample_examples
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc
from test_formats import annotated, read
from typer.testing import CliRunner

from mtl.cli.app import app
from mtl.data.docs import record_to_doc
from mtl.data.export import WRITERS, export_docs, labels_of
from mtl.data.formats.docbin import record_of
from mtl.data.records import GoldAnswer, Question, Record, Report
from mtl.errors import UserError

NLP = spacy.blank("en")
ENTITY_FORMATS = [name for name, (_, held) in WRITERS.items() if "entities" in held]
CATEGORY_FORMATS = [name for name, (_, held) in WRITERS.items() if "categories" in held]


def doc_of(words, entities):
    """A Doc with these words as its tokens."""
    doc = Doc(NLP.vocab, words=words, spaces=[True] * (len(words) - 1) + [False])
    doc.set_ents([spacy.tokens.Span(doc, start, end, label=label) for start, end, label in entities], default="outside")
    return doc


@pytest.mark.parametrize("format", ENTITY_FORMATS)
@settings(deadline=None, max_examples=30)
@given(st.lists(annotated(), min_size=1, max_size=3))
def test_entities_come_back(tmp_path_factory, format, docs):
    out = tmp_path_factory.mktemp("export") / "out"
    export_docs([doc_of(words, entities) for words, *_, entities in docs], out, format)
    records, _ = read(out, "auto" if format == "datasets" else format)
    back = sorted([(record.text, [(e.start, e.end, e.label) for e in record.entities or ()]) for record in records])
    assert back == sorted([(text, offsets) for _, text, offsets, _ in docs])


@pytest.mark.parametrize("format", CATEGORY_FORMATS)
def test_categories_come_back(tmp_path, format):
    docs = [NLP("a text"), NLP("another one"), NLP("a third")]
    for doc, cats in zip(docs, ({"A": 1.0, "B": 0.0}, {"A": 1.0, "B": 1.0}, {"A": 0.0, "B": 0.0})):
        doc.cats = cats
    export_docs(docs, tmp_path / f"out.{'csv' if format == 'csv' else 'json'}", format)
    records, _ = read(
        tmp_path / f"out.{'csv' if format == 'csv' else 'json'}", {"csv": "table", "datasets": "auto"}.get(format, format)
    )
    held = [{label for label, value in (record.cats or {}).items() if value} for record in records]
    assert held == [{"A"}, {"A", "B"}, set()]


@pytest.mark.parametrize("format", ["squad", "jsonl"])
def test_questions_come_back(tmp_path, format):
    answered = Question("q1", "What failed?", [GoldAnswer(4, "pump")])
    record = Record("The pump failed.", "here", questions=[answered, Question("q2", "Who?", [])])
    export_docs([record_to_doc(record, NLP, Report())], tmp_path / "out.json", format)
    (back,), _ = read(tmp_path / "out.json", format)
    assert [(q.text, q.answers) for q in back.questions] == [(q.text, q.answers) for q in record.questions]


def test_entities_off_token_boundaries_are_exported(tmp_path):
    from mtl.data.records import Entity

    doc = record_to_doc(Record("The pumps failed.", "here", entities=[Entity(4, 8, "PART")]), NLP, Report())
    assert not doc.ents and [(e.start, e.end) for e in record_of(doc, "here").entities] == [(4, 8)]


def test_competing_probabilities_export_the_likeliest():
    assert labels_of(Record("x", "", cats={"A": 0.4, "B": 0.35, "C": 0.25})) == ["A"]
    assert labels_of(Record("x", "", cats={"A": 0.6, "B": 0.7, "C": 0.1})) == ["A", "B"]
    assert labels_of(Record("x", "", cats={"A": 0.1})) == labels_of(Record("x", "")) == []


def test_a_pipelines_predictions_are_exported(tiny, tmp_path):
    nlp = make_nlp(tiny(), heads=("textcat", "ner", "qa"))
    overfit(nlp, steps=80)
    nlp.to_disk(tmp_path / "nlp")
    rows = [{"text": eg.text, "qas": [{"question": "What failed?", "answers": []}]} for eg in sample_examples(nlp)[:3]]
    (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "out.jsonl"
    arguments = ["export-data", tmp_path / "new.jsonl", "--pipeline", tmp_path / "nlp", "--to", "jsonl", "--out", out]
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert "3 documents -> " in result.output and "3 documents with entities" in result.output
    found = [json.loads(line) for line in out.read_text().splitlines()]
    for row in found:
        doc = nlp(row["text"])
        assert [(e["start"], e["end"], e["label"]) for e in row["entities"]] == [
            (e.start_char, e.end_char, e.label_) for e in doc.ents
        ]  # fmt: skip
        assert row["cats"] == pytest.approx(doc.cats, abs=1e-4) and row["qas"][0]["question"] == "What failed?"
        assert [a["text"] for a in row["qas"][0]["answers"]] == (
            [doc._.ask("What failed?").text] if row["qas"][0]["answers"] else []
        )


@pytest.mark.parametrize(
    "format, message", [("xml", "--to"), ("squad", "--to squad: it holds questions, and no document has any")]
)
def test_what_a_format_does_not_hold_is_named(tmp_path, format, message):
    with pytest.raises(UserError, match=message):
        export_docs([doc_of(["pump"], [])], tmp_path / "out", format)
    assert not (tmp_path / "out").exists()
    doc = doc_of(["pump"], [])
    doc.cats = {"A": 1.0}
    assert export_docs([doc], tmp_path / "out", "conll").counts["documents with categories, which conll does not hold"] == 1
