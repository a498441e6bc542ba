"""Teachers: finished pipelines whose predictions a head learns, beside the gold annotation or without any."""

import gc
import itertools
import re
from functools import partial

import numpy as np
import pytest
import spacy
import torch
from conftest import gold_doc, make_nlp, overfit, sample_examples, save_tiny
from spacy.tokenizer import Tokenizer
from spacy.tokens import Doc
from spacy.training import Example

from mtl.errors import UserError
from mtl.tasks import teacher as teachers_module
from mtl.tasks.ner.crf import crf_loss, soft_crf_loss
from mtl.tasks.outputs import Names, Outputs, Targets, averaged, soft_cross_entropy
from mtl.tasks.qa.gold import set_open_questions
from mtl.tasks.regressor.task import set_gold_number
from mtl.tasks.teacher import Teacher, TeacherSettings
from mtl.training.checkpoint import learned_state, restore_learned_state
from mtl.training.optimizer import adamw

HEADS = ("textcat", "ner", "qa")
SCORES = {"textcat": "cats_accuracy", "ner": "ents_f", "qa": "qa_f1"}
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


def student(tiny, head, pipelines, examples=sample_examples, **settings):
    nlp = make_nlp(tiny(), heads=(head,), examples=examples)
    pipelines = [pipelines] if isinstance(pipelines, str) else pipelines
    nlp.get_pipe(head).initialize(lambda: examples(nlp), nlp=nlp, teacher=TeacherSettings(pipelines, **settings))
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


def unlabelled(nlp):
    """The texts and questions of the examples, without any annotation."""
    examples = []
    for example in sample_examples(nlp):
        doc = nlp.make_doc(example.text)
        if "qa" in example.reference.spans:
            set_open_questions(doc, list(example.reference.spans["qa"].attrs["questions"].values()))
        examples.append(Example(nlp.make_doc(example.text), doc))
    return examples


@pytest.mark.parametrize("head", HEADS)
def test_a_student_learns_from_the_teacher_and_not_from_wrong_annotation(tiny, teachers, head):
    """The annotation is wrong, and the teacher's share is 1 throughout."""
    nlp = student(tiny, head, teachers, wrong, unlabelled_weight=0.0)
    overfit(nlp, wrong(nlp), steps=120)
    teacher = spacy.load(teachers)
    scores, gold = nlp.evaluate(sample_examples(nlp)), teacher.evaluate(sample_examples(teacher))
    assert gold[SCORES[head]] > 0.9 and scores[SCORES[head]] > 0.85


@pytest.mark.parametrize("head", HEADS)
def test_a_student_learns_from_text_without_labels(tiny, teachers, head):
    nlp = student(tiny, head, teachers)
    assert not any(nlp.get_pipe(head).is_annotated(example.reference) for example in unlabelled(nlp))
    overfit(nlp, unlabelled(nlp), steps=120)
    assert nlp.evaluate(sample_examples(nlp))[SCORES[head]] > 0.85


@pytest.mark.parametrize("head", HEADS)
def test_unlabelled_text_is_left_out_without_weight_or_without_a_confident_teacher(tiny, teachers, head):
    for settings in ({"unlabelled_weight": 0.0}, {"min_confidence": 1.0}):
        nlp = student(tiny, head, teachers, **settings)
        before = nlp.get_pipe(head).to_bytes()
        losses = nlp.update(unlabelled(nlp), sgd=adamw(1e-2), losses={})
        assert losses[head] == 0.0 and nlp.get_pipe(head).to_bytes() == before


def test_labelled_and_unlabelled_documents_count_by_their_numbers_and_the_weight(tiny, teachers):
    """Two documents with categories and three without: (2 gold + 3 weight * taught) / (2 + 3 weight)."""
    nlp = student(tiny, "textcat", teachers, start_share=0.0)
    overfit(nlp, steps=10)
    head = nlp.get_pipe("textcat")
    labelled = [eg for eg in sample_examples(nlp) if head.is_annotated(eg.reference)][:2]
    others = [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in TEXTS]
    gold, taught = (nlp.update(part, sgd=False, losses={})["textcat"] for part in (labelled, others))
    assert gold != pytest.approx(taught, rel=1e-2)
    for weight in (1.0, 0.25):
        head.teacher = Teacher(TeacherSettings([teachers], start_share=0.0, unlabelled_weight=weight), head)
        together = nlp.update([*labelled, *others], sgd=False, losses={})["textcat"]
        assert together == pytest.approx((2 * gold + 3 * weight * taught) / (2 + 3 * weight), rel=1e-4)


