"""The annotation of a document in which tokens are replaced."""

import random

import pytest
from augment_helpers import ALL_TASKS, ANNOTATED, NLP, TEXT, annotation, changed_by, whole_doc
from conftest import TASKS, gold_doc
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc, Span, SpanGroup

from mtl.augment.rewrite import (
    NO_TASK,
    Edit,
    annotation_names,
    annotations_of,
    free_words,
    in_case_of,
    rewritten,
    surviving,
)
from mtl.augment.synonyms import SynonymAugmenter
from mtl.registry import Change
from mtl.tasks.regressor.task import gold_number
from mtl.tasks.span_classifier.gold import span_labels


def test_a_word_replaced_by_two_keeps_all_annotation_but_its_tag():
    new = rewritten(whole_doc(), [Edit(5, 6, ("very ", "soon "))])
    assert new.text == "The pump in Oslo failed very soon and was not replaced."
    assert annotation(new) == annotation(whole_doc())
    assert [token.tag_ for token in new][4:8] == ["T4", "", "", "T6"]


def test_a_mention_of_another_length_moves_what_comes_after():
    new = rewritten(whole_doc(), [Edit(1, 2, ("air ", "cycle ", "machine")), Edit(2, 3, ())])
    assert new.text == "The air cycle machine Oslo failed quickly and was not replaced."
    assert [(ent.text, ent.label_) for ent in new.ents] == [("air cycle machine", "PART"), ("Oslo", "LOC")]
    assert [(span.text, span.id_) for span in new.spans["qa"]] == [("The air cycle machine", "q0")]
    assert annotation(new)["attributes"] == [("air cycle machine", ["OLD"]), ("Oslo", [])]


def test_labels_of_spans_stay_with_their_spans_if_one_is_dropped():
    """The span classifier's labels are a list beside the spans, which must not shift."""
    new = rewritten(whole_doc(), [Edit(1, 2, ())])
    assert [(span.text, labels) for span, labels in span_labels(new, "attributes")] == [("Oslo", [])]


def test_only_the_kept_kinds_of_annotation_are_left():
    new = rewritten(whole_doc(), [], keep=("ner",))
    assert annotations_of(whole_doc()) == ALL_TASKS and annotations_of(new) == {"ner"}
    assert not new.cats and not new.spans and gold_number(new) is None and not new.has_annotation("TAG")


@pytest.mark.parametrize("task", sorted(TASKS))
def test_each_task_is_kept_by_its_own_name(task):
    new = rewritten(whole_doc(), [Edit(5, 6, ("soon ",))], keep=(task,))
    assert annotations_of(new) == {task}


def test_the_kinds_of_annotation_are_the_tasks_and_what_spacy_has_beside_them():
    assert annotation_names() == {*TASKS} | NO_TASK
    assert surviving(Change.NOISE) == {*TASKS} | NO_TASK == surviving(Change.SYNONYMS)
    assert surviving(Change.MENTIONS) == {"ner", "span_classifier", "spans"}
    assert surviving(Change.SAME_LABEL) == {"ner", "tagger"}
    assert surviving(Change.LIKELY_WORDS) == {"ner", "spans"}
    assert surviving(Change.PARAPHRASE) == {"textcat", "regressor"}


def test_an_edit_inside_an_entity_keeps_it_and_one_across_its_bounds_is_refused():
    doc = gold_doc(NLP, "the air cycle machine failed", ents=[(4, 21, "PART")])
    assert [ent.text for ent in rewritten(doc, [Edit(2, 3, ("cooling ",))]).ents] == ["air cooling machine"]
    assert not rewritten(doc, [Edit(1, 4, ())]).ents
    with pytest.raises(ValueError, match="crosses the bounds of 'air cycle machine'"):
        rewritten(doc, [Edit(0, 2, ("x",))])
    with pytest.raises(ValueError, match="overlaps"):
        rewritten(doc, [Edit(0, 2, ()), Edit(1, 3, ())])


