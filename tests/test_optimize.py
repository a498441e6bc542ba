"""`mtl optimize`: the fastest precision and backend that score as well as fp32."""

import json
import os
import shutil
from importlib.metadata import requires

import pytest
import spacy
from conftest import make_nlp, overfit, sample_examples
from spacy.tokens import DocBin
from typer.testing import CliRunner

from mtl.cli.app import app
from mtl.cli.common import encoder_overrides
from mtl.deploy import optimize
from mtl.deploy.optimize import OptimizeSettings, optimize_pipeline, optimize_table, write_choice
from mtl.deploy.packaging import _needs_openvino
from mtl.encoder.runtime import openvino_model, precision
from mtl.errors import UserError
from mtl.timing import interleaved_rates
from mtl.training.evaluation import score_named

FAST = OptimizeSettings(seconds=0.0)
with_openvino = pytest.mark.skipif(not openvino_model.is_installed(), reason="OpenVINO is not installed")


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A pipeline's folder, and the documents it knows."""
    folder = tmp_path_factory.mktemp("optimize")
    nlp = make_nlp(tiny())
    overfit(nlp, steps=60)
    nlp.to_disk(folder / "pipeline")
    DocBin(docs=[example.reference for example in sample_examples(nlp)]).to_disk(folder / "dev.spacy")
    return folder / "pipeline", folder / "dev.spacy"


@pytest.fixture
def speeds(monkeypatch):
    """Let the machine support exactly these candidates, at these words per second. The clock has its own test."""

    def give(**rates):
        def fake_rates(workloads, seconds, show):
            words = {name: rates[name.replace(" ", "_")] for name in workloads}
            return {name: {"words_per_second": rate, "over_first": rate / rates["fp32_torch"]} for name, rate in words.items()}

        monkeypatch.setattr(optimize, "interleaved_rates", fake_rates)
        for module in (optimize, precision):
            monkeypatch.setattr(
                module, "why_unsupported", lambda *pair: "" if "_".join(pair[:2]) in rates else "not on this machine"
            )

    return give


def loader(folder, fallback=True):
    def load(precision, backend):
        overrides = encoder_overrides(precision=precision, backend=backend, fallback=fallback)
        return spacy.load(folder, config=overrides)

    return load


@with_openvino
def test_the_fastest_is_chosen(trained, speeds):
    speeds(fp32_torch=100, fp32_openvino=140, bf16_torch=170, bf16_openvino=180, int8_openvino=150)
    result = optimize_pipeline(loader(trained[0]), [trained[1]], FAST)
    assert result["chosen"] == "bf16 openvino" and result["unavailable"] == {"fp16 torch": "not on this machine"}
    assert list(result["tried"]) == ["fp32 torch", "fp32 openvino", "bf16 openvino", "int8 openvino"]
    assert set(result["tried"]["int8 openvino"]["scores"]) == {
        "cats_accuracy", "ents_f", "qa_f1", "attributes_f", "tag_acc", "score_spearman"
    }  # fmt: skip
    table = optimize_table(result)
    assert "bf16 openvino        180        1.80" in table and "fp16 torch     not tried: not on this machine" in table


def test_what_loses_too_much_is_not_chosen(trained, speeds, monkeypatch):
    speeds(fp32_torch=100, bf16_torch=180)
    real = optimize.evaluate_pipeline

    def evaluate(nlp, data):
        result = real(nlp, data)
        if nlp.get_pipe("transformer").encoder.inference.precision == "bf16":
            result["scores"]["ents_f"] -= 0.004
        return result

    monkeypatch.setattr(optimize, "evaluate_pipeline", evaluate)
    result = optimize_pipeline(loader(trained[0]), [trained[1]], FAST)
    assert result["chosen"] == "fp32 torch" and result["tried"]["bf16 torch"]["drop"] == pytest.approx(0.4)
    assert "drops 0.40 points" in optimize_table(result)
    looser = OptimizeSettings(seconds=0.0, max_drop=0.5)
    assert optimize_pipeline(loader(trained[0]), [trained[1]], looser)["chosen"] == "bf16 torch"


def test_rounds_are_interleaved_and_at_least_three():
    order = []
    workloads = {name: lambda name=name: order.append(name) or 2 for name in ("a", "b")}
    rates = interleaved_rates(workloads, 0.0)
    assert order == ["a", "b"] * 4
    assert set(rates) == {"a", "b"} and rates["a"]["over_first"] == 1.0


