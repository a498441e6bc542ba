"""Entities whose edges lie inside tokens: kept as characters, learned by finer tokens, and scored."""

import json

import numpy as np
import pytest
import spacy
from conftest import make_nlp, overfit
from spacy.tokens import DocBin
from spacy.training import Example

from mtl.cli.app import app
from mtl.data.docs import read_docs, record_to_doc
from mtl.data.records import Entity, Record, Report
from mtl.data.tokenizer import make_tokenizer
from mtl.errors import UserError
from mtl.tasks.ner.component import score_ner
from mtl.tasks.ner.gold import allowed_tags, unannotated
from mtl.tasks.ner.offsets import character_scores, gold_entities, off_tokens, split_characters
from mtl.tasks.ner.task import NERTask

TEXT = "A puromycin (PAN)-induced nephrosis and Na+-K+ in Oslo."
ENTITIES = [(2, 11, "DRUG"), (13, 16, "DRUG"), (26, 35, "DISEASE"), (40, 43, "DRUG"), (44, 46, "DRUG"), (50, 54, "LOC")]
SPLITS = "()+-"


def gold(nlp, text=TEXT, entities=ENTITIES):
    record = Record(text, "here", entities=[Entity(*entity) for entity in entities])
    return record_to_doc(record, nlp, Report())


def finer(nlp=None):
    nlp = nlp or spacy.blank("en")
    nlp.tokenizer = make_tokenizer(split_at=SPLITS)(nlp)
    return nlp


def test_entities_inside_tokens_are_kept_as_characters_and_survive_a_docbin():
    nlp = spacy.blank("en")
    doc = gold(nlp)
    assert [ent.text for ent in doc.ents] == ["puromycin", "nephrosis", "Oslo"]
    assert off_tokens(doc) == [(13, 16, "DRUG"), (40, 43, "DRUG"), (44, 46, "DRUG")]
    (loaded,) = DocBin().from_bytes(DocBin(docs=[doc]).to_bytes()).get_docs(nlp.vocab)
    assert gold_entities(loaded) == ENTITIES and NERTask().labels(loaded) == {"DRUG", "DISEASE", "LOC"}
    assert unannotated(loaded) == []  # all that these tokens hold is known
    plain = gold(nlp, entities=ENTITIES[:1])
    assert off_tokens(plain) == [] and "entities_off_tokens" not in plain.spans


def test_finer_tokens_learn_them_and_know_what_is_outside():
    """The reference has spaCy's own tokens, and the predicted Doc finer ones."""
    reference = gold(spacy.blank("en"))
    nlp = finer()
    predicted = nlp.make_doc(TEXT)
    labels = ["DISEASE", "DRUG", "LOC"]
    allowed = allowed_tags(Example(predicted, reference), labels, np.arange(len(predicted)))
    assert (allowed.sum(1) == 1).all()  # every tag is known
    by_text = {token.text: allowed[token.i].argmax() for token in predicted}
    assert by_text["PAN"] == by_text["Na"] == by_text["K"] == 3 and by_text["+"] == 4 and by_text["induced"] == 0
    coarse = spacy.blank("en").make_doc(TEXT)
    allowed = allowed_tags(Example(coarse, reference), labels, np.arange(len(coarse)))
    assert {token.text for token in coarse if allowed[token.i].all()} == {"PAN)-induced", "Na+-K+"}


@pytest.mark.parametrize(
    "text", ["a-b (c)-d e/f] -x y- 1.5 Na+ http://a.b/c-d", "(-)-menthol", "--", "-", "a--b", "don't-do it."]
)
def test_finer_tokens_are_the_same_text_and_split_at_every_character(text):
    doc = finer().make_doc(text)
    assert doc.text == text
    assert all(len(token.text) == 1 or not set(token.text) & set(SPLITS) or "://" in token.text for token in doc)


