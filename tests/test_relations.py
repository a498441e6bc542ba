"""`mtl_relations`: the encoder relates tokens as a teacher's does, whatever the widths and subwords of the two."""

import json

import pytest
import spacy
import torch
from conftest import TEXTS, make_nlp, sample_examples, save_tiny
from spacy.training import Example
from test_student import distill, project  # noqa: F401

from mtl.errors import UserError
from mtl.tasks.relations.module import Relations
from mtl.tasks.teacher import TeacherSettings
from mtl.training.optimizer import adamw


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A pipeline with a wider encoder and another vocabulary than the student's."""
    folder = tmp_path_factory.mktemp("relations")
    make_nlp(save_tiny("roberta", folder / "encoder", hidden_size=48), ("ner",)).to_disk(folder / "pipeline")
    return str(folder / "pipeline")


def student(encoder, teachers, **settings):
    """A pipeline with no head but this one, and texts to learn from."""
    nlp = make_nlp(encoder, heads=())
    nlp.add_pipe("mtl_relations", name="relations", config={"relation_heads": 4, **settings})
    given = TeacherSettings(teachers) if teachers else None
    nlp.get_pipe("relations").initialize(lambda: sample_examples(nlp), nlp=nlp, teacher=given)
    return nlp


def plain(nlp):
    return [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in TEXTS if text.strip()]


def loss_of(nlp, step=False):
    losses = {}
    sgd = adamw(learn_rate=3e-3) if step else None
    nlp.get_pipe("relations").update(plain(nlp), losses=losses, sgd=sgd)
    nlp.get_pipe("transformer").update(plain(nlp), losses=losses, sgd=sgd)
    return losses["relations"]


def test_relations_are_products_of_the_parts_of_vectors():
    module = Relations(4, 2)
    vectors = torch.tensor([[1.0, 0, 2, 0], [0, 1, 0, 2], [3, 0, 1, 0]])
    first, second = module(vectors, torch.tensor([2, 1]).numpy())
    root = 2**0.5
    assert first[:2].tolist() == [[pytest.approx(1 / root), 0.0], [0.0, pytest.approx(1 / root)]]
    assert second[0, 0] == pytest.approx(4 / root) and first[2, 0] == pytest.approx(9 / root)
    assert first[2, 1] < -1000  # the second item has one token


def test_a_student_learns_the_relations_of_a_teacher_of_another_width(tiny, teacher):
    nlp = student(tiny("bert"), [teacher])
    optimizer = adamw(learn_rate=3e-3)
    losses = []
    for _ in range(30):
        step = {}
        nlp.update(plain(nlp), sgd=optimizer, losses=step)
        losses.append(step["relations"])
    least = _entropy(nlp)
    assert losses[-1] - least < (losses[0] - least) / 2


def _entropy(nlp):
    """What the loss cannot fall below: the entropy of the teacher's relations."""
    members = [nlp.get_pipe("relations").teacher.targets(example) for example in plain(nlp)]
    tables = [torch.cat([(p * p.clamp_min(1e-9).log()).sum(-1) for p in targets[0].probabilities]) for targets in members]
    return -float(torch.cat(tables).mean())


def test_it_learns_from_every_document_and_predicts_nothing(tiny, teacher):
    nlp = student(tiny("bert"), [teacher])
    examples = sample_examples(nlp)  # labelled for other heads
    losses = {}
    nlp.update(examples, sgd=adamw(learn_rate=1e-3), losses=losses)
    assert losses["relations"] > 0
    doc = nlp("The pump failed.")
    assert not doc.ents and not doc.cats and not doc.spans
    assert nlp.evaluate(examples).get("relations_score") is None


def test_it_is_saved_without_weights_and_loads(tiny, teacher, tmp_path):
    nlp = student(tiny("bert"), [teacher])
    nlp.to_disk(tmp_path / "nlp")
    loaded = spacy.load(tmp_path / "nlp")
    assert loaded.pipe_names == ["transformer", "relations"] and loaded("The pump failed.").text
    assert loaded.get_pipe("relations").parameters() == {}


@pytest.mark.parametrize(
    "settings, given, words",
    [
        ({}, False, ["'relations' learns from a teacher alone", "[initialize.components.relations.teacher]"]),
        ({"relation_heads": 5}, True, ["relation_heads = 5 does not divide"]),
        ({"relation_heads": 0}, True, ["components.relations.relation_heads = 0"]),
        ({"max_tokens": 1}, True, ["components.relations.max_tokens = 1"]),
    ],
)
def test_what_cannot_work_is_named(tiny, teacher, settings, given, words):
    with pytest.raises(UserError) as error:
        student(tiny("bert"), [teacher] if given else [], **settings)
    assert all(word in str(error.value) for word in words)


def test_long_documents_are_related_up_to_a_limit(tiny, teacher):
    nlp = student(tiny("bert"), [teacher], max_tokens=4)
    examples = plain(nlp)
    (targets,) = nlp.get_pipe("relations").teacher.targets(examples[0])
    assert len(targets.names.rows) == 4 and targets.probabilities[0].shape == (4, 4)


def test_a_distilled_student_is_saved_without_it(project, tmp_path, capsys):  # noqa: F811
    distill(project, "--text", project / "domain.txt", "--auxiliary", "relations", "--epochs", "4", "--out", tmp_path / "out",
            encoder="teacher_encoder")  # fmt: skip
    nlp = spacy.load(tmp_path / "out" / "student")
    assert nlp.pipe_names == ["transformer", "textcat", "ner", "qa"]
    assert "relations" not in (tmp_path / "out" / "student" / "config.cfg").read_text()
    assert "LOSS RELA" in capsys.readouterr().out and json.loads((tmp_path / "out" / "distill.json").read_text())["texts"] == 9
    with pytest.raises(UserError, match="--auxiliary masked_lm: teachers teach no such task; there are relations"):
        distill(project, "--text", project / "domain.txt", "--auxiliary", "masked_lm", "--out", tmp_path / "other")