def test_dependencies_are_kept_if_every_word_stands_for_one():
    doc = Doc(NLP.vocab, words=["pumps", "fail", "often"], heads=[1, 1, 1], deps=["nsubj", "ROOT", "advmod"])
    same, longer = rewritten(doc, [Edit(2, 3, ("rarely",))]), rewritten(doc, [Edit(2, 3, ("very ", "often"))])
    assert [token.head.i for token in same] == [1, 1, 1] and [token.dep_ for token in same] == ["nsubj", "ROOT", "advmod"]
    assert not longer.has_annotation("DEP")
    assert not rewritten(doc, [], keep=NO_TASK - {"dependencies"}).has_annotation("DEP")


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32))
def test_annotation_moves_with_its_words(length, seed):
    """Words outside of spans come and go; every entity, answer and missing token still has its words."""
    rng = random.Random(seed)
    doc = Doc(NLP.vocab, words=[f"w{i}" for i in range(length)], spaces=[rng.random() < 0.8 for _ in range(length)])
    bounds = sorted(rng.sample(range(length + 1), min(length + 1, 4)))
    spans = [Span(doc, a, b, label="X") for a, b in zip(bounds[::2], bounds[1::2])]
    doc.set_ents(spans[:1], missing=spans[1:], default="outside")
    doc.spans["qa"] = SpanGroup(doc, name="qa", spans=spans, attrs={"questions": {}})
    taken = {i for span in spans for i in range(span.start, span.end)}
    edits = [
        Edit(i, i + 1, tuple(f"n{rng.randrange(9)} " for _ in range(rng.randrange(3))))
        for i in range(length) if i not in taken and rng.random() < 0.5
    ]  # fmt: skip
    new = rewritten(doc, edits)
    assert len(new) == length + sum(len(edit.words) - 1 for edit in edits)
    words = [[token.text for token in span] for span in spans]
    assert [[token.text for token in span] for span in new.spans["qa"]] == words
    assert [[token.text for token in ent] for ent in new.ents] == words[:1]
    assert [token.text for token in new if token.ent_iob == 0] == [token.text for token in doc if token.ent_iob == 0]


def test_a_word_takes_the_letter_case_of_the_one_it_replaces():
    assert [in_case_of("rapid", word) for word in ("quick", "Quick", "QUICK", "A")] == ["rapid", "Rapid", "RAPID", "Rapid"]


def test_lemmas_morphology_and_sentences_are_kept_if_every_word_stands_for_one():
    """Otherwise the original document stays, too."""
    doc = Doc(NLP.vocab, words=["It", "failed", "quickly", "."], lemmas=["it", "fail", "quickly", "."],
              morphs=["", "Tense=Past", "", ""], sent_starts=[True, False, False, False])  # fmt: skip
    doc.cats = {"A": 1.0}
    assert annotations_of(doc) == {"textcat", "lemmas", "sentences"}
    same = rewritten(doc, [Edit(2, 3, ("slowly",))])
    assert annotations_of(same) == annotations_of(doc) and [token.lemma_ for token in same] == ["it", "fail", "quickly", "."]
    assert str(same[1].morph) == "Tense=Past" and [token.is_sent_start for token in same] == [True, False, False, False]
    (docs,) = changed_by(SynonymAugmenter(1.0, 1.0, 0, lambda word: ["very soon"] if word == "quickly" else []), doc)
    assert [annotations_of(new) for new in docs] == [annotations_of(doc), {"textcat", "lemmas"}]


def test_spans_of_other_components_are_kept_under_their_own_name():
    doc = gold_doc(NLP, TEXT, ents=ANNOTATED["ents"])
    doc.spans["sc"] = [doc[2:4]]
    assert annotations_of(doc) == {"ner", "spans"}
    new = rewritten(doc, [Edit(0, 1, ())], keep=("spans",))
    assert annotations_of(new) == {"spans"} and [span.text for span in new.spans["sc"]] == ["in Oslo"]
    assert "sc" not in rewritten(doc, [], keep=("ner",)).spans


def test_free_words_are_outside_of_spans_and_of_unannotated_parts():
    doc = gold_doc(NLP, TEXT, **ANNOTATED)
    assert [doc[i].text for i in free_words(doc)] == ["in", "failed", "quickly", "and", "was", "not", "replaced"]
    partly = NLP.make_doc(TEXT)
    partly.set_ents([], missing=[partly[4:6]], default="outside")
    assert "failed" not in [partly[i].text for i in free_words(partly)]


def test_an_edit_over_part_of_an_unannotated_stretch_keeps_the_rest_unannotated():
    doc = NLP.make_doc("one two three four five")
    doc.set_ents([], missing=[doc[1:4]], default="outside")
    new = rewritten(doc, [Edit(0, 2, ("x",))])
    assert [token.ent_iob_ for token in new] == ["O", "", "", "O"]