def test_a_pipeline_keeps_its_finer_tokens(tmp_path):
    nlp = spacy.blank("en", config={"nlp": {"tokenizer": {"@tokenizers": "mtl.Tokenizer.v1", "split_at": "-"}}})
    nlp.to_disk(tmp_path / "nlp")
    assert [token.text for token in spacy.load(tmp_path / "nlp")("PAN-induced")] == ["PAN", "-", "induced"]
    with pytest.raises(UserError, match=r"nlp.tokenizer.split_at = 'a-': give punctuation alone"):
        make_tokenizer(split_at="a-")


def test_scores_by_characters_count_what_tokens_cannot_hold():
    nlp = spacy.blank("en")
    reference = gold(nlp)
    perfect = finer().make_doc(TEXT)
    perfect.ents = [perfect.char_span(start, end, label) for start, end, label in ENTITIES]
    coarse = nlp.make_doc(TEXT)
    coarse.ents = [coarse.char_span(ent.start_char, ent.end_char, ent.label_) for ent in reference.ents]
    wrong = finer().make_doc(TEXT)
    offsets = [*ENTITIES[:-1], (18, 25, "DRUG")]  # "induced" instead of Oslo
    wrong.ents = sorted(wrong.char_span(start, end, label) for start, end, label in offsets)
    scores = [score_ner([Example(predicted, reference)]) for predicted in (perfect, coarse, wrong)]
    assert [score["ents_char_f"] for score in scores] == pytest.approx([1.0, 2 * 0.5 / 1.5, 5 / 6])
    assert scores[0]["ents_f"] == scores[1]["ents_f"] == 1.0  # by tokens they look the same
    assert character_scores([([], [])]) == {"p": 0.0, "r": 0.0, "f": 0.0}


def test_predictions_over_unannotated_tokens_are_neither_right_nor_wrong():
    nlp = spacy.blank("en")
    reference = gold(nlp, entities=ENTITIES[:1])
    reference.set_ents(list(reference.ents), missing=[reference[-2:-1]], default="outside")
    predicted = nlp.make_doc(TEXT)
    predicted.ents = [predicted.char_span(*ENTITIES[0]), predicted.char_span(*ENTITIES[-1])]
    assert score_ner([Example(predicted, reference)])["ents_char_f"] == 1.0


def test_the_characters_that_mend_most_are_found():
    nlp = spacy.blank("en")
    docs = [gold(nlp), gold(nlp, "An X)-induced pain.", [(3, 4, "DRUG")]), gold(nlp, "vitamin D.", [(0, 9, "DRUG")])]
    assert len(off_tokens(docs[2])) == 1 and split_characters(docs) in (")+", ")+-", ")-", "+-")
    tokenizer = make_tokenizer(split_at=split_characters(docs))(spacy.blank("en"))
    fitting = [tokenizer(doc.text).char_span(start, end) is not None for doc in docs for start, end, _ in off_tokens(doc)]
    assert fitting == [True, True, True, True, False]  # the full stop stays where it is
    assert split_characters([gold(nlp, "vitamin D.", [(0, 9, "DRUG")])]) == "" and split_characters([]) == ""


def test_convert_says_what_to_set(tmp_path, capsys):
    rows = [{"text": TEXT, "entities": [list(entity) for entity in ENTITIES]}]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    app(["convert", str(tmp_path / "train.jsonl"), "--out", str(tmp_path / "out")], standalone_mode=False)
    assert '3 of the 3 entities off token boundaries can be learned with split_at = "' in capsys.readouterr().out
    (doc,) = read_docs(tmp_path / "out" / "train.spacy", spacy.blank("en").vocab)
    assert gold_entities(doc) == ENTITIES


def test_a_pipeline_with_finer_tokens_predicts_them(tiny):
    def examples(nlp):
        return [Example(nlp.make_doc(TEXT), gold(spacy.blank("en")))]

    nlp = make_nlp(tiny(), ("ner",), examples=examples)
    finer(nlp)
    overfit(nlp, examples(nlp), steps=80)
    scores = nlp.evaluate(examples(nlp))
    assert scores["ents_char_f"] == 1.0 and "PAN" in [ent.text for ent in nlp(TEXT).ents]
