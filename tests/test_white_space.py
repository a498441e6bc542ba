"""White space is never gold, never predicted, and tagged as what it is, whatever the encoder makes of it."""

import numpy as np
import pytest
from conftest import FAMILIES, gold_doc, make_nlp
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Span, SpanGroup
from spacy.training import Example

from mtl.data.docs import trimmed_offsets
from mtl.data.records import Entity, GoldAnswer, Question, Record, Report
from mtl.encoder.model.subwords import TokenizedText, _blank
from mtl.tasks.ner.component import score_ner
from mtl.tasks.ner.task import set_entities
from mtl.tasks.qa.gold import gold_texts, set_gold_questions
from mtl.training.optimizer import adamw

BLANKS = ["\n", "\n\n", "  \n", "\t", "\u00a0", "\u3000", "\r\n", "\u2028"]
TEXT = "On  Monday \n\n the pump\u00a0\u00a0 failed \t again .\n"


def loss_of(nlp, head, example):
    return nlp.update([example], sgd=False, losses={})[head]


@pytest.fixture(scope="module")
def nlp(tiny):
    return make_nlp(tiny())


@given(st.lists(st.sampled_from(["pump", "5 mg", "é", *BLANKS]), min_size=1, max_size=8))
def test_trimmed_offsets_select_the_same_text_without_its_edges(parts):
    text = "".join(parts)
    start, end = trimmed_offsets(text, 0, len(text))
    assert text[start:end] == text.strip()


@given(st.lists(st.sampled_from(["pump", "\U0001f469", *BLANKS]), min_size=1, max_size=8))
def test_which_tokens_are_blank(parts):
    ends = np.cumsum([len(part) for part in parts])
    text = TokenizedText("".join(parts), ends - [len(part) for part in parts], ends)
    both = _blank(
        [text, text], np.append(text.starts, text.starts + len(text.text) + 1), np.append(ends, ends + len(text.text) + 1)
    )
    assert both.tolist() == [part.isspace() for part in parts] * 2


@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.parametrize("before, after", [(True, False), (False, True), (True, True)])
def test_readers_trim_answers_and_entities_and_count_them(nlp, blank, before, after):
    part = (blank if before else "") + "Monday." + (blank if after else "")
    text = f"It failed on{part}The crew left."
    start = text.index(part)
    doc, report = nlp.make_doc(text), Report()
    record = Record(text, "file, line 1")
    set_gold_questions(doc, record, [Question("q", "When?", [GoldAnswer(start, part)])], report)
    assert gold_texts(doc, "q") == ["Monday."] and report.counts["answers trimmed of white space"] == 1
    set_entities(doc, record, [Entity(start, start + len(part), "DAY")], report)
    assert report.counts["entities trimmed of white space"] == 1 and not any(ent.text != ent.text.strip() for ent in doc.ents)


@pytest.mark.parametrize("blank", BLANKS)
def test_readers_leave_out_answers_and_entities_of_blanks_alone(nlp, blank):
    text = f"It failed.{blank}The crew left."
    doc, report, record = nlp.make_doc(text), Report(), Record(text, "file, line 1")
    set_gold_questions(doc, record, [Question("q", "When?", [GoldAnswer(10, blank)])], report)
    set_entities(doc, record, [Entity(10, 10 + len(blank), "DAY")], report)
    assert not doc.ents and not len(doc.spans["qa"]) and doc.spans["qa"].attrs["questions"] == {}
    assert report.counts["answers of white space left out"] == report.counts["entities of white space left out"] == 1
    assert len(report.notes) == 2 and all("file, line 1" in note for note in report.notes)


def with_answer(nlp, start, end):
    doc = nlp.make_doc(TEXT)
    spans = [Span(doc, start, end, label="answer", span_id="q")]
    doc.spans["qa"] = SpanGroup(doc, name="qa", spans=spans, attrs={"questions": {"q": "When?"}})
    return Example(nlp.make_doc(TEXT), doc)


def with_entity(nlp, start, end):
    doc = nlp.make_doc(TEXT)
    doc.set_ents([Span(doc, start, end, label="PART")], default="outside")
    return Example(nlp.make_doc(TEXT), doc)


