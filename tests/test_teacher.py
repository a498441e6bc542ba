"""Distillation: a finished pipeline teaches a head, and its share of the loss falls to 0."""

import math

import pytest
import spacy
import torch
from conftest import gold_doc, make_nlp, overfit, sample_examples, save_tiny
from spacy.training import Example

from mtl.errors import UserError
from mtl.tasks.loss import MIN_LOGIT, Loss, distillation_loss
from mtl.tasks.teacher import Teacher
from mtl.training.checkpoint import learned_state, restore_learned_state
from mtl.training.optimizer import adamw

HEADS = ("textcat", "ner", "qa")
TEXTS = ["The pump failed in Oslo.", "The valve leaked.", "A valve at Oslo was bad."]


@pytest.fixture(scope="module")
def teachers(tiny, tmp_path_factory):
    """A pipeline with three heads that knows the examples; its width differs from its students'."""
    folder = tmp_path_factory.mktemp("teacher")
    wide = save_tiny("bert", folder / "encoder", hidden_size=48)
    nlp = make_nlp(wide, HEADS)
    overfit(nlp, steps=80)
    nlp.to_disk(folder / "pipeline")
    return str(folder / "pipeline")


def student(tiny, head, teacher, steps, examples=sample_examples):
    nlp = make_nlp(tiny(), heads=(head,), examples=examples)
    nlp.get_pipe(head).initialize(lambda: examples(nlp), nlp=nlp, teacher=teacher, teacher_steps=steps)
    return nlp


def wrong(nlp):
    """The examples with annotation that contradicts the teacher, or lacks what it knows."""
    examples = []
    for example in sample_examples(nlp):
        reference = example.reference
        cats = {label: 1 - value for label, value in reference.cats.items()} or None
        ents = [] if reference.has_annotation("ENT_IOB") else None
        group = reference.spans.get("qa") if "qa" in reference.spans else None
        qas = dict.fromkeys(group.attrs["questions"].values()) if group is not None else None
        gold = gold_doc(nlp, example.text, cats, ents, qas)
        if ents is not None and example.text == TEXTS[0]:
            gold.set_ents([gold[1:2].char_span(0, 4, label="PART"), gold[4:5].char_span(0, 4, label="LOC")], default="outside")
        examples.append(Example(nlp.make_doc(example.text), gold))
    return examples


@pytest.mark.parametrize("head", HEADS)
def test_a_student_learns_from_the_teacher_and_not_from_wrong_annotation(tiny, teachers, head):
    """The annotation is wrong, and the teacher's share is nearly 1 throughout."""
    nlp = student(tiny, head, teachers, 1_000_000, wrong)
    overfit(nlp, wrong(nlp), steps=120)
    teacher = spacy.load(teachers)
    scores, gold = nlp.evaluate(sample_examples(nlp)), teacher.evaluate(sample_examples(teacher))
    key = {"textcat": "cats_accuracy", "ner": "ents_f", "qa": "qa_f1"}[head]
    assert gold[key] > 0.9 and scores[key] > 0.85


def test_the_share_falls_linearly_and_the_loss_is_mixed(tiny, teachers):
    nlp = student(tiny, "textcat", teachers, 4)
    head, transformer = nlp.get_pipe("textcat"), nlp.get_pipe("transformer")
    overfit(nlp, steps=10)
    head.teacher = Teacher(teachers, head, 4)
    examples = [eg for eg in wrong(nlp) if eg.reference.cats]
    rows = list(enumerate(examples))
    with torch.no_grad():
        loss = head.loss(rows, transformer.batch(examples), 0.0)
        gold, taught = loss.mean.item(), distillation_loss(loss, head.teacher.logits(rows)).mean.item()
    assert gold != pytest.approx(taught, rel=1e-3)
    for step, share in enumerate((1.0, 0.75, 0.5, 0.25, 0.0, 0.0)):
        assert head.teacher.steps_done == step
        losses = nlp.update(examples, sgd=False, losses={})
        assert losses["textcat"] == pytest.approx((1 - share) * gold + share * taught, rel=1e-4)
    state = learned_state(head)
    head.teacher.steps_done = 0
    restore_learned_state(head, state)
    assert head.teacher.steps_done == 6


