"""What is found before training: heads that overwrite each other, scores that nobody reports, annotation that would be lost."""

import pytest
import spacy
from conftest import HEADS, gold_doc, make_nlp, sample_examples
from spacy.training import Example
from spacy.util import registry

from mtl.errors import UserError
from mtl.registry import heads_of
from mtl.sampling.augmented import augmented
from mtl.tasks.checks import check_augmenters, check_score_weights

TEXT = "The pump failed in Oslo."


def add_second(nlp, head, **settings):
    nlp.add_pipe(HEADS[head], name="second", config=settings)
    nlp.get_pipe("second").initialize(lambda: sample_examples(nlp), nlp=nlp)


@pytest.mark.parametrize(
    "head, settings, place",
    [
        ("textcat", {}, r"doc\.cats\['A'\], doc\.cats\['B'\]"),
        ("tagger", {}, r"token\.tag_"),
        ("regressor", {}, r"doc\._\.score"),
        ("span_classifier", {}, r"doc\.spans\['attributes'\]"),
    ],
)
def test_two_heads_that_would_write_to_one_place_are_refused(tiny, head, settings, place):
    nlp = make_nlp(tiny(), heads=(head,))
    with pytest.raises(UserError, match=f"the heads {head!r} and 'second' would both write {place}"):
        add_second(nlp, head, **settings)


def test_two_heads_with_other_labels_share_a_pipeline_and_are_scored_on_their_own(tiny):
    nlp = make_nlp(tiny(), heads=("textcat",))

    def others():
        return [
            Example(nlp.make_doc(TEXT), gold_doc(nlp, TEXT, cats=cats)) for cats in ({"C": 1.0, "D": 0.0}, {"C": 0.0, "D": 1.0})
        ]

    before = nlp(TEXT).cats
    nlp.add_pipe("mtl_textcat", name="second")
    nlp.get_pipe("second").initialize(others, nlp=nlp)
    assert {label: nlp(TEXT).cats[label] for label in before} == pytest.approx(before)
    first, both = scored(nlp, []), scored(nlp, others())
    assert first == both and first["cats_accuracy"] is not None


def scored(nlp, extra):
    examples = [*sample_examples(nlp), *extra]
    for example in examples:
        example.predicted = nlp(example.reference.text)
    return nlp.get_pipe("textcat").score(examples)


@pytest.mark.parametrize(
    "head, settings, name",
    [
        ("textcat", {"exclusive": False}, "cats_accuracy"),
        ("tagger", {}, "tag_f"),
        ("regressor", {"key": "grade"}, "score_mae"),
        ("qa", {}, "ents_f"),
        ("ner", {}, "ents_typo"),
    ],
)
def test_a_weight_for_a_score_that_nobody_reports_is_an_error_at_the_start(tiny, head, settings, name):
    nlp = spacy.blank("en")
    nlp.add_pipe("mtl_transformer", name="transformer")
    nlp.add_pipe(HEADS[head], name=head, config=settings)
    weights = dict.fromkeys(nlp.config["training"]["score_weights"])
    nlp.config["training"]["score_weights"] = {**weights, name: 1.0}
    with pytest.raises(UserError, match=rf"\[training.score_weights\] {name}: no component .* the scores there are "):
        check_score_weights(nlp)


@pytest.mark.parametrize("head", HEADS)
def test_every_score_that_a_head_names_is_one_that_it_reports(tiny, head):
    nlp = make_nlp(tiny(), heads=(head,))
    scores = nlp.evaluate(sample_examples(nlp))
    assert nlp.get_pipe(head).score_names() - set(scores) <= {"cats_macro_auc", "qa_f1_unanswerable"}


AUGMENTERS = {
    "lower_case": {"@augmenters": "spacy.lower_case.v1", "level": 1.0},
    "orth_variants": {"@augmenters": "spacy.orth_variants.v1", "level": 1.0, "lower": 1.0,
                      "orth_variants": {"single": [], "paired": []}},
}  # fmt: skip


@pytest.mark.parametrize("augmenter", AUGMENTERS)
def test_spacys_augmenters_keep_the_annotation_of_every_head_in_our_reader(tiny, augmenter):
    nlp = make_nlp(tiny())
    augment = registry.resolve({"a": AUGMENTERS[augmenter]})["a"]
    for example in sample_examples(nlp):
        for changed in augmented(nlp, example, augment):
            assert changed.reference.text == example.reference.text.lower()
            for head in heads_of(nlp).values():
                assert head.is_annotated(changed.reference) == head.is_annotated(example.reference)
                assert head.task.signature(changed.reference) == head.task.signature(example.reference)


def test_an_augmenter_that_changes_tokens_is_named_once_for_each_head_it_takes_annotation_from(tiny, caplog):
    nlp = make_nlp(tiny(), heads=("qa",))

    def augment(nlp, example):
        doc = nlp.make_doc("Another text of other length, with other words.")
        yield Example(nlp.make_doc(doc.text), doc)

    for example in sample_examples(nlp)[:3]:
        assert len(list(augmented(nlp, example, augment))) == 1
    assert caplog.text.count("drops the annotation for 'qa'") == 1


@pytest.mark.parametrize("head", HEADS)
def test_an_augmenter_in_spacys_reader_is_refused_where_it_drops_annotation(tiny, head):
    nlp = make_nlp(tiny(), heads=(head,))
    nlp.config["corpora"] = {"train": {"@readers": "spacy.Corpus.v1", "augmenter": AUGMENTERS["lower_case"]}}
    if head in ("textcat", "ner", "tagger"):
        check_augmenters(nlp, nlp.get_pipe(head), lambda: sample_examples(nlp))
    else:
        with pytest.raises(UserError, match=rf"\[corpora.train.augmenter\] spacy.lower_case.v1: it would drop .* {head!r}"):
            check_augmenters(nlp, nlp.get_pipe(head), lambda: sample_examples(nlp))


def test_a_category_that_is_added_to_a_trained_head_holds_nowhere(tiny):
    for exclusive in (True, False):
        nlp = make_nlp(tiny(), heads=("textcat", "ner"), textcat={"exclusive": exclusive})
        nlp.get_pipe("textcat").add_label("NEW")
        nlp.get_pipe("ner").add_label("NEW")
        for doc in nlp.pipe([TEXT, "Nothing was found.", "A valve at Oslo was bad."]):
            assert doc.cats["NEW"] < 0.05 and "NEW" not in {ent.label_ for ent in doc.ents}


def test_blocked_tokens_get_no_entity(tiny):
    nlp = make_nlp(tiny(), heads=("ner",))
    doc = nlp.make_doc(TEXT)
    doc.set_ents([], blocked=[doc[1:2], doc[4:5]], default="missing")
    doc = nlp.get_pipe("ner")(doc)
    assert not doc[1].ent_type and not doc[4].ent_type and [doc[i].ent_iob_ for i in (1, 4)] == ["B", "B"]
    assert doc.to_bytes()


def test_asking_a_doc_that_several_pipelines_could_answer_says_so(tiny):
    first = make_nlp(tiny(), heads=("qa",))
    second = spacy.blank("en", vocab=first.vocab)
    second.add_pipe("mtl_transformer", name="transformer")
    second.add_pipe("mtl_qa", name="qa")
    second.from_bytes(first.to_bytes())
    doc = first.make_doc(TEXT)
    with pytest.raises(UserError, match="several pipelines have this Doc's vocabulary"):
        doc._.ask("What failed?")
    for nlp in (first, second):
        assert nlp(first.make_doc(TEXT))._.ask("What failed?").question == "What failed?"