@with_openvino
def test_the_command_writes_the_choice_and_nothing_else(trained, speeds, tmp_path):
    speeds(fp32_torch=100, int8_openvino=250)
    pipeline, dev = trained
    before = {file: file.read_bytes() for file in pipeline.rglob("*") if file.is_file()}
    run = CliRunner().invoke(app, ["optimize", str(pipeline), str(dev), "--dry-run", "--seconds", "0"])
    assert run.exit_code == 0 and run.output.rstrip().endswith("int8 openvino")
    assert {file: file.read_bytes() for file in pipeline.rglob("*") if file.is_file()} == before
    out = tmp_path / "found.json"
    run = CliRunner().invoke(app, ["optimize", str(pipeline), str(dev), "--seconds", "0", "--max-drop", "100", "--out", str(out)])
    assert run.exit_code == 0, run.output
    after = {file: file.read_bytes() for file in pipeline.rglob("*") if file.is_file()}
    assert {file.name for file in after if before.get(file) != after[file]} == {"config.cfg"} and before.keys() == after.keys()
    described = spacy.load(pipeline).get_pipe("transformer").encoder.describe()
    assert (described["precision"], described["backend"]) == ("int8", "openvino")
    assert json.loads(out.read_text())["chosen"] == "int8 openvino"
    assert _needs_openvino(pipeline)


def test_a_package_needs_openvino_where_its_config_does(trained, tmp_path):
    assert any(line.startswith(openvino_model.REQUIREMENT) for line in requires("spacy-mtl"))
    for precision_, backend, needs in (
        ("fp32", "auto", False),
        ("bf16", "auto", False),
        ("int8", "auto", True),
        ("fp32", "openvino", True),
    ):
        shutil.copytree(trained[0], tmp_path / "copy", dirs_exist_ok=True)
        write_choice(tmp_path / "copy", precision_, backend)
        assert _needs_openvino(tmp_path / "copy") is needs


def test_user_errors_are_named_and_nothing_is_written(trained, tmp_path):
    run = CliRunner().invoke(app, ["optimize", "en_no_such", str(trained[1])])
    assert isinstance(run.exception, UserError) and "there is no config.cfg" in str(run.exception)
    run = CliRunner().invoke(app, ["optimize", str(trained[0]), str(trained[1]), "--seconds", "-1"])
    assert isinstance(run.exception, UserError) and "--seconds = -1.0 is out of range" in str(run.exception)
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(UserError, match="no mtl_transformer"):
        optimize_pipeline(lambda *_: spacy.load(tmp_path / "blank"), [trained[1]], FAST)
    assert os.listdir(tmp_path) == ["blank"]


@with_openvino
def test_an_encoder_that_openvino_cannot_run(trained, speeds, monkeypatch):
    speeds(fp32_torch=100, fp32_openvino=140, bf16_openvino=180, bf16_torch=90)
    monkeypatch.setattr("mtl.encoder.runtime.openvino_model._convert", lambda *_: {}["no such operation"])
    result = optimize_pipeline(loader(trained[0], fallback=False), [trained[1]], FAST)
    assert result["chosen"] == "fp32 torch" and list(result["tried"]) == ["fp32 torch", "bf16 torch"]
    assert "KeyError: 'no such operation'" in result["unavailable"]["fp32 openvino"]


@pytest.mark.parametrize(
    "head, settings, key",
    [
        ("tagger", {}, "tag_acc"),
        ("regressor", {}, "score_spearman"),
        ("span_classifier", {}, "attributes_f"),
        ("textcat", {"exclusive": False}, "cats_macro_auc"),
    ],
)
def test_every_head_counts_when_it_is_the_only_one(tiny, tmp_path, speeds, head, settings, key):
    nlp = make_nlp(tiny(), heads=(head,), **{head: settings})
    overfit(nlp, steps=15)
    nlp.to_disk(tmp_path / "pipeline")
    DocBin(docs=[example.reference for example in sample_examples(nlp)]).to_disk(tmp_path / "dev.spacy")
    speeds(fp32_torch=100, bf16_torch=180)
    result = optimize_pipeline(loader(tmp_path / "pipeline"), [tmp_path / "dev.spacy"], OptimizeSettings(0.0, max_drop=100.0))
    assert result["chosen"] == "bf16 torch"
    assert [list(row["scores"]) for row in result["tried"].values()] == [[key], [key]]
    assert result["tried"]["fp32 torch"]["drop"] == 0.0 and score_named(key).title.replace(": ", " ") in optimize_table(result)


def test_a_candidate_that_loses_a_score_is_not_chosen(trained, speeds, monkeypatch):
    """A correlation is undefined if a precision makes all predicted numbers equal."""
    speeds(fp32_torch=100, bf16_torch=180)
    real = optimize.evaluate_pipeline

    def evaluate(nlp, data):
        result = real(nlp, data)
        if nlp.get_pipe("transformer").encoder.inference.precision == "bf16":
            del result["scores"]["score_spearman"]
        return result

    monkeypatch.setattr(optimize, "evaluate_pipeline", evaluate)
    result = optimize_pipeline(loader(trained[0]), [trained[1]], FAST)
    assert result["chosen"] == "fp32 torch" and "score_spearman" in result["unavailable"]["bf16 torch"]