def test_each_document_is_shown_to_the_teacher_once(tiny, teachers):
    nlp = student(tiny, "qa", teachers, 100)
    encoder = nlp.get_pipe("qa").teacher.nlp.get_pipe("transformer").encoder
    examples = sample_examples(nlp)
    nlp.update(examples, sgd=adamw(1e-3))
    after_first_update = encoder.passes
    assert after_first_update > 0
    for _ in range(3):
        nlp.update(sample_examples(nlp), sgd=adamw(1e-3))
    assert encoder.passes == after_first_update


def test_the_cross_entropy_is_that_computed_by_hand():
    """Two tables for three examples. For the second the teacher has another number of rows; the third has a shorter text."""
    third = torch.tensor([[0.0, 0.0, -math.inf]])
    start = torch.cat([torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), third])
    student = Loss(torch.tensor(0.0), 3, (start, start), [0, 1, 2])
    assert [[len(table) for table in rows] for rows in student.by_example(4)] == [[1, 1], [1, 1], [1, 1], [0, 0]]
    teacher = [torch.tensor([[2.0, 0.0, 0.0]])] * 2, [torch.zeros(2, 3)] * 2, [torch.tensor([[1.0, 0.0]])] * 2
    loss = distillation_loss(student, teacher)
    first = -(teacher[0][0].softmax(-1) * start[:1].log_softmax(-1)).sum()
    last = -(torch.tensor([1.0, 0.0]).softmax(-1) * torch.tensor([0.0, 0.0]).log_softmax(-1)).sum()
    assert loss.mean.item() == pytest.approx((first + last).item() / 2) and loss.count == 2
    assert distillation_loss(student, [[torch.zeros(0, 1)] * 2] * 3) is None and MIN_LOGIT < -1000


@pytest.mark.parametrize("head", HEADS)
def test_a_teacher_with_other_labels_teaches_by_its_decisions(tiny, teachers, head):
    """The student has one label more than the teacher; questions have no labels."""
    nlp = student(tiny, head, teachers, 100)
    pipe = nlp.get_pipe(head)
    teacher = pipe.teacher
    assert teacher.component.labels == pipe.labels
    if head != "qa":
        pipe.add_label("MORE")
        assert teacher.component.labels != pipe.labels
    nlp.update(sample_examples(nlp), sgd=adamw(1e-3))
    assert bool(teacher._references) == (head != "qa") and bool(teacher._logits) == (head == "qa")


def test_entities_that_the_teacher_doubts_are_left_unannotated(tiny, teachers):
    nlp = student(tiny, "ner", teachers, 10)
    teacher = nlp.get_pipe("ner").teacher
    doc = teacher.nlp(TEXTS[0])
    assert [ent.text for ent in doc.ents] == ["pump", "Oslo"]
    doc.spans["ner"].attrs["scores"] = [0.9, 0.3]
    reference = teacher.component.as_reference(doc)
    assert [ent.text for ent in reference.ents] == ["pump"]
    assert [token.text for token in reference if not token.ent_iob] == ["Oslo"]


def test_the_teacher_is_not_saved(tiny, teachers, tmp_path):
    nlp = student(tiny, "textcat", teachers, 10)
    nlp.to_disk(tmp_path / "out")
    assert spacy.load(tmp_path / "out").get_pipe("textcat").teacher is None
    assert teachers not in (tmp_path / "out" / "config.cfg").read_text()


def test_a_config_names_the_teacher(tiny, teachers):
    nlp = make_nlp(tiny(), heads=("textcat", "ner"))
    nlp.config["initialize"]["components"]["ner"] = {"teacher": teachers, "teacher_steps": 20}
    nlp.initialize(lambda: sample_examples(nlp))
    assert isinstance(nlp.get_pipe("ner").teacher, Teacher) and nlp.get_pipe("textcat").teacher is None


def test_an_unusable_teacher_is_refused(tiny, teachers, tmp_path):
    for settings, words in (
        ((str(tmp_path / "nowhere"), 5), "teacher = '.*nowhere': no such pipeline"),
        ((teachers, 0), "teacher and teacher_steps belong together"),
        ((teachers, -1), "teacher_steps = -1"),
    ):
        with pytest.raises(UserError, match=words):
            student(tiny, "textcat", *settings)
    other = make_nlp(tiny(), heads=("ner",))
    other.to_disk(tmp_path / "ner")
    with pytest.raises(UserError, match="it has no head of this kind; its components are transformer, ner"):
        student(tiny, "textcat", str(tmp_path / "ner"), 5)