def test_the_share_changes_linearly_and_the_loss_is_mixed(tiny, teachers):
    nlp = student(tiny, "textcat", teachers)
    head, transformer = nlp.get_pipe("textcat"), nlp.get_pipe("transformer")
    overfit(nlp, steps=10)
    head.teacher = Teacher(TeacherSettings([teachers], steps=4, end_share=0.2), head)
    examples = [eg for eg in wrong(nlp) if eg.reference.cats]
    rows = list(enumerate(examples))
    with torch.no_grad():
        outputs = head.outputs(rows, transformer.batch(examples), 0.0)
        gold, taught = head.gold_loss(outputs, rows).mean.item(), head.teacher.loss(outputs, rows).mean.item()
    assert gold != pytest.approx(taught, rel=1e-3)
    for update, share in enumerate((1.0, 0.8, 0.6, 0.4, 0.2, 0.2)):
        assert head.teacher.updates == update and head.teacher.share == pytest.approx(share)
        losses = nlp.update(examples, sgd=False, losses={})
        assert losses["textcat"] == pytest.approx((1 - share) * gold + share * taught, rel=1e-4)
    state = learned_state(head)
    head.teacher.updates = 0
    restore_learned_state(head, state)
    assert head.teacher.updates == 6


def test_each_document_is_encoded_by_the_teacher_once_for_all_heads(tiny, teachers):
    nlp = make_nlp(tiny(), heads=("textcat", "ner"))
    for name in ("textcat", "ner"):
        nlp.get_pipe(name).initialize(lambda: sample_examples(nlp), nlp=nlp, teacher=TeacherSettings([teachers]))
    first, second = (nlp.get_pipe(name).teacher.members[0][0] for name in ("textcat", "ner"))
    assert first is second
    encoder = first.nlp.get_pipe("transformer").encoder
    before, examples = encoder.passes, unlabelled(nlp)
    nlp.update(examples, sgd=adamw(1e-3))
    texts = {example.text for example in examples}
    assert 0 < encoder.passes - before <= len(examples)  # the second head finds the first one's encodings
    after_first_update = encoder.passes
    for _ in range(3):
        nlp.update(unlabelled(nlp), sgd=adamw(1e-3))
    assert encoder.passes == after_first_update and len(nlp.get_pipe("ner").teacher._targets) == len(texts)


def test_what_is_remembered_is_limited(tiny, teachers, monkeypatch):
    nlp = student(tiny, "ner", teachers)
    teacher, examples = nlp.get_pipe("ner").teacher, unlabelled(nlp)
    sizes = [sum(table.numel() + 30 * len(table) for table in teacher.targets(example)[0].probabilities) for example in examples]
    assert teacher._cached == sum(sizes) and len(teacher._targets) == len({example.text for example in examples})
    monkeypatch.setattr(teachers_module, "MAX_CACHED", max(sizes))
    for example in unlabelled(nlp):
        teacher._targets.pop(teacher._key(example), None)
        expected = teacher.targets(example)
        assert teacher._cached <= max(sizes) and teacher.targets(example) is expected


def test_teachers_that_have_nothing_left_to_say_are_freed(tiny, teachers):
    gc.collect()
    nlp = student(tiny, "textcat", teachers, steps=2, unlabelled_weight=0.0)
    assert teachers in teachers_module._LOADED
    for _ in range(4):
        nlp.update(sample_examples(nlp), sgd=adamw(1e-3))
    gc.collect()
    assert teachers not in teachers_module._LOADED and not nlp.get_pipe("textcat").teacher.members


