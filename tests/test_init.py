"""`mtl init`: a project that runs as it stands, tuned to the files that it was made for."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import spacy
import yaml
from conftest import save_tiny
from spacy.util import load_config
from typer.testing import CliRunner

from mtl.cli.app import app
from mtl.errors import UserError
from mtl.training.initialize import init_pipeline
from mtl.training.run import train_config

PARTS, PLACES = ("pump", "valve", "door", "fan", "hose"), ("Oslo", "Bergen", "Paris", "Rome")
QUESTION = "Which part was it?"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Three tasks in three formats, and an encoder."""
    monkeypatch.chdir(tmp_path)
    texts = [f"The {part} number {i} failed badly near {place} yesterday" for i in range(3) for part in PARTS for place in PLACES]
    with open("tickets.csv", "w", newline="") as file:
        csv.writer(file).writerows([("Body", "Queue"), *((f"Ticket: {text}.", "AB"[i % 2]) for i, text in enumerate(texts))])
    with open("entities.conll", "w") as file:
        for text in texts:
            file.write("".join(f"{word} {'B-PART' if word in PARTS else 'O'}\n" for word in ["Seen", *text.split()]) + "\n")
    paragraphs = [
        {"context": f"Asked: {text}", "qas": [{"id": str(i), "question": QUESTION, "answers": [
            {"text": text.split()[1], "answer_start": 7 + 4}]}]}
        for i, text in enumerate(texts)
    ]  # fmt: skip
    with open("questions.json", "w") as file:
        json.dump({"data": [{"title": "t", "paragraphs": paragraphs}]}, file)
    save_tiny("bert", tmp_path / "encoder", max_position_embeddings=160)
    return tmp_path


def init(*more, folder="desk", encoder="encoder"):
    arguments = ["init", folder, "--encoder", encoder, *more]
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


THREE = ["--train", "tickets.csv", "--train", "entities.conll", "--train", "questions.json", "--column", "text=Body", "--column",
         "label=Queue"]  # fmt: skip
ONE = ["--train", "entities.conll"]


def test_the_config_fits_the_data(files):
    result = init("--train", "tickets.csv", "--column", "text=Body", "--column", "label=Queue")
    assert result.exit_code == 0 and "head textcat: exclusive = True" in result.output
    assert "desk: cd desk && python -m spacy project run all" in result.output
    config = load_config("desk/configs/pipeline.cfg")
    assert config["nlp"]["pipeline"] == ["transformer", "textcat"] and config["components"]["textcat"]["exclusive"] is True
    assert config["training"]["score_weights"] == {"cats_score": None, "cats_accuracy": 1.0}
    assert config["components"]["transformer"]["model"]["window"] == 128 and config["training"]["max_steps"] == 200
    assert config["paths"]["encoder"] == "../encoder"


def test_several_categories_are_not_exclusive_and_long_answers_fit(files):
    rows = [{"text": f"text {i} of some words", "labels": ["A", "B"][: i % 3]} for i in range(30)]
    (files / "several.jsonl").write_text("\n".join(map(json.dumps, rows)))
    init("--train", "several.jsonl", folder="several")
    config = load_config("several/configs/pipeline.cfg")
    assert config["components"]["textcat"]["exclusive"] is False and config["training"]["score_weights"]["cats_macro_f"] == 1.0
    text = "word " * 34 + "end"
    rows = [{"text": f"{i} {text}", "qas": [{"question": "What?", "answers": [
        {"text": text, "answer_start": len(str(i)) + 1}] if i else []}]} for i in range(12)]  # fmt: skip
    (files / "long.jsonl").write_text("\n".join(map(json.dumps, rows)))
    init("--train", "long.jsonl", folder="long")
    qa = load_config("long/configs/pipeline.cfg")["components"]["qa"]
    assert qa["max_answer_tokens"] == 40 and qa["tune_threshold"] is True


def test_a_written_config_trains_and_its_pipeline_predicts(files, monkeypatch):
    init(*ONE)
    monkeypatch.chdir("desk")
    project = yaml.safe_load(Path("project.yml").read_text())
    (convert,) = [command for command in project["commands"] if command["name"] == "convert"]
    for line in convert["script"]:
        assert app(line.split()[3:], standalone_mode=False) in (None, 0)
    config = load_config("configs/pipeline.cfg", overrides={"training.max_steps": 2, "training.eval_frequency": 1})
    init_pipeline(config)
    train_config(config, files / "out")
    assert spacy.load(files / "out" / "model-best")("The pump failed.") is not None


