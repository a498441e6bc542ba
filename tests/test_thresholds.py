"""Labels that hold each for itself are cut at the threshold that is best for each on dev, as the question head's answers are."""

import numpy as np
import pytest
import spacy
from conftest import gold_doc, make_nlp, overfit
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc
from spacy.training import Example

from mtl.errors import UserError
from mtl.tasks.textcat.component import score_textcat
from mtl.tasks.thresholds import best_threshold

PROBABILITY = st.floats(0, 1, width=32)


def f1(rows, threshold):
    true = sum(holds for score, holds in rows if score >= threshold)
    count = sum(score >= threshold for score, _ in rows) + sum(holds for _, holds in rows)
    return 2 * true / count if count else 0.0


@given(st.lists(st.tuples(PROBABILITY, st.booleans()), max_size=12))
def test_no_other_threshold_has_a_higher_f1(rows):
    best = f1(rows, best_threshold(rows))
    assert all(best >= f1(rows, other) - 1e-9 for other in [0.0, 1.0, *(score for score, _ in rows)])


@pytest.mark.parametrize(
    ("rows", "threshold"),
    [
        ([], 0.5),
        ([(0.9, False), (0.1, False)], 0.5),  # nothing to find
        ([(0.9, True), (0.1, False)], 0.5),  # nearest to the middle
        ([(0.4, True), (0.2, True), (0.1, False)], 0.15),
        ([(0.9, True), (0.8, False), (0.7, False), (0.6, False)], 0.85),
        ([(0.3, True), (0.3, False)], 0.15),  # equal probabilities cannot be told apart
    ],
)
def test_the_threshold_of_a_label(rows, threshold):
    assert best_threshold(rows) == pytest.approx(threshold)


@settings(deadline=None)  # the first document loads spaCy's tokenizer
@given(st.dictionaries(st.sampled_from("ABC"), PROBABILITY, min_size=3), st.lists(PROBABILITY, min_size=3, max_size=3))
def test_scores_are_cut_at_the_threshold_of_each_label(scores, cuts):
    """And the AUC, which needs no threshold, does not depend on them."""
    nlp = spacy.blank("en")
    thresholds = dict(zip("ABC", cuts))
    predicted, gold = nlp.make_doc("a"), nlp.make_doc("a")
    predicted.cats, gold.cats = scores, dict.fromkeys("ABC", 1.0)
    result = score_textcat([Example(predicted, gold)], labels="ABC", exclusive=False, thresholds=thresholds)
    found = sum(scores[label] >= thresholds[label] for label in "ABC")
    assert result["cats_micro_r"] == pytest.approx(found / 3)


def rows_of(nlp):
    """The label RARE holds in few documents, and its probabilities stay low."""
    texts = [f"The {part} failed {when}." for part in ("pump", "valve", "fan") for when in ("late", "early", "now", "today")]
    docs = [gold_doc(nlp, text, cats={"LATE": float("late" in text), "RARE": float("fan failed now" in text)}) for text in texts]
    return [Example(nlp.make_doc(doc.text), doc) for doc in docs]


@pytest.fixture
def multilabel(tiny):
    return make_nlp(tiny(), heads=("textcat",), examples=rows_of, textcat={"exclusive": False})


def test_a_rare_category_is_found_at_its_own_threshold(multilabel, tmp_path):
    nlp = multilabel
    before = nlp.evaluate(rows_of(nlp))["cats_macro_f"]  # not in training: thresholds stay at 0.5
    assert set(nlp.get_pipe("textcat").thresholds.values()) == {0.5}
    overfit(nlp, rows_of(nlp), steps=12)
    tuned = nlp.evaluate(rows_of(nlp))["cats_macro_f"]
    thresholds = nlp.get_pipe("textcat").thresholds
    assert tuned > before and thresholds["RARE"] < 0.5
    nlp.to_disk(tmp_path / "pipeline")
    again = spacy.load(tmp_path / "pipeline")
    assert again.get_pipe("textcat").thresholds == thresholds  # kept, and not tuned on what a user evaluates
    assert again.evaluate(rows_of(again)[:4])["cats_macro_f"] is not None and again.get_pipe("textcat").thresholds == thresholds
    fixed = spacy.load(tmp_path / "pipeline", config={"components": {"textcat": {"threshold": 0.5}}})
    assert set(fixed.get_pipe("textcat").thresholds.values()) == {0.5}
    assert fixed.evaluate(rows_of(fixed))["cats_macro_f"] <= tuned