def named(rows, columns, *tables):
    owners = np.zeros(len(rows), dtype=int)
    return Outputs([torch.tensor(table) for table in tables], owners, lambda example: Names(rows, columns))


def test_the_cross_entropy_is_that_computed_by_hand():
    """Two tables, one of which has a column of padding; the temperature halves the logits and counts four times."""
    student = named(["r"], [["a", "b"], ["a", "b", "c"]], [[1.0, 0.0, -np.inf]], [[0.0, 2.0, 1.0]])
    target = Targets(Names(["r"], [["a", "b"], ["a", "b", "c"]]), [torch.tensor([[0.25, 0.75]]), torch.tensor([[0.1, 0.7, 0.2]])])
    first = -(torch.tensor([0.25, 0.75]) * torch.tensor([1.0, 0.0]).log_softmax(-1)).sum()
    second = -(torch.tensor([0.1, 0.7, 0.2]) * torch.tensor([0.0, 2.0, 1.0]).log_softmax(-1)).sum()
    loss = soft_cross_entropy(student, [[target]])
    assert loss.mean.item() == pytest.approx((first + second).item() / 2, rel=1e-5) and loss.count == 1
    warm = named(["r"], [["a", "b"]], [[1.0, 0.0]])
    expected = -4 * (torch.tensor([0.25, 0.75]) * torch.tensor([0.5, 0.0]).log_softmax(-1)).sum()
    only_first = Targets(Names(["r"], [["a", "b"]]), target.probabilities[:1])
    assert soft_cross_entropy(warm, [[only_first]], temperature=2.0).mean.item() == pytest.approx(expected.item(), rel=1e-5)


def test_rows_and_columns_are_compared_by_name():
    """The teacher has its rows and columns in another order, lacks a label of the student's, and has one of its own."""
    student = named(["r1", "r2"], [["a", "b", "new"]], [[1.0, 0.0, 5.0], [0.0, 0.0, 0.0]])
    teacher = Targets(Names(["other", "r1"], [["old", "b", "a"]]), [torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.2, 0.3]])])
    expected = -(torch.tensor([0.3, 0.2]) * torch.tensor([1.0, 0.0]).log_softmax(-1)).sum()
    loss = soft_cross_entropy(student, [[teacher]])
    assert loss.mean.item() == pytest.approx(expected.item(), rel=1e-5) and loss.count == 1
    nothing = Targets(Names(["r9"], [["a"]]), [torch.ones(1, 1)])
    assert soft_cross_entropy(student, [[nothing]]) is None and soft_cross_entropy(student, [[]]) is None


def test_an_ensemble_is_the_mean_of_its_members_whether_or_not_their_names_are_equal():
    student = named(["r"], [["a", "b"]], [[1.0, 0.0]])
    parts = [Targets(Names(["r"], [["a", "b"]]), [torch.tensor([p])]) for p in ([0.5, 0.5], [1.0, 0.0], [0.3, 0.7])]
    swapped = Targets(Names(["r"], [["b", "a"]]), [torch.tensor([[0.0, 1.0]])])  # the second, in another order
    equal, mixed = averaged(parts), averaged([parts[0], swapped, parts[2]])
    assert [member.weight for member in equal] == [1.0] and [m.weight for m in mixed] == pytest.approx([2 / 3, 1 / 3])
    assert equal[0].probabilities[0][0].tolist() == pytest.approx([0.6, 0.4])
    losses = [soft_cross_entropy(student, [members]) for members in (equal, mixed)]
    assert losses[0].mean.item() == pytest.approx(losses[1].mean.item()) and losses[0].count == pytest.approx(losses[1].count)


