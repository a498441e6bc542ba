"""`mtl distill`: students of a trained pipeline, with fewer or narrower layers."""

import json
from itertools import islice

import pytest
import spacy
import torch
from conftest import FAMILIES, make_nlp, overfit, sample_examples, save_tiny
from transformers import AutoModel

from mtl.cli.app import app
from mtl.data.docs import write_docs
from mtl.encoder.texts import tokenized_texts
from mtl.errors import UserError
from mtl.optimization import warmup_linear
from mtl.training.distill import DistillSettings, encoder_of, taught_documents, train_student
from mtl.training.optimizer import TorchOptimizer
from mtl.training.students import keep_layers, narrow_layers


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A pipeline of four layers that knows the examples, the examples, and text without annotation."""
    folder = tmp_path_factory.mktemp("distill")
    nlp = make_nlp(save_tiny("bert", folder / "encoder", num_hidden_layers=4))
    overfit(nlp, steps=80)
    nlp.to_disk(folder / "teacher")
    write_docs([example.reference for example in sample_examples(nlp)], folder / "labelled.spacy")
    (folder / "domain.txt").write_text("\n\n".join(example.text for example in sample_examples(nlp)))
    return folder


def run(*arguments):
    return app(["distill", *map(str, arguments)], standalone_mode=False)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "modernbert"])
def test_layers_are_kept_evenly_and_the_folder_is_an_ordinary_one(tmp_path, family):
    count = {"distilbert": "n_layers", "gpt2": "n_layer"}.get(family, "num_hidden_layers")
    nlp = make_nlp(save_tiny(family, tmp_path / "encoder", **{count: 5}), heads=("ner",))
    encoder = encoder_of(nlp)
    before = {name: p.clone() for name, p in encoder.model.named_parameters()}
    keep_layers(encoder, 3)
    remaining = [name for name in before if any(f".{i}." in f".{name}" for i in (0, 2, 4))]
    after = dict(encoder.model.named_parameters())
    assert encoder.layers == 3 and len(after) == len(before) - 2 * len([n for n in before if ".1." in f".{n}"])
    for old, new in ((0, 0), (2, 1), (4, 2)):
        for name in (name for name in remaining if f".{old}." in f".{name}"):
            assert torch.equal(before[name], after[name.replace(f".{old}.", f".{new}.", 1) if f".{old}." in name else
                                                 name.replace(f"{old}.", f"{new}.", 1)])  # fmt: skip
    nlp.to_disk(tmp_path / "out")
    text = "The pump failed in Oslo."
    assert [ent.text for ent in nlp(text).ents] == [ent.text for ent in spacy.load(tmp_path / "out")(text).ents]
    assert AutoModel.from_pretrained(tmp_path / "out" / "transformer" / "encoder").config.num_hidden_layers == 3


def test_layers_that_differ_by_position_stay(tmp_path):
    nlp = make_nlp(save_tiny("modernbert", tmp_path / "encoder"), heads=("ner",))
    with pytest.raises(UserError, match="the layers of a modernbert differ by position"):
        keep_layers(encoder_of(nlp), 1)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet", "deberta-v2"])
def test_a_narrow_encoder_keeps_the_most_important_neurons(tmp_path, family):
    """Neurons without outgoing weights are removed first: without them the vectors are the same."""
    setting = "hidden_dim" if family == "distilbert" else "intermediate_size"
    nlp = make_nlp(save_tiny(family, tmp_path / "encoder", **{setting: 64}), heads=("ner",))
    encoder = encoder_of(nlp)
    linear = [module for module in encoder.model.modules() if isinstance(module, torch.nn.Linear)]
    ups = [module for module in linear if module.out_features == 64]
    downs = [module for module in linear if module.in_features == 64]
    assert len(ups) == len(downs) == 2
    for i, down in enumerate(downs):
        down.weight.data[:, i::2] = 0  # every other neuron is read by nothing
    encoder.inference.invalidate()
    text = "The pump failed in Oslo."
    before = encoder.encode([tokenized_texts([nlp.make_doc(text)])[0]]).vectors
    narrow_layers(encoder, 0.5, [text])
    after = encoder.encode([tokenized_texts([nlp.make_doc(text)])[0]]).vectors
    assert torch.allclose(before, after, atol=1e-5)
    assert [up.weight.shape[0] for up in ups] == [down.weight.shape[1] for down in downs] == [32, 32]
    nlp.to_disk(tmp_path / "out")
    loaded = AutoModel.from_pretrained(tmp_path / "out" / "transformer" / "encoder")
    assert getattr(loaded.config, setting) == 32
    assert torch.equal(encoder_of(spacy.load(tmp_path / "out")).encode(tokenized_texts([nlp.make_doc(text)])).vectors, after)


@pytest.mark.parametrize("family", ["modernbert", "gpt2"])
def test_layers_that_cannot_be_narrowed_are_an_error(tmp_path, family):
    nlp = make_nlp(save_tiny(family, tmp_path / "encoder"), heads=("ner",))
    with pytest.raises(UserError, match=f"layers of a {family} are not pairs of linear layers and cannot be narrowed"):
        narrow_layers(encoder_of(nlp), 0.5, ["The pump failed."])


@pytest.mark.slow
def test_a_narrow_student(project, tmp_path, capsys):
    dev = project / "labelled.spacy"
    run(project / "teacher", "--labelled", dev, "--dev", dev, "--layers", "4", "--width", "0.5", "--epochs", "60",
        "--learning-rate", "2e-3", "--out", tmp_path / "s")  # fmt: skip
    printed, report = capsys.readouterr().out, json.loads((tmp_path / "s" / "distill.json").read_text())
    assert list(report["students"]) == ["4", "4-width-0.5"] and report["width"] == 0.5 and "4-width-0.5 " in printed
    student = spacy.load(tmp_path / "s" / "layers-4-width-0.5")
    assert encoder_of(student).model.config.intermediate_size == 16 and encoder_of(student).layers == 4  # of 37
    scores = [report["students"][name]["scores"] for name in report["students"]]
    assert all(value > 0.8 * scores[0][key] for key, value in scores[1].items())


def test_a_student_of_few_steps_is_written_and_measured(project, tmp_path):
    dev = project / "labelled.spacy"
    run(project / "teacher", "--labelled", dev, "--dev", dev, "--layers", "2", "--width", "0.5", "--epochs", "1",
        "--out", tmp_path / "s")  # fmt: skip
    report = json.loads((tmp_path / "s" / "distill.json").read_text())
    assert list(report["students"]) == ["4", "2-width-0.5"]
    assert all(set(row) == {"scores", "words_per_second", "over_teacher"} for row in report["students"].values())
    student = spacy.load(tmp_path / "s" / "layers-2-width-0.5")
    assert encoder_of(student).layers == 2 and encoder_of(student).model.config.intermediate_size == 16
    assert student("The pump failed in Oslo.").cats


def test_a_step_is_taken_at_its_own_learning_rate(project, monkeypatch):
    """`nlp.update` requests the step, which is taken later, but not after the schedule has moved on."""
    student, learn_rates = spacy.load(project / "teacher"), []
    real = TorchOptimizer.step_parameters

    def record(self, parameters, learn_rate=None):
        learn_rates.append(learn_rate or self.learn_rate)
        real(self, parameters, learn_rate)

    monkeypatch.setattr(TorchOptimizer, "step_parameters", record)
    references = [example.reference for example in sample_examples(student)]
    train_student(student, references, DistillSettings(epochs=60.0, learning_rate=1e-4), "test")
    assert len(learn_rates) > 5 and learn_rates == pytest.approx(
        list(islice(warmup_linear(1e-4, len(learn_rates)), len(learn_rates)))
    )


@pytest.mark.slow
def test_students_learn_the_predictions_of_the_teacher(project, tmp_path, capsys):
    dev = project / "labelled.spacy"
    run(project / "teacher", "--text", project / "domain.txt", "--labelled", dev, "--dev", dev, "--layers", "3,1",
        "--epochs", "120", "--learning-rate", "2e-3", "--out", tmp_path / "s")  # fmt: skip
    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "s" / "distill.json").read_text())
    assert list(report["students"]) == ["4", "3", "1"] and report["teacher_layers"] == 4
    assert report["students"]["4"]["over_teacher"] == 1.0 and "over teacher" in printed
    for count in ("3", "1"):
        student = spacy.load(tmp_path / "s" / f"layers-{count}")
        assert encoder_of(student).layers == int(count)
        scores = report["students"][count]["scores"]
        assert all(value > 0.8 * report["students"]["4"]["scores"][key] for key, value in scores.items())
        assert str(tmp_path) not in (tmp_path / "s" / f"layers-{count}" / "config.cfg").read_text()
    teacher, student = spacy.load(project / "teacher"), spacy.load(tmp_path / "s" / "layers-3")
    text = "The pump failed in Oslo."
    assert [(e.text, e.label_) for e in student(text).ents] == [(e.text, e.label_) for e in teacher(text).ents]


def test_texts_are_asked_what_labelled_documents_are_asked(project):
    nlp = spacy.load(project / "teacher")
    docs = list(taught_documents(nlp, ["The pump failed in Oslo.", ""], [project / "labelled.spacy"]))
    assert len(docs) == 1 + len(sample_examples(nlp))  # not the empty text
    asked = set(docs[0].spans["open_questions"].attrs["questions"].values())
    known = {q for doc in docs[1:] if "qa" in doc.spans for q in doc.spans["qa"].attrs["questions"].values()}
    assert asked and asked <= known and not docs[0].cats


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--layers", "4"], r"layers = 4: the teacher's encoder has 4; allowed: 1 to 3"),
        (["--layers", "two"], r"--layers 'two': give whole numbers"),
        (["--layers", "2"], r"no text to learn from"),
        (["--layers", "2", "--text", "nowhere.txt"], r"nowhere.txt"),
        (["--layers", "2", "--epochs", "0"], r"epochs = 0"),
        (["--layers", "2", "--width", "1.5"], r"width = 1.5 is out of range"),
    ],
)
def test_user_errors_are_named_and_nothing_is_written(project, tmp_path, arguments, words):
    with pytest.raises(UserError, match=words):
        run(project / "teacher", "--dev", project / "labelled.spacy", "--out", tmp_path / "s", *arguments)
    assert not (tmp_path / "s").exists()
