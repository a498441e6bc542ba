"""`mtl_regressor`: a number for each document."""

import json
import math

import pytest
import spacy
import torch
from conftest import make_nlp, overfit
from spacy.training import Example

from mtl.cli.app import app
from mtl.data.docs import read_docs, write_docs
from mtl.errors import UserError
from mtl.sampling.corpus import count_encoded_words, multi_task_corpus
from mtl.tasks.regressor.component import score_numbers
from mtl.tasks.regressor.task import gold_number, set_gold_number
from mtl.training.evaluation import score_named

ROWS = [("The pump failed in Oslo.", 120.0), ("The valve leaked.", 80.0), ("Nothing was found.", 100.0), ("Crew flew.", 95.0),
        ("The wire chafed in the bay.", 131.0), ("A valve at Oslo was bad.", 74.0)]  # fmt: skip


def examples_of(nlp, rows=ROWS):
    examples = []
    for text, number in rows:
        reference = nlp.make_doc(text)
        if number is not None:
            set_gold_number(reference, number)
        examples.append(Example(nlp.make_doc(text), reference))
    return examples


def with_regressor(tiny, examples=examples_of, name="regressor", **settings):
    nlp = make_nlp(tiny(), heads=(), examples=examples)
    nlp.add_pipe("mtl_regressor", name=name, config=settings)
    nlp.get_pipe(name).initialize(lambda: examples(nlp), nlp=nlp)
    return nlp


def test_it_overfits_and_predicts_the_same_once_loaded(tiny, tmp_path):
    nlp = with_regressor(tiny)
    assert nlp("The pump failed.")._.score == pytest.approx(100, abs=20)  # starts near the mean
    losses = overfit(nlp, examples_of(nlp), steps=150)
    assert losses[0]["regressor"] == pytest.approx(1.0, abs=0.3) and losses[-1]["regressor"] < 0.02
    texts = [text for text, _ in ROWS]
    for doc, (_, number) in zip(nlp.pipe(texts), ROWS):
        assert doc._.score == pytest.approx(number, abs=8)
    scores = nlp.evaluate(examples_of(nlp))
    assert scores["score_pearson"] > 0.97 and scores["score_spearman"] > 0.9 and scores["score_mae"] < 8
    nlp.to_disk(tmp_path / "out")
    again = spacy.load(tmp_path / "out")
    assert [doc._.score for doc in again.pipe(texts)] == [doc._.score for doc in nlp.pipe(texts)]
    same = [doc._.score for doc in nlp.pipe(texts, batch_size=2)]
    assert same == pytest.approx([nlp(text)._.score for text in texts], rel=1e-5)
    assert math.isfinite(nlp("")._.score)
    alone = again.get_pipe("regressor").from_bytes(nlp.get_pipe("regressor").to_bytes())
    assert alone.cfg["mean"] == pytest.approx(100.0)


def test_the_scores_are_those_computed_by_hand():
    rows = [("a", 1.0), ("b", 2.0), ("c", 4.0), ("d", None)]
    examples = examples_of(spacy.blank("en"), rows)
    if not examples[0].predicted.has_extension("score"):
        examples[0].predicted.set_extension("score", default=None)
    for example, value in zip(examples, (2.0, 1.0, 4.0, 9.0)):
        example.predicted._.score = value
    scores = score_numbers(examples, key="score")
    assert scores["score_mae"] == pytest.approx(2 / 3) and scores["score_rmse"] == pytest.approx(math.sqrt(2 / 3))
    assert scores["score_spearman"] == pytest.approx(0.5)  # ranks 2 1 3 against 1 2 3: 1 - 6 * 2 / (3 * 8)
    gold, predicted = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2.0, 1.0, 4.0])
    assert scores["score_pearson"] == pytest.approx(torch.corrcoef(torch.stack([gold, predicted]))[0, 1].item())
    assert score_numbers(examples[3:], key="score") == {}
    assert score_numbers(examples[:1], key="score")["score_pearson"] is None


