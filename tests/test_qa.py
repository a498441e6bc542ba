"""Decoding, metrics, and the QA component."""

import gc
import weakref

import numpy as np
import pytest
import spacy
import torch
from conftest import gold_doc, make_nlp, overfit, sample_examples
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.lang.en import English
from spacy.tokens import Doc
from spacy.training import Example

from mtl.errors import UserError
from mtl.tasks.qa.metrics import ALWAYS, best_threshold, exact_match, normalize, score_answers, token_f1
from mtl.tasks.qa.module import SpanLogits, best_spans, span_loss

HEADS = ("textcat", "ner", "qa")


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10_000), st.integers(0, 12), st.integers(1, 15), st.integers(1, 6))
def test_best_spans_equal_enumeration(seed, tokens, longest, count):
    rng = np.random.default_rng(seed)
    start, end = rng.normal(size=(2, tokens))
    spans = best_spans(start, end, longest, count)
    enumerated = sorted(
        ((start[s] + end[e], s, e + 1) for s in range(tokens) for e in range(s, min(s + longest, tokens))), reverse=True
    )
    assert [span[1:] for span in spans] == [span[1:] for span in enumerated[:count]]
    assert [span[0] for span in spans] == pytest.approx([span[0] for span in enumerated[:count]])


def test_metrics_are_those_of_squad():
    assert normalize("The  Cat, an a.") == "cat"
    assert exact_match("the cat", ["Cat."]) == 1.0
    assert token_f1("the big cat", ["cat sat"]) == pytest.approx(0.5)
    assert token_f1("", []) == 1.0 and token_f1("x", []) == 0.0 and token_f1("", ["x"]) == 0.0
    assert token_f1("a b", ["x", "b c"]) == pytest.approx(2 / 3)  # "a" is an article
    scores = score_answers({"1": "cat", "2": ""}, {"1": ["cat"], "2": [], "3": ["dog"]})
    assert scores["qa_em"] == pytest.approx(2 / 3) and scores["qa_em_unanswerable"] == 1.0 and scores["qa_f1_answered"] == 0.5


@given(st.lists(st.tuples(st.integers(-5, 5).map(float), st.sampled_from([0.0, 0.5, 1.0]), st.booleans()), max_size=12))
def test_no_threshold_is_better_than_the_tuned_one(rows):
    rows = [(margin, f1 if answerable else 0.0, answerable) for margin, f1, answerable in rows]
    threshold, best = best_threshold(rows)

    def mean(limit):
        return sum(f1 if margin > limit else float(not answerable) for margin, f1, answerable in rows) / len(rows)

    if rows and not all(row[2] for row in rows):
        assert best == pytest.approx(mean(threshold))
        assert best >= max(mean(limit) for limit in [-99, 99, *(m + d for m, _, _ in rows for d in (-0.5, 0, 0.5))]) - 1e-9
    elif rows:
        assert threshold == ALWAYS


@pytest.fixture(scope="module")
def trained(tiny):
    nlp = make_nlp(tiny(), HEADS, qa={"max_answer_tokens": 8, "n_best": 3})
    overfit(nlp)
    nlp.evaluate(sample_examples(nlp))  # tunes the threshold
    return nlp


def test_it_overfits_and_knows_when_there_is_no_answer(trained):
    scores = trained.evaluate(sample_examples(trained))
    assert scores["qa_f1"] > 0.9
    assert trained("The pump failed in Oslo.")._.ask("What failed?").text == "The pump"
    none = trained("The pump failed in Oslo.")._.ask("Who called?")
    assert none.text == "" and none.span is None and none.no_answer_score > 0


def test_questions_go_through_the_pipe(trained):
    docs = [trained.make_doc("The valve leaked."), trained.make_doc("The wire chafed in the bay."), trained.make_doc("")]
    docs[1]._.questions = {"a": "What chafed?", "b": "Where was it?"}
    docs[2]._.questions = ["What failed?"]
    first, second, third = trained.pipe(docs)
    assert first._.answers == {} and "answers" not in first.spans
    assert {id: answer.text for id, answer in second._.answers.items()} == {"a": "The wire", "b": "the bay"}
    assert second._.answers["a"].question == "What chafed?" and 0 < second._.answers["a"].score <= 1
    assert third._.answers["q1"].text == ""
    restored = Doc(trained.vocab).from_bytes(second.to_bytes())
    assert restored._.answers["b"].text == "the bay"


def test_n_best_are_in_order_and_probabilities(trained):
    answers = trained("The wire chafed in the bay.")._.ask("What chafed?", n=3)
    assert len(answers) == 3 and answers[0].text == "The wire"
    scores = [answer.score for answer in answers]
    assert scores == sorted(scores, reverse=True) and sum(scores) + answers[0].no_answer_score <= 1 + 1e-6