def test_the_loss_of_tag_sequences_is_the_expected_one():
    """The cross-entropy with a CRF is the mean over its tag sequences, each weighted by its probability; so is the gradient."""
    torch.manual_seed(0)
    tags, steps, lengths = 3, 5, np.array([3, 2])
    transitions = torch.randn(tags, tags).masked_fill(torch.tensor([[0, 0, 1], [0, 0, 0], [0, 1, 0]]).bool(), -torch.inf)
    ours = [part.requires_grad_() for part in (torch.randn(steps, tags), transitions.clone(), torch.randn(tags))]
    theirs = [torch.randn(steps, tags), transitions + 1, torch.randn(tags)]
    unary, pair, expected = np.zeros((steps, tags)), np.zeros((tags, tags)), torch.tensor(0.0)
    offset = 0
    for length in lengths:
        part = slice(offset, offset + length)
        for sequence in itertools.product(range(tags), repeat=int(length)):
            allowed = np.eye(tags, dtype=bool)[list(sequence)]
            if any(torch.isinf(transitions[a, b]) for a, b in itertools.pairwise(sequence)):
                continue
            log_p, log_q = (-length * crf_loss(e[part], t, s, allowed, np.array([length])) for e, t, s in (theirs, ours))
            p = float(log_p.detach().exp())
            expected = expected - p * log_q
            unary[part] += p * allowed
            for a, b in itertools.pairwise(sequence):
                pair[a, b] += p
        offset += length
    expected = expected / steps
    by_hand = torch.autograd.grad(expected, ours)
    loss = soft_crf_loss(*ours, unary, pair, lengths)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours_gradient, gradient in zip(torch.autograd.grad(loss, ours), by_hand):
        assert torch.allclose(ours_gradient, gradient, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_a_teacher_with_other_labels_teaches_those_that_both_have(tiny, teachers, head):
    """The student has one label more than the teacher; questions have no labels."""
    nlp = student(tiny, head, teachers)
    pipe = nlp.get_pipe(head)
    if head != "qa":
        pipe.add_label("MORE")
    losses = nlp.update(unlabelled(nlp), sgd=False, losses={})
    assert losses[head] > 0
    overfit(nlp, unlabelled(nlp), steps=120)
    assert nlp.evaluate(sample_examples(nlp))[SCORES[head]] > 0.85


@pytest.mark.parametrize("head", HEADS)
def test_a_teacher_with_other_tokens_teaches_by_characters(tiny, teachers, head):
    """The student's tokenizer makes "Oslo." one token."""
    nlp = student(tiny, head, teachers)
    references = [example.reference for example in unlabelled(nlp)]
    nlp.tokenizer = Tokenizer(nlp.vocab, token_match=re.compile(r"Oslo\.").match)
    examples = [Example(nlp.make_doc(reference.text), reference) for reference in references]
    assert examples[0].predicted[-1].text == "Oslo." and nlp.get_pipe(head).teacher.targets(examples[0])
    overfit(nlp, examples, steps=120)
    if head == "textcat":
        expected = spacy.load(teachers)(TEXTS[0]).cats
        assert max(nlp(TEXTS[0]).cats, key=nlp(TEXTS[0]).cats.get) == max(expected, key=expected.get)
    elif head == "ner":
        assert [(ent.text, ent.label_) for ent in nlp(TEXTS[0]).ents[:1]] == [("pump", "PART")]
    else:
        assert nlp(TEXTS[0])._.ask("What failed?").text == "The pump" and not nlp(TEXTS[0])._.ask("Who called?").text


def test_a_regressor_learns_the_numbers_of_its_teachers(tiny, tmp_path):
    """Two teachers that agree on nothing: their mean is taught, in the student's own standard deviations."""

    def numbered(nlp, values):
        docs = [nlp.make_doc(text) for text in TEXTS]
        for doc, value in zip(docs, values):
            set_gold_number(doc, value)
        return [Example(nlp.make_doc(doc.text), doc) for doc in docs]

    for name, values in (("low", [0.0, 1.0, 2.0]), ("high", [4.0, 7.0, 4.0])):
        nlp = make_nlp(tiny(), heads=("regressor",), examples=partial(numbered, values=values))
        overfit(nlp, numbered(nlp, values), steps=150)
        nlp.to_disk(tmp_path / name)
    nlp = student(
        tiny, "regressor", [str(tmp_path / "low"), str(tmp_path / "high")], partial(numbered, values=[9.0, 8.0, 0.0])
    )  # fmt: skip
    taught = [spacy.load(tmp_path / name) for name in ("low", "high")]
    overfit(nlp, [Example(nlp.make_doc(text), nlp.make_doc(text)) for text in TEXTS], steps=200)
    for text in TEXTS:
        assert nlp(text)._.score == pytest.approx(np.mean([pipeline(text)._.score for pipeline in taught]), abs=0.5)


def test_the_teacher_is_not_saved(tiny, teachers, tmp_path):
    nlp = student(tiny, "textcat", teachers)
    nlp.to_disk(tmp_path / "out")
    assert spacy.load(tmp_path / "out").get_pipe("textcat").teacher is None
    assert teachers not in (tmp_path / "out" / "config.cfg").read_text()


def test_a_config_names_the_teacher(tiny, teachers):
    nlp = make_nlp(tiny(), heads=("textcat", "ner"))
    nlp.config["initialize"]["components"]["ner"] = {
        "teacher": {"@misc": "mtl.Teacher.v1", "pipelines": [teachers], "steps": 20}
    }  # fmt: skip
    nlp.initialize(lambda: sample_examples(nlp))
    assert isinstance(nlp.get_pipe("ner").teacher, Teacher) and nlp.get_pipe("textcat").teacher is None


def test_an_unusable_teacher_is_refused(tiny, teachers, tmp_path):
    for pipelines, settings, words in (
        (str(tmp_path / "nowhere"), {}, r"textcat.teacher\] pipelines: no such pipeline '.*nowhere'"),
        (teachers, {"steps": -1}, "teacher.steps = -1"),
        (teachers, {"start_share": 1.5}, "teacher.start_share = 1.5"),
        (teachers, {"temperature": 0.0}, "teacher.temperature = 0"),
        ([], {}, "teacher.pipelines is empty"),
    ):
        with pytest.raises(UserError, match=words):
            student(tiny, "textcat", pipelines, **settings)
    other = make_nlp(tiny(), heads=("ner",))
    other.to_disk(tmp_path / "ner")
    with pytest.raises(UserError, match="it has no head of this kind; its components are transformer, ner"):
        student(tiny, "textcat", str(tmp_path / "ner"))
    nlp = make_nlp(tiny(), heads=("textcat",))
    with pytest.raises(UserError, match=r'give a section .* with @misc = "mtl.Teacher.v1"'):
        nlp.get_pipe("textcat").initialize(lambda: sample_examples(nlp), nlp=nlp, teacher=teachers)
    renamed = make_nlp(tiny(), heads=("textcat",), examples=renamed_categories)
    renamed.to_disk(tmp_path / "renamed")
    with pytest.raises(UserError, match="none of the head's labels; it has ONE, TWO, and the head"):
        student(tiny, "textcat", str(tmp_path / "renamed"))


def renamed_categories(nlp):
    docs = [gold_doc(nlp, text, {"ONE": float(i % 2), "TWO": 1 - float(i % 2)}, None, None) for i, text in enumerate(TEXTS)]
    return [Example(Doc(nlp.vocab, words=[t.text for t in doc], spaces=[bool(t.whitespace_) for t in doc]), doc) for doc in docs]


def test_labels_that_a_teacher_lacks_are_named(tiny, teachers, caplog):
    nlp = make_nlp(tiny(), heads=("textcat",))
    nlp.get_pipe("textcat").add_label("MORE")
    nlp.get_pipe("textcat").initialize(lambda: sample_examples(nlp), nlp=nlp, teacher=TeacherSettings([teachers]))
    assert "does not teach MORE" in caplog.text


def test_a_path_in_place_of_a_section_is_explained(tiny):
    """Through spaCy's own checks of [initialize], as a config comes."""
    nlp = make_nlp(tiny(), heads=("ner",))
    nlp.config["initialize"]["components"]["ner"] = {"teacher": "training/model-best"}
    with pytest.raises(UserError, match=r"teacher = 'training/model-best': give a section \[initialize.components.ner.teacher\]"):
        nlp.initialize(lambda: sample_examples(nlp))
