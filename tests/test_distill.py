"""`mtl distill`: students of a finished pipeline, with fewer layers or narrower ones."""

import json

import pytest
import spacy
import torch
from conftest import FAMILIES, make_nlp, overfit, sample_examples, save_tiny
from transformers import AutoModel

from mtl.cli.app import app
from mtl.data.docs import write_docs
from mtl.encoder.component import tokens_of
from mtl.errors import UserError
from mtl.training.distill import encoder_of, taught
from mtl.training.shrink import keep_layers, narrow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A pipeline of four layers that knows the examples, the examples, and text without annotation."""
    folder = tmp_path_factory.mktemp("distill")
    nlp = make_nlp(save_tiny("bert", folder / "encoder", num_hidden_layers=4))
    overfit(nlp, steps=80)
    nlp.to_disk(folder / "teacher")
    write_docs([example.reference for example in sample_examples(nlp)], folder / "asked.spacy")
    (folder / "domain.txt").write_text("\n\n".join(example.text for example in sample_examples(nlp)))
    return folder


def run(*given):
    return app(["distill", *map(str, given)], standalone_mode=False)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "modernbert"])
def test_layers_are_kept_evenly_and_the_folder_is_an_ordinary_one(tmp_path, family):
    count = {"distilbert": "n_layers", "gpt2": "n_layer"}.get(family, "num_hidden_layers")
    nlp = make_nlp(save_tiny(family, tmp_path / "encoder", **{count: 5}), heads=("ner",))
    encoder = encoder_of(nlp)
    before = {name: p.clone() for name, p in encoder.model.named_parameters()}
    keep_layers(encoder, 3)
    kept = [name for name in before if any(f".{i}." in f".{name}" for i in (0, 2, 4))]
    own = dict(encoder.model.named_parameters())
    assert encoder.layers == 3 and len(own) == len(before) - 2 * len([n for n in before if ".1." in f".{n}"])
    for old, new in ((0, 0), (2, 1), (4, 2)):
        for name in (one for one in kept if f".{old}." in f".{one}"):
            assert torch.equal(before[name], own[name.replace(f".{old}.", f".{new}.", 1) if f".{old}." in name else
                                                 name.replace(f"{old}.", f"{new}.", 1)])  # fmt: skip
    nlp.to_disk(tmp_path / "out")
    text = "The pump failed in Oslo."
    assert [ent.text for ent in nlp(text).ents] == [ent.text for ent in spacy.load(tmp_path / "out")(text).ents]
    assert AutoModel.from_pretrained(tmp_path / "out" / "transformer" / "encoder").config.num_hidden_layers == 3


def test_layers_that_differ_by_their_number_stay(tmp_path):
    nlp = make_nlp(save_tiny("modernbert", tmp_path / "encoder"), heads=("ner",))
    with pytest.raises(UserError, match="the layers of a modernbert differ by their number"):
        keep_layers(encoder_of(nlp), 1)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet", "deberta-v2"])
def test_a_narrow_encoder_keeps_what_weighs_most(tmp_path, family):
    """Neurons that are never heard go first: without them the vectors are the same."""
    setting = "hidden_dim" if family == "distilbert" else "intermediate_size"
    nlp = make_nlp(save_tiny(family, tmp_path / "encoder", **{setting: 64}), heads=("ner",))
    encoder = encoder_of(nlp)
    ups = [one for one in encoder.model.modules() if isinstance(one, torch.nn.Linear) and one.out_features == 64]
    downs = [one for one in encoder.model.modules() if isinstance(one, torch.nn.Linear) and one.in_features == 64]
    assert len(ups) == len(downs) == 2
    for i, down in enumerate(downs):
        down.weight.data[:, i::2] = 0  # every other neuron weighs nothing
    encoder.serving.forget()
    text = "The pump failed in Oslo."
    before = encoder.encode([tokens_of([nlp.make_doc(text)])[0]]).vectors
    narrow(encoder, 0.5, [text])
    after = encoder.encode([tokens_of([nlp.make_doc(text)])[0]]).vectors
    assert torch.allclose(before, after, atol=1e-5)
    assert [up.weight.shape[0] for up in ups] == [down.weight.shape[1] for down in downs] == [32, 32]
    nlp.to_disk(tmp_path / "out")
    loaded = AutoModel.from_pretrained(tmp_path / "out" / "transformer" / "encoder")
    assert getattr(loaded.config, setting) == 32
    assert torch.equal(encoder_of(spacy.load(tmp_path / "out")).encode(tokens_of([nlp.make_doc(text)])).vectors, after)


@pytest.mark.parametrize("family", ["modernbert", "gpt2"])
def test_what_cannot_be_narrowed(tmp_path, family):
    nlp = make_nlp(save_tiny(family, tmp_path / "encoder"), heads=("ner",))
    with pytest.raises(UserError, match=f"the feed-forward layers of a {family} are not two linear ones"):
        narrow(encoder_of(nlp), 0.5, ["The pump failed."])


def test_a_narrow_student(project, tmp_path, capsys):
    dev = project / "asked.spacy"
    run(project / "teacher", "--asked", dev, "--dev", dev, "--layers", "4", "--width", "0.5", "--passes", "60",
        "--learn-rate", "2e-3", "--out", tmp_path / "s")  # fmt: skip
    said, report = capsys.readouterr().out, json.loads((tmp_path / "s" / "distill.json").read_text())
    assert list(report["students"]) == ["4", "4-width-0.5"] and report["width"] == 0.5 and "4-width-0.5 " in said
    student = spacy.load(tmp_path / "s" / "layers-4-width-0.5")
    assert encoder_of(student).model.config.intermediate_size == 16 and encoder_of(student).layers == 4  # of 37
    scores = [report["students"][name]["scores"] for name in report["students"]]
    assert all(value > 0.8 * scores[0][key] for key, value in scores[1].items())


def test_students_learn_what_the_teacher_says(project, tmp_path, capsys):
    given = [project / "teacher", "--text", project / "domain.txt", "--asked", project / "asked.spacy"]
    run(
        *given,
        "--dev",
        project / "asked.spacy",
        "--layers",
        "3,1",
        "--passes",
        "120",
        "--learn-rate",
        "2e-3",
        "--out",
        tmp_path / "s",
    )
    said = capsys.readouterr().out
    report = json.loads((tmp_path / "s" / "distill.json").read_text())
    assert list(report["students"]) == ["4", "3", "1"] and report["teacher_layers"] == 4
    assert report["students"]["4"]["over_teacher"] == 1.0 and "over teacher" in said
    for count in ("3", "1"):
        student = spacy.load(tmp_path / "s" / f"layers-{count}")
        assert encoder_of(student).layers == int(count)
        scores = report["students"][count]["scores"]
        assert all(value > 0.8 * report["students"]["4"]["scores"][key] for key, value in scores.items())
        assert str(tmp_path) not in (tmp_path / "s" / f"layers-{count}" / "config.cfg").read_text()
    teacher, student = spacy.load(project / "teacher"), spacy.load(tmp_path / "s" / "layers-3")
    text = "The pump failed in Oslo."
    assert [(e.text, e.label_) for e in student(text).ents] == [(e.text, e.label_) for e in teacher(text).ents]


def test_what_the_teacher_says_becomes_annotation(project):
    nlp = spacy.load(project / "teacher")
    docs = list(taught(nlp, ["The pump failed in Oslo.", ""], [project / "asked.spacy"], print))
    plain = docs[0]
    assert sum(plain.cats.values()) == pytest.approx(1.0) and [ent.text for ent in plain.ents] == ["pump", "Oslo"]
    assert "qa" not in plain.spans and len(docs) == 1 + len(sample_examples(nlp))  # an empty text teaches nothing
    asked = next(doc for doc in docs[1:] if "qa" in doc.spans)
    assert asked.spans["qa"].attrs["questions"] == {"q0": "What failed?", "q1": "Who called?"}
    assert [span.text for span in asked.spans["qa"]] == ["The pump"]


@pytest.mark.parametrize(
    "given, words",
    [
        (["--layers", "4"], r"layers = 4: the teacher's encoder has 4; give numbers from 1 to 3"),
        (["--layers", "two"], r"--layers 'two': give whole numbers"),
        (["--layers", "2"], r"no text to learn from"),
        (["--layers", "2", "--text", "nowhere.txt"], r"nowhere.txt"),
        (["--layers", "2", "--passes", "0"], r"passes = 0"),
        (["--layers", "2", "--width", "1.5"], r"width = 1.5 is out of range"),
    ],
)
def test_mistakes(project, tmp_path, given, words):
    with pytest.raises(UserError, match=words):
        run(project / "teacher", "--dev", project / "asked.spacy", "--out", tmp_path / "s", *given)
    assert not (tmp_path / "s").exists()
