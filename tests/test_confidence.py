"""`mtl distill --student --min-precision`: how sure teachers have to be, by head, found on labelled documents."""

import pytest
import spacy
from conftest import sample_examples
from test_student import distill, project  # noqa: F401

from mtl.errors import UserError
from mtl.training.confidence import MIN_DOCUMENTS, is_right, least_confidence


def test_the_lowest_confidence_with_the_precision_is_taken():
    sure = [(0.9, 1.0)] * MIN_DOCUMENTS
    assert least_confidence([*sure, (0.5, 0.0)], 0.9) == 0.5  # 10 of 11
    assert least_confidence([*sure, (0.5, 0.0), (0.4, 0.0)], 0.9) == 0.5
    assert least_confidence([*sure, (0.5, 0.0), (0.5, 0.0)], 0.9) == 0.9  # the two are equally sure: both or none
    assert least_confidence([*sure, (0.6, 0.0), (0.5, 0.0), *[(0.4, 1.0)] * 9], 0.9) == 0.4  # right again further down
    assert least_confidence([(0.9, 0.5)] * 20, 0.9) is None
    assert least_confidence(sure[1:], 0.9) is None  # too few


@pytest.mark.parametrize("head", ["textcat", "ner", "qa"])
def test_a_document_is_right_if_all_of_it_is(project, head):  # noqa: F811
    """The teacher knows the examples by heart, and nothing of the same examples with other gold."""
    nlp = spacy.load(project / "teacher")
    references = [eg.reference for eg in sample_examples(nlp) if nlp.get_pipe(head).is_annotated(eg.reference)]
    assert sum(bool(is_right(nlp, head, doc)) for doc in references) >= len(references) - 1
    assert len(references) > 3
    doc = references[0].copy()
    doc.cats = {label: 1 - value for label, value in doc.cats.items()}
    doc.ents = [doc.char_span(4, 8, label="LOC")]
    for span in doc.spans["qa"]:
        span.id = 0
    doc.spans["qa"] = [spacy.tokens.Span(doc, 3, 5, span_id=span.id_) for span in references[0].spans["qa"]]
    doc.spans["qa"].attrs.update(references[0].spans["qa"].attrs)
    assert is_right(nlp, head, doc) is False


def test_heads_without_a_sure_teacher_learn_from_no_text(project, tmp_path, capsys):  # noqa: F811
    """One dev document is too few to say anything of."""
    distill(project, "--text", project / "domain.txt", "--labelled", project / "labelled.spacy", "--min-precision", "0.9",
            "--epochs", "2", "--out", tmp_path / "out")  # fmt: skip
    printed = capsys.readouterr().out
    assert "textcat: its documents cannot be called right or wrong one by one" in printed  # no exclusive labels
    for head in ("ner", "qa"):
        assert f"{head}: of 1 documents, none are right 90% of the time: no text teaches this head" in printed


def test_the_threshold_of_each_head_is_said_and_set(project, tmp_path, capsys, monkeypatch):  # noqa: F811
    from mtl.training import student

    seen = {}
    train = student.train_config

    def look(config, *arguments, **settings):
        seen.update({name: section.get("teacher", {}) for name, section in config["initialize"]["components"].items()})
        return train(config, *arguments, **settings)

    monkeypatch.setattr(student, "train_config", look)
    monkeypatch.setattr("mtl.training.confidence.MIN_DOCUMENTS", 4)
    distill(project, "--text", project / "domain.txt", "--dev", project / "labelled.spacy", "--min-precision", "0.8",
            "--epochs", "1", "--out", tmp_path / "out")  # fmt: skip
    printed = capsys.readouterr().out
    for head in ("ner", "qa"):
        assert 0 < seen[head]["min_confidence"] <= 1 and seen[head]["unlabelled_weight"] == 1.0
        assert f"{head}: from a confidence of {seen[head]['min_confidence']:.3g}, " in printed


def test_precision_and_confidence_exclude_each_other(project, tmp_path):  # noqa: F811
    with pytest.raises(UserError, match="give one of the two"):
        distill(project, "--text", project / "domain.txt", "--min-precision", "0.9", "--min-confidence", "0.5", "--out",
                tmp_path / "out")  # fmt: skip