def test_documents_without_a_number_teach_and_count_nothing(tiny):
    nlp = with_regressor(tiny)
    losses = nlp.update(examples_of(nlp, [("The pump.", None)]), sgd=None, losses={})
    assert losses["regressor"] == 0.0 and "score_mae" not in nlp.evaluate(examples_of(nlp, [("The pump.", None)]))


def test_two_regressors_have_their_own_keys(tiny):
    def both(nlp):
        examples = examples_of(nlp)
        for example in examples:
            set_gold_number(example.reference, 1.0, "hours")
        return examples

    nlp = with_regressor(tiny, both)
    nlp.add_pipe("mtl_regressor", name="hours", config={"key": "hours"})
    nlp.get_pipe("hours").initialize(lambda: both(nlp), nlp=nlp)
    overfit(nlp, both(nlp), steps=5)
    doc = nlp("The pump failed.")
    assert doc._.hours == pytest.approx(1.0, abs=1.0) and abs(doc._.score) > 20
    assert {"hours_mae", "score_mae"} <= set(nlp.evaluate(both(nlp)))
    titles = [score_named(key).title for key in ("hours_mae", "score_mae")]
    assert titles == ["hours: mean absolute error", "numbers: mean absolute error"]


def test_unusable_settings_and_annotation_are_refused(tiny):
    nlp = with_regressor(tiny)
    with pytest.raises(UserError, match=r"components.other.key = 'a b'"):
        nlp.add_pipe("mtl_regressor", name="other", config={"key": "a b"})
    with pytest.raises(UserError, match="has no training data"):
        with_regressor(tiny, lambda nlp: examples_of(nlp, [("The pump.", None)]))
    with pytest.raises(UserError, match="a document is annotated with nan, which is not a finite number"):
        with_regressor(tiny, lambda nlp: examples_of(nlp, [("The pump.", float("nan"))]))
    with pytest.raises(UserError, match="has no labels"):
        nlp.get_pipe("regressor").add_label("A")


def test_numbers_from_a_file_to_a_table(tiny, tmp_path, capsys):
    lines = [json.dumps({"text": text, "score": number}) for text, number in ROWS]
    (tmp_path / "train.jsonl").write_text("\n".join(lines[:4]))
    (tmp_path / "dev.jsonl").write_text("\n".join(lines[4:]))
    app(["convert", str(tmp_path / "train.jsonl"), str(tmp_path / "dev.jsonl"), "--out", str(tmp_path)], standalone_mode=False)
    nlp = with_regressor(tiny)
    assert [gold_number(doc) for doc in read_docs(tmp_path / "train.spacy", nlp.vocab)] == [120.0, 80.0, 100.0, 95.0]
    nlp.to_disk(tmp_path / "pipeline")
    arguments = [str(tmp_path / name) for name in ("pipeline", "dev.spacy")]
    app(["evaluate", *arguments, "--train", str(tmp_path / "train.spacy")], standalone_mode=False)
    output = capsys.readouterr().out
    assert "4 documents with a score" in output and "numbers: mean absolute error" in output
    assert "28.5  (mean of the training data)" in output  # |131 - 98.75| and |74 - 98.75|
    (tmp_path / "bad.jsonl").write_text('{"text": "a", "score": "high"}')
    with pytest.raises(UserError, match=r"bad.jsonl, line 1: \"score\" must be a number, got 'high'"):
        app(["convert", str(tmp_path / "bad.jsonl"), "--out", str(tmp_path)], standalone_mode=False)


def test_the_regressor_learns_from_a_docbin_in_a_multi_task_corpus(tiny, tmp_path):
    nlp = with_regressor(tiny)
    write_docs([eg.reference for eg in examples_of(nlp)], tmp_path / "a.spacy")
    corpus = multi_task_corpus({"a": tmp_path / "a.spacy"})
    examples = list(corpus(nlp))
    assert nlp.get_pipe("regressor")._scanned_count == len(ROWS)
    assert all(count_encoded_words(eg) == len(eg.reference) for eg in examples)
