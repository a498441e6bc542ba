"""`mtl average`: the mean of several pipelines' weights."""

import json

import pytest
import spacy
import torch
from conftest import make_nlp, overfit, sample_examples, save_tiny

from mtl.cli.app import app
from mtl.data.docs import write_docs
from mtl.errors import UserError
from mtl.training.average import mean_weights

HEADS = ("textcat", "ner", "qa")


def save(nlp, folder):
    folder.mkdir()
    nlp.to_disk(folder / "model-best")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Three runs from one encoder: good ones that end at different steps, and one that has hardly begun."""
    folder = tmp_path_factory.mktemp("average")
    encoder = save_tiny("bert", folder / "encoder")
    for name, steps in (("good", 70), ("better", 90), ("bad", 1)):
        nlp = make_nlp(encoder, HEADS)
        overfit(nlp, steps=steps)
        save(nlp, folder / name)
    write_docs([example.reference for example in sample_examples(nlp)], folder / "dev.spacy")
    return folder


def average(project, out, *names):
    paths = [str(project / name / "model-best") for name in names]
    app(["average", *paths, "--dev", str(project / "dev.spacy"), "--out", str(out)], standalone_mode=False)
    return json.loads((out / "average.json").read_text())


def test_pipelines_that_help_are_averaged_and_others_left_out(project, tmp_path, capsys):
    report = average(project, tmp_path / "out", "bad", "good", "better")
    printed = capsys.readouterr().out
    assert "bad/model-best" not in report["averaged"] and "(left out)" in printed
    means = {name: sum(scores.values()) for name, scores in report["scores"].items()}
    assert means["average"] >= max(value for name, value in means.items() if name != "average")
    nlp = spacy.load(tmp_path / "out")
    assert nlp.evaluate(sample_examples(nlp))["ents_f"] == pytest.approx(report["scores"]["average"]["ents_f"])
    assert str(project) not in (tmp_path / "out" / "average.json").read_text() + (tmp_path / "out" / "config.cfg").read_text()


def test_the_weights_are_the_mean_of_those_averaged(project, tmp_path):
    report = average(project, tmp_path / "out", "good", "better")
    members = [spacy.load(project / name) for name in report["averaged"]]
    nlp = spacy.load(tmp_path / "out")
    for name in ("ner", "textcat"):
        expected = torch.stack([member.get_pipe(name).module.output.weight for member in members]).mean(0)
        torch.testing.assert_close(nlp.get_pipe(name).module.output.weight, expected)
    key = "model.embeddings.word_embeddings.weight"
    states = [member.get_pipe("transformer").encoder.state_dict()[key] for member in members]
    torch.testing.assert_close(nlp.get_pipe("transformer").encoder.state_dict()[key], torch.stack(states).mean(0))


def test_what_is_no_fraction_is_taken_from_the_first():
    members = [{"a": {"w": torch.tensor([value]), "ids": torch.tensor([i])}} for i, value in enumerate((1.0, 4.0))]
    mean = mean_weights(members)["a"]
    assert mean["w"].item() == 2.5 and mean["ids"].item() == 0


def test_pipelines_that_do_not_fit_are_refused(project, tmp_path):
    with pytest.raises(UserError, match="at least two"):
        average(project, tmp_path / "out", "good")
    with pytest.raises(UserError, match="given twice"):
        average(project, tmp_path / "out", "good", "good")
    for name, encoder, heads, words in (
        ("heads", project / "encoder", ("ner",), "its components are transformer, ner, and those of"),
        ("wide", save_tiny("bert", tmp_path / "wide_encoder", hidden_size=48), HEADS, "have other sizes than those of"),
    ):
        save(make_nlp(str(encoder), heads), tmp_path / name)
        with pytest.raises(UserError, match=words):
            average(project, tmp_path / "out", "good", tmp_path / name)
    labelled = spacy.load(project / "good" / "model-best")
    labelled.get_pipe("textcat").add_label("MORE")
    save(labelled, tmp_path / "labels")
    with pytest.raises(UserError, match="the labels of 'textcat' are not those of"):
        average(project, tmp_path / "out", "good", tmp_path / "labels")
    assert not (tmp_path / "out").exists()