def test_a_document_is_encoded_once_and_once_for_each_question(trained):
    encoder = trained.get_pipe("transformer").encoder
    before = encoder.passes
    trained("The valve leaked.")
    assert encoder.passes == before + 1
    doc = trained.make_doc("The valve leaked.")
    doc._.questions = ["What leaked?", "Where?"]
    trained(doc)
    assert encoder.passes == before + 4


def test_the_threshold_is_kept_and_not_tuned_once_loaded(trained, tmp_path):
    trained.get_pipe("qa").cfg["tuned_threshold"] = -0.5668  # not every JSON reader returns every float exactly
    from_bytes = English.from_config(trained.config).from_bytes(trained.to_bytes())
    assert from_bytes.get_pipe("qa").threshold == -0.5668
    trained.to_disk(tmp_path)
    again = spacy.load(tmp_path)
    threshold = again.get_pipe("qa").threshold
    assert threshold == trained.get_pipe("qa").threshold
    again.evaluate([Example(again.make_doc("Nothing."), gold_doc(again, "Nothing.", qas={"Who?": None}))])
    assert again.get_pipe("qa").threshold == threshold
    always = spacy.load(tmp_path, config={"components.qa.threshold": -1e9, "components.qa.n_best": 2})
    doc = always.make_doc("The pump failed in Oslo.")
    doc._.questions = ["Who called?"]
    assert always(doc)._.answers["q1"].text and len(doc.spans["answers"]) == 2  # the config's own settings hold at load


def test_a_question_about_a_document_without_subwords_can_be_scored_and_saved(trained, tmp_path):
    trained.evaluate([Example(trained.make_doc(" "), gold_doc(trained, " ", qas={"Who?": None}))])
    trained.to_disk(tmp_path)  # its margin is -inf, which JSON cannot hold
    trained.evaluate(sample_examples(trained))


def test_a_head_without_weights_and_a_removed_one_answer_nothing(trained):
    trained.add_pipe("mtl_qa", name="other")
    with trained.select_pipes(disable=["other"]):
        assert trained("The pump failed in Oslo.")._.ask("What failed?").text == "The pump"
    trained.remove_pipe("other")
    assert trained.make_doc("The pump failed in Oslo.")._.ask("What failed?").text == "The pump"


@pytest.mark.parametrize("questions", ["What?", [""], [3], {"a": ""}, 5, iter(["What?"]), {1: "What?", "1": "Who?"}])
def test_unusable_questions_are_refused(trained, questions):
    doc = trained.make_doc("The valve leaked.")
    doc._.questions = questions
    with pytest.raises(UserError, match=r"doc\._\.questions"):
        trained(doc)
    with pytest.raises(UserError, match="not empty"):
        trained("The valve leaked.")._.ask(" ")
    with pytest.raises(UserError, match="has no labels"):
        trained.get_pipe("qa").add_label("X")
    with pytest.raises(UserError, match="n = '3'"):
        trained("The valve leaked.")._.ask("What?", n="3")
    with pytest.raises(UserError, match="n = 0"):
        trained("The valve leaked.")._.ask("What?", n=0)


def test_a_doc_of_a_pipeline_without_the_head_cannot_be_asked(trained):
    with pytest.raises(UserError, match="no pipeline with an 'mtl_qa'"):
        spacy.blank("en")("The valve leaked.")._.ask("What leaked?")


def test_a_doc_is_answered_by_the_head_that_it_went_through_last(trained, tmp_path):
    """Two pipelines share a vocabulary. For a Doc that went through neither, nobody can say which is meant."""
    trained.to_disk(tmp_path)
    settings = {"components.qa.threshold": 1e9}  # it never answers
    silent = spacy.load(tmp_path, vocab=trained.vocab, config=settings)
    text = "The pump failed in Oslo."
    answered, unanswered = trained(text), silent(text)
    assert answered._.ask("What failed?").text == "The pump" and unanswered._.ask("What failed?").text == ""
    assert silent(answered)._.ask("What failed?").text == "" and trained(unanswered)._.ask("What failed?").text == "The pump"
    with pytest.raises(UserError, match="several pipelines have this Doc's vocabulary"):
        trained.make_doc(text)._.ask("What failed?")
    assert trained.get_pipe("qa").ask(trained.make_doc(text), "What failed?")[0].text == "The pump"


def test_neither_a_doc_nor_a_pipeline_is_kept(tiny):
    """Docs are forgotten with the last reference to them, and pipelines with their last Doc."""
    nlp = make_nlp(tiny(), ("qa",))
    doc = nlp("The pump failed in Oslo.")
    references = weakref.ref(doc), weakref.ref(nlp.get_pipe("qa"))
    del nlp
    gc.collect()
    assert doc._.ask("What failed?").question == "What failed?"
    del doc
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_the_scores_of_evaluations_in_training_are_kept(tiny):
    """Sampling strategies such as `mtl.DevGapSampling.v1` read them."""
    nlp = make_nlp(tiny(), ("qa",))
    examples = sample_examples(nlp)
    overfit(nlp, examples, steps=2)
    scores = nlp.evaluate(examples)
    assert nlp.get_pipe("qa").score_history == [{name: value for name, value in scores.items() if name.startswith("qa_")}]


