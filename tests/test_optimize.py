"""`mtl optimize`: the fastest precision that scores as well."""

import json
import os

import pytest
import spacy
from conftest import make_nlp, overfit, sample_examples
from spacy.tokens import DocBin
from typer.testing import CliRunner

from mtl.cli.app import app
from mtl.encoder import precision
from mtl.errors import UserError
from mtl.serving import optimize
from mtl.serving.optimize import OptimizeSettings, optimize_pipeline, optimize_table

FAST = OptimizeSettings(seconds=0.0)


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A pipeline's folder, and the documents it knows."""
    folder = tmp_path_factory.mktemp("optimize")
    nlp = make_nlp(tiny())
    overfit(nlp)
    nlp.to_disk(folder / "pipeline")
    DocBin(docs=[example.reference for example in sample_examples(nlp)]).to_disk(folder / "dev.spacy")
    return folder / "pipeline", folder / "dev.spacy"


@pytest.fixture
def speeds(monkeypatch):
    """Words/s as given, and every precision at hand; the clock is tested apart."""

    def give(**rates):
        def timed(pipelines, texts, seconds, show):
            return {name: {"words_per_second": rates[name], "over_first": rates[name] / rates["fp32"]} for name in pipelines}

        monkeypatch.setattr(optimize, "time_in_turn", timed)
        monkeypatch.setattr("mtl.serving.optimize.lacks", lambda name, _: "" if name in rates else "not on this one")
        monkeypatch.setattr(precision, "lacks", lambda name, _: "" if name in rates else "not on this one")

    return give


def loader(folder):
    return lambda name: spacy.load(folder, config={"components.transformer.model.precision": name})


def test_the_fastest_is_chosen(trained, speeds):
    speeds(fp32=100, bf16=180, int8=150)
    result = optimize_pipeline(loader(trained[0]), [trained[1]], FAST)
    assert result["chosen"] == "bf16" and result["lacking"] == {"fp16": "not on this one"}
    assert set(result["precisions"]["int8"]["scores"]) == {"cats_accuracy", "ents_f", "qa_f1"}
    table = optimize_table(result)
    assert "bf16            180       1.80" in table and "fp16      not tried: not on this one" in table


def test_what_loses_too_much_is_not_chosen(trained, speeds, monkeypatch):
    speeds(fp32=100, bf16=180)
    real = optimize.evaluate_pipeline

    def evaluate(nlp, data):
        result = real(nlp, data)
        if nlp.get_pipe("transformer").encoder.serving.precision == "bf16":
            result["scores"]["ents_f"] -= 0.004
        return result

    monkeypatch.setattr(optimize, "evaluate_pipeline", evaluate)
    result = optimize_pipeline(loader(trained[0]), [trained[1]], FAST)
    assert result["chosen"] == "fp32" and result["precisions"]["bf16"]["drop"] == pytest.approx(0.4)
    assert "loses 0.40 points" in optimize_table(result)
    looser = OptimizeSettings(seconds=0.0, max_drop=0.5)
    assert optimize_pipeline(loader(trained[0]), [trained[1]], looser)["chosen"] == "bf16"


def test_rounds_are_interleaved_and_at_least_three(trained):
    order = []
    nlp = spacy.load(trained[0])

    class Named:
        def __init__(self, name):
            self.name = name

        def make_doc(self, text):
            return nlp.make_doc(text)

        def pipe(self, docs, batch_size):
            order.append(self.name)
            return docs

    rates = optimize.time_in_turn({"fp32": Named("a"), "int8": Named("b")}, ["one two"], 0.0, lambda _: None)
    assert order == ["a", "b"] * 4
    assert set(rates) == {"fp32", "int8"} and rates["fp32"]["over_first"] == 1.0


def test_the_command_writes_the_choice_and_nothing_else(trained, speeds, tmp_path):
    speeds(fp32=100, int8=250)
    pipeline, dev = trained
    before = {file: file.read_bytes() for file in pipeline.rglob("*") if file.is_file()}
    run = CliRunner().invoke(app, ["optimize", str(pipeline), str(dev), "--dry-run", "--seconds", "0"])
    assert run.exit_code == 0 and run.output.rstrip().endswith("int8")
    assert {file: file.read_bytes() for file in pipeline.rglob("*") if file.is_file()} == before
    out = tmp_path / "found.json"
    run = CliRunner().invoke(app, ["optimize", str(pipeline), str(dev), "--seconds", "0", "--max-drop", "100", "--out", str(out)])
    assert run.exit_code == 0, run.output
    after = {file: file.read_bytes() for file in pipeline.rglob("*") if file.is_file()}
    assert {file.name for file in after if before.get(file) != after[file]} == {"config.cfg"} and before.keys() == after.keys()
    assert spacy.load(pipeline).get_pipe("transformer").encoder.serving.precision == "int8"
    assert json.loads(out.read_text())["chosen"] == "int8"


def test_mistakes(trained, tmp_path):
    run = CliRunner().invoke(app, ["optimize", "en_no_such", str(trained[1])])
    assert isinstance(run.exception, UserError) and "no config.cfg is there" in str(run.exception)
    run = CliRunner().invoke(app, ["optimize", str(trained[0]), str(trained[1]), "--seconds", "-1"])
    assert isinstance(run.exception, UserError) and "--seconds = -1.0 is out of range" in str(run.exception)
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(UserError, match="no mtl_transformer"):
        optimize_pipeline(lambda _: spacy.load(tmp_path / "blank"), [trained[1]], FAST)
    assert os.listdir(tmp_path) == ["blank"]