def test_domain_text_adds_a_step_and_dev_files_are_converted_beside_train(files):
    (files / "domain.txt").write_text("text")
    init(*ONE, "--dev", "entities.conll", "--text", "domain.txt", "--force")
    project = yaml.safe_load(Path("desk/project.yml").read_text())
    assert project["workflows"]["all"] == ["convert", "adapt", "train", "evaluate", "package", "verify"]
    scripts = {command["name"]: command["script"] for command in project["commands"]}
    assert scripts["convert"][0].startswith(
        "python -m mtl convert ../entities.conll ../entities.conll --task entities --spelling keep --out corpus"
    )
    assert "../domain.txt" in scripts["adapt"][0] and "--decontaminate corpus/dev" in scripts["adapt"][0]
    assert load_config("desk/configs/pipeline.cfg")["paths"]["encoder"] == "training/encoder"
    assert str(files) not in "".join(path.read_text() for path in (files / "desk").rglob("*") if path.is_file())


def test_data_with_errors_is_refused_unless_forced(files):
    with pytest.raises(UserError, match=r"the data has errors, so nothing was written.*--force"):
        app(["init", "desk", "--encoder", "encoder", *ONE, "--dev", "entities.conll"], standalone_mode=False)
    assert not (files / "desk").exists()
    assert init(*ONE, "--dev", "entities.conll", "--force").exit_code == 0 and (files / "desk" / "project.yml").exists()


@pytest.mark.parametrize(
    "more, message",
    [
        (["desk", "--train", "nowhere.csv"], "nowhere.csv: no such file"),
        (["encoder", *ONE], "encoder: there is something already"),
        (["desk", *ONE, "--encoder", "./nowhere"], "no such folder"),
        (["desk", *THREE, "--dev", "tickets.csv"], "3 training files and 1 --dev files"),
        (["desk", *ONE, "--test", "entities.conll"], "--test without --dev"),
        (["desk", *ONE, *ONE], "two training files are called 'entities'"),
        (["desk", *ONE, "--name", "5"], "give one that begins with a letter"),
    ],
)
def test_what_cannot_be_is_named_before_anything_is_written(files, more, message):
    with pytest.raises(UserError, match=message):
        app(["init", *more, *([] if "--encoder" in more else ["--encoder", "encoder"])], standalone_mode=False)
    assert not (files / "desk").exists() and not (files / "encoder" / "project.yml").exists()


@pytest.mark.slow
def test_three_tasks_in_three_formats_run_from_init_to_scores(files):
    result = init(*THREE)
    assert result.exit_code == 0, result.output
    scripts = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    for step in ("convert", "train", "evaluate", "package"):
        command = [sys.executable, "-m", "spacy", "project", "run", step, "desk"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": scripts}, timeout=500)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    scores = json.loads((files / "desk" / "metrics" / "test.json").read_text())["scores"]
    assert {"cats_accuracy", "ents_f", "qa_f1"} <= set(scores)
    assert list((files / "desk" / "packages").glob("en_desk-0.1.0*.whl"))


# Asking, going on from a pipeline, and how long it takes


def test_what_no_option_says_is_asked_for(files, monkeypatch):
    from mtl.cli import project

    assert "--train: give one or more labelled files" in str(CliRunner().invoke(app, ["init", "desk"]).exception)
    monkeypatch.setattr(project, "can_ask", lambda: True)
    answers = iter(["nowhere.csv", "entities.conll , questions.json", "", "encoder", "en"])
    monkeypatch.setattr(project.typer, "prompt", lambda question, **options: next(answers))
    result = CliRunner().invoke(app, ["init", "desk"], catch_exceptions=False)
    assert result.exit_code == 0 and "nowhere.csv: no such file" in result.output and "head qa" in result.output
    assert (files / "desk" / "project.yml").is_file()


def test_a_project_goes_on_from_the_encoder_of_a_pipeline(files):
    from conftest import make_nlp

    nlp = make_nlp(str(files / "encoder"))
    nlp.to_disk(files / "trained")
    result = init(*ONE, "--from", "trained")
    assert result.exit_code == 0, result.output
    config = load_config(files / "desk" / "configs" / "pipeline.cfg")
    assert config["paths"]["encoder"] == "encoder" and (files / "desk" / "encoder" / "model.safetensors").is_file()
    spacy.blank("en").to_disk(files / "blank")
    for name, message in (("nowhere", "no such pipeline"), ("blank", "has no component 'transformer'")):
        with pytest.raises(UserError, match=message):
            init(*ONE, "--from", name, folder="other")
    assert not (files / "other").exists()


def test_the_minutes_are_said(files):
    result = init(*ONE)
    assert "minutes of training here" in result.output and "minutes" in (files / "desk" / "README.md").read_text()


def test_quotes_and_blanks_in_names_reach_the_commands_as_they_are(files):
    name = 'John\'s "tickets" [2] #1.csv'
    os.rename("tickets.csv", name)
    (files / "a b.txt").write_text("Some text.")
    result = init(
        "--train", name, "--column", "text=Body", "--column", "label=Queue", "--encoding", "cp1252", "--text", "a b.txt"
    )
    assert result.exit_code == 0, result.output
    project = yaml.safe_load((files / "desk" / "project.yml").read_text())
    command = spacy.util.split_command(project["commands"][0]["script"][0])
    assert f"../{name}" in command and command[command.index("--encoding") + 1] == "cp1252"
    assert f"../{name}" in project["commands"][0]["deps"]