def test_a_document_says_which_categories_hold(multilabel, tiny):
    nlp = multilabel
    head = nlp.get_pipe("textcat")
    doc = nlp("The fan failed now.")
    head.cfg["tuned_thresholds"] = {"LATE": doc.cats["LATE"] + 0.01, "RARE": doc.cats["RARE"]}
    assert nlp("The fan failed now.")._.categories == ["RARE"]
    (parallel,) = nlp.pipe(["The fan failed now."], n_process=2)
    assert parallel._.categories == ["RARE"]
    exclusive = make_nlp(tiny(), heads=("textcat",))
    doc = exclusive("The pump failed.")
    assert doc._.categories == [max(doc.cats, key=doc.cats.get)]


def test_attributes_of_spans_are_cut_at_their_own_thresholds(tiny, tmp_path):
    def spans(nlp):
        texts = [f"The {part} failed {when}." for part in ("pump", "valve", "fan") for when in ("late", "early", "now")]
        docs = [gold_doc(nlp, text, attributes={text.split()[1]: ["RARE"] if "fan failed now" in text else []}) for text in texts]
        return [Example(nlp.make_doc(doc.text), doc) for doc in docs]

    nlp = make_nlp(tiny(), heads=("span_classifier",), examples=spans)
    overfit(nlp, spans(nlp), steps=8)
    scores = nlp.evaluate(spans(nlp))
    assert nlp.get_pipe("span_classifier").thresholds["RARE"] < 0.5 and scores["attributes_r"] == 1.0
    nlp.to_disk(tmp_path / "pipeline")
    assert spacy.load(tmp_path / "pipeline").evaluate(spans(nlp))["attributes_f"] == pytest.approx(scores["attributes_f"])


@pytest.mark.parametrize("head", ["textcat", "span_classifier"])
def test_tuning_can_be_switched_off(head, tiny):
    nlp = make_nlp(tiny(), heads=(head,), **{head: {"exclusive": False, "tune_thresholds": False}})
    component = nlp.get_pipe(head)
    component._in_training = True
    component.tune_thresholds(np.full((2, len(component.labels)), 0.1).tolist(), [[True] * len(component.labels)] * 2)
    assert set(component.thresholds.values()) == {0.5}
    with pytest.raises(UserError, match=r"threshold = 2\.0 is out of range"):
        make_nlp(tiny(), heads=(head,), **{head: {"threshold": 2.0}})


def test_an_attribute_of_the_same_name_and_another_default_is_refused(tiny):
    kept = Doc.get_extension("categories") if Doc.has_extension("categories") else None
    Doc.set_extension("categories", default=[], force=True)
    try:
        with pytest.raises(UserError, match=r"doc\._\.categories is registered by other code with another meaning"):
            make_nlp(tiny(), heads=("textcat",))
    finally:
        Doc.remove_extension("categories")
        if kept is not None:
            Doc.set_extension("categories", default=kept[0])


@pytest.mark.parametrize("scorer", ["spacy.textcat_scorer.v2", "spacy.textcat_multilabel_scorer.v2"])
def test_spacys_own_scorers_score_our_categories(scorer, tiny):
    nlp = make_nlp(tiny(), heads=("textcat",), examples=rows_of, textcat={"exclusive": False, "scorer": {"@scorers": scorer}})
    assert 0 <= nlp.evaluate(rows_of(nlp))["cats_score"] <= 1
