"""`mtl_tagger`: a tag for each token."""

import pytest
import spacy
import torch
from conftest import make_nlp, overfit
from spacy.tokens import Doc
from spacy.training import Example

from mtl.errors import UserError
from mtl.training.optimizer import adamw

ROWS = [("The pump failed in Oslo .", "D N V P N ."), ("A valve leaked .", "D N V ."), ("Crew flew .", "N V .")]
NAMES = {"D": "DET", "N": "NOUN", "V": "VERB", "P": "ADP", ".": "PUNCT"}


def examples_of(nlp, attr="TAG", rows=ROWS):
    examples = []
    for text, tags in rows:
        words = text.split()
        values = [(tag if attr == "TAG" else NAMES[tag]) if tag != "_" else "" for tag in tags.split()]
        reference = Doc(nlp.vocab, words=words, **{"tags" if attr == "TAG" else "pos": values})
        examples.append(Example(Doc(nlp.vocab, words=words), reference))
    return examples


def with_tagger(tiny, attr="TAG", **settings):
    nlp = make_nlp(tiny(), heads=(), examples=examples_of)
    nlp.add_pipe("mtl_tagger", name="tagger", config={"attr": attr, **settings})
    nlp.get_pipe("tagger").initialize(lambda: examples_of(nlp, attr), nlp=nlp)
    return nlp


@pytest.mark.parametrize("attr", ["TAG", "POS"])
def test_it_overfits_and_predicts_the_same_once_loaded(tiny, tmp_path, attr):
    nlp = with_tagger(tiny, attr)
    overfit(nlp, examples_of(nlp, attr), steps=80)
    assert nlp.evaluate(examples_of(nlp, attr))[f"{attr.lower()}_acc"] == 1.0
    nlp.to_disk(tmp_path / "out")
    again = spacy.load(tmp_path / "out")
    docs = [Doc(again.vocab, words=text.split()) for text, _ in ROWS]
    for doc, (_, tags) in zip(again.pipe([*docs, Doc(again.vocab)]), [*ROWS, ("", "")]):
        expected = tags.split() if attr == "TAG" else [NAMES[tag] for tag in tags.split()]
        assert [token.tag_ if attr == "TAG" else token.pos_ for token in doc] == expected
    assert doc.ents == () and again.get_pipe("tagger").labels == nlp.get_pipe("tagger").labels


def test_tokens_without_a_tag_teach_nothing(tiny):
    nlp = with_tagger(tiny)
    head, rows = nlp.get_pipe("tagger"), [("The pump failed in Oslo .", "D N V P N ."), ("A valve leaked .", "D _ V _")]
    with torch.no_grad():
        expected, count = 0.0, 0
        for text, tags in rows:
            doc = nlp.get_pipe("transformer")(Doc(nlp.vocab, words=text.split()))
            logits = head.module(nlp.get_pipe("transformer").vectors([doc], "tagger").vectors)
            for row, tag in zip(logits.log_softmax(-1), tags.split()):
                if tag != "_":
                    expected, count = expected - row[head.labels.index(tag)].item(), count + 1
    losses = nlp.update(examples_of(nlp, rows=rows), sgd=adamw(), losses={})
    assert losses["tagger"] == pytest.approx(expected / count, rel=1e-4)
    untagged = [Example(Doc(nlp.vocab, words=["Oslo"]), Doc(nlp.vocab, words=["Oslo"]))]
    assert nlp.update(untagged, sgd=adamw(), losses={})["tagger"] == 0.0


def test_a_tag_may_be_added_and_the_others_stay(tiny):
    nlp = with_tagger(tiny)
    head = nlp.get_pipe("tagger")
    before = head.module.output.weight.clone()
    assert head.add_label("X") == 1 and head.add_label("X") == 0 and head.labels[-1] == "X"
    assert torch.equal(head.module.output.weight[:-1], before)


def test_unusable_settings_and_tags_are_refused(tiny):
    with pytest.raises(UserError, match=r"components.tagger.attr = 'LEMMA' is not known; allowed: 'TAG', 'POS'"):
        with_tagger(tiny, "LEMMA")
    with pytest.raises(UserError, match=r"'N' is not a universal part of speech; for other tags set .*attr = \"TAG\""):
        with_tagger(tiny, "POS").get_pipe("tagger").add_label("N")