def test_answers_in_long_documents_are_found_in_every_window_and_across_windows(tiny):
    """Every span of up to three tokens is a candidate, wherever it is, with the score that the head gives it."""
    nlp = make_nlp(tiny(), HEADS, model={"window": 32, "overlap": 8}, qa={"max_answer_tokens": 3, "threshold": ALWAYS})
    filler = "Nothing was found. " * 30
    doc = nlp(filler + "The pump failed in Oslo. " + filler)
    head, transformer = nlp.get_pipe("qa"), nlp.get_pipe("transformer")
    answers = {(answer.span.start, answer.span.end): answer for answer in head.ask(doc, "What failed?", n=10_000)}
    with torch.no_grad():
        logits = head.module(transformer.encode([doc], ["What failed?"]))
        start, end = (table[0, 1:].double().numpy() for table in (logits.start, logits.end))
        no_answer = (logits.start[0, 0] + logits.end[0, 0]).item()
    assert len(doc) > 200
    assert answers.keys() == {(s, e + 1) for s in range(len(doc)) for e in range(s, min(s + 3, len(doc)))}
    for (first, after), answer in answers.items():
        assert answer.margin == pytest.approx(start[first] + end[after - 1] - no_answer, abs=1e-4)
    margins = [answer.margin for answer in answers.values()]
    assert margins == sorted(margins, reverse=True)


def test_scores_are_comparable_across_windows(tiny):
    """All windows share one softmax: probabilities over the whole document sum to at most 1."""
    nlp = make_nlp(tiny(), HEADS, model={"window": 32, "overlap": 8})
    nlp.get_pipe("qa").cfg["threshold"] = ALWAYS
    doc = nlp("The pump failed in Oslo. " * 12)
    answers = doc._.ask("What failed?", n=500)
    assert sum(answer.score for answer in answers) + answers[0].no_answer_score <= 1 + 1e-5


def test_the_loss_is_that_of_whole_gold_spans():
    torch.manual_seed(0)
    start, end = torch.randn(2, 5), torch.randn(2, 5)
    start[1, 3:] = end[1, 3:] = float("-inf")  # a shorter document
    starts, ends = start.softmax(1), end.softmax(1)
    both = starts[0, 1] * ends[0, 2] + starts[0, 3] * ends[0, 4]  # not starts[0, 1] * ends[0, 4]
    expected = -(both.log() + (starts[1, 0] * ends[1, 0]).log()) / 4
    start.requires_grad_()
    loss = span_loss(SpanLogits(start, end), [[(1, 2), (3, 4)], [(0, 0)]])
    loss.backward()
    assert loss.item() == pytest.approx(expected.item()) and torch.isfinite(start.grad).all()


def test_gold_answers_train_through_long_documents(tiny):
    nlp = make_nlp(tiny(), HEADS, model={"window": 32, "overlap": 8})
    text = "Nothing was found. " * 20 + "The pump failed in Oslo."
    example = Example(nlp.make_doc(text), gold_doc(nlp, text, qas={"What failed?": "The pump"}))
    losses = overfit(nlp, [example], steps=30)
    assert losses[-1]["qa"] < losses[0]["qa"] / 2


def test_a_question_longer_than_the_window_is_left_out_and_said_before_training(tiny, caplog):
    long = "why " * 500

    def examples(nlp):
        text = "The pump failed."
        return [
            Example(nlp.make_doc(text), gold_doc(nlp, text, qas={"What failed?": "The pump", long: "The pump"})),
            Example(nlp.make_doc(text), gold_doc(nlp, text, qas={long: "The pump"})),
        ]

    nlp = make_nlp(tiny(), heads=("qa",), examples=examples)
    assert "2 of 3 questions are too long for the encoder's window, such as 'why why" in caplog.text
    alone = [Example(nlp.make_doc("The pump failed."), gold_doc(nlp, "The pump failed.", qas={"What failed?": "The pump"}))]
    assert nlp.update(examples(nlp), sgd=False, losses={})["qa"] == pytest.approx(nlp.update(alone, sgd=False, losses={})["qa"])
    assert 0 <= nlp.evaluate(examples(nlp))["qa_f1"] <= 1 / 3
    with pytest.raises(UserError, match="2 of 2 questions are too long"):
        make_nlp(tiny(), heads=("qa",), examples=lambda nlp: [examples(nlp)[1]] * 2)


def test_answers_that_the_setting_rules_out_are_counted_with_the_number_that_would_do(tiny, caplog):
    make_nlp(tiny(), heads=("qa",), qa={"max_answer_tokens": 1})
    assert "max_answer_tokens = 1 makes 5 of 5 answers (100%) impossible to predict; 2 covers 99%" in caplog.text
    caplog.clear()
    make_nlp(tiny(), heads=("qa",), qa={"max_answer_tokens": 2})
    assert "impossible" not in caplog.text