@pytest.mark.parametrize("make, head", [(with_answer, "qa"), (with_entity, "ner")])
@pytest.mark.parametrize("family", FAMILIES)
def test_gold_of_other_tools_is_learned_without_white_space_at_its_edges(tiny, family, make, head):
    nlp = make_nlp(tiny(family))
    words = [token.is_space for token in nlp.make_doc(TEXT)]
    start = words.index(False)
    end = next(i for i in range(start + 1, len(words)) if words[i])  # the token of blanks behind the first words
    assert loss_of(nlp, head, make(nlp, start, end + 1)) == pytest.approx(loss_of(nlp, head, make(nlp, start, end)), rel=1e-4)
    nlp.get_pipe("transformer").flush()


def test_an_answer_of_blanks_alone_teaches_nothing_and_an_entity_of_them_is_none(nlp):
    blank = next(token.i for token in nlp.make_doc(TEXT) if token.is_space)
    assert loss_of(nlp, "qa", with_answer(nlp, blank, blank + 1)) == 0.0
    none = Example(nlp.make_doc(TEXT), gold_doc(nlp, TEXT, ents=[]))
    assert loss_of(nlp, "ner", with_entity(nlp, blank, blank + 1)) == pytest.approx(loss_of(nlp, "ner", none))
    nlp.get_pipe("transformer").flush()


def test_entities_are_scored_without_white_space_at_their_edges(nlp):
    reference = with_entity(nlp, 2, 4).reference
    assert reference[3].is_space and not reference[2].is_space
    predicted = nlp.make_doc(TEXT)
    predicted.set_ents([Span(predicted, 2, 3, label="PART")])
    assert score_ner([Example(predicted, reference)])["ents_f"] == 1.0
    assert [ent.text for ent in reference.ents] == [reference[2:4].text]  # unchanged


@pytest.mark.parametrize("family", FAMILIES)
def test_no_head_predicts_white_space_after_overfitting_to_it(tiny, family):
    """Encoders whose subwords hold blanks have vectors for them; BERT has none."""
    nlp = make_nlp(tiny(family), heads=("ner", "qa"))
    length = len(nlp.make_doc(TEXT))
    optimizer = adamw(3e-3)
    for _ in range(15):
        nlp.update([with_answer(nlp, 1, length), with_entity(nlp, 1, length)], sgd=optimizer)
    doc = nlp(TEXT)
    for span in [*doc.ents, *(answer.span for answer in doc._.ask("When?", n=20) if answer.span is not None)]:
        assert span.text == span.text.strip() != ""


@settings(max_examples=20, deadline=None)
@given(blanks=st.lists(st.sampled_from(BLANKS), min_size=1, max_size=4))
@pytest.mark.parametrize("attr", ["POS", "TAG"])
def test_white_space_is_tagged_as_white_space(tagger_nlps, attr, blanks):
    for nlp in tagger_nlps[attr]:
        doc = nlp("The pump" + " failed ".join(blanks) + "again")
        tags = {token.pos_ if attr == "POS" else token.tag_ for token in doc if token.is_space}
        assert tags <= ({"SPACE"} if attr == "POS" else {"_SP"})


@pytest.fixture(scope="module")
def tagger_nlps(tiny):
    def examples(nlp, names):
        text = "The pump failed ."
        return [Example(nlp.make_doc(text), gold_doc(nlp, text, tags=names)) for _ in range(2)]

    pipelines = {}
    for attr, names in (("POS", ["DET", "NOUN", "VERB", "PUNCT"]), ("TAG", ["D", "N", "V", "."])):

        def annotated(nlp, names=names, attr=attr):
            made = examples(nlp, names)
            for example in made if attr == "POS" else ():
                for token, name in zip(example.reference, names):
                    token.pos_ = name
            return made

        pipelines[attr] = [
            make_nlp(tiny(family), heads=("tagger",), examples=annotated, tagger={"attr": attr}) for family in ("bert", "roberta")
        ]
    return pipelines
