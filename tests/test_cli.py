"""The commands, saving, packaging, and the files of the sample project."""

import hashlib
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import spacy
import srsly
from conftest import ROOT, gold_doc, make_nlp, overfit, save_tiny
from spacy.tokens import DocBin
from spacy.util import load_config
from typer.main import get_command
from typer.testing import CliRunner

from mtl.cli.app import app, main
from mtl.cli.common import SECTIONS
from mtl.data.docs import write_docs
from mtl.deploy.commands import install_command
from mtl.deploy.own_wheel import own_wheel
from mtl.deploy.packaging import build_wheels
from mtl.deploy.verify import CHECK, aligned_rows, pick_document, verification_report, verify_wheels
from mtl.errors import UserError
from mtl.files import replacing
from mtl.training.saving import atomic_save, without_local_paths

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
COMMANDS = get_command(app).commands


def mtl(*arguments, cwd="."):
    """Run the console script in this process: its exit code and both streams. An error that it does not catch is raised."""
    stdout, stderr, code, before = io.StringIO(), io.StringIO(), 0, os.getcwd()
    os.chdir(cwd)
    try:
        with patch.object(sys, "argv", ["mtl", *map(str, arguments)]), redirect_stdout(stdout), redirect_stderr(stderr):
            main()
    except SystemExit as done:
        code = done.code or 0
    finally:
        os.chdir(before)
    return SimpleNamespace(returncode=code, stdout=stdout.getvalue(), stderr=stderr.getvalue())


def mtl_process(*arguments, cwd=None):
    """Run the console script in a process of its own, as a user does."""
    command = [sys.executable, "-m", "mtl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT)


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """A tiny encoder of 256 subwords, so that the sample's questions fit."""
    return save_tiny("bert", tmp_path_factory.mktemp("longer") / "encoder", max_position_embeddings=256)


@pytest.fixture(scope="module")
def pipeline(longer, tmp_path_factory):
    nlp = make_nlp(longer, heads=("textcat", "ner", "qa"))
    overfit(nlp, steps=60)
    path = tmp_path_factory.mktemp("pipeline") / "model"
    atomic_save()(nlp).to_disk(path)
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The sample's labelled files, converted."""
    out = tmp_path_factory.mktemp("corpus")
    done = mtl("convert", *(ROOT / "corpus" / f"{split}.jsonl" for split in ("train", "dev", "test")), "--out", out)
    assert done.returncode == 0, done.stderr
    assert "300 documents" in done.stdout and "documents with questions" in done.stdout
    return out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name):
    shown = mtl(name, "--help")
    assert shown.returncode == 0 and f"Example: mtl {name}" in shown.stdout
    undocumented = [option.name for option in COMMANDS[name].params if option.name != "help" and not option.help]
    assert not undocumented


def test_help_lists_every_command_once_with_a_whole_sentence():
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(COMMANDS)
    shown = mtl("--help").stdout
    assert all(f"\n{title}:\n" in shown for title in SECTIONS)
    assert all(shown.count(f"\n  {name} ") == 1 for name in COMMANDS) and "..." not in shown.split("\nData:")[1]


MISTAKES = [
    (["convert", "nowhere.jsonl", "--out", "x"], ["nowhere.jsonl", "no such file"]),
    (["ask", "no_such_pipeline", "text", "Why?"], ["no_such_pipeline", "no such pipeline"]),
    (["adapt", "./nowhere", ROOT / "corpus" / "domain.txt", "--out", "x"], ["./nowhere", "no such folder"]),
    (["adapt", "./nowhere", "also-nowhere.txt", "--out", "x"], ["also-nowhere.txt", "no such file"]),
    (["evaluate", "no_such_pipeline", "x.spacy"], ["no such pipeline"]),
    (["bench", "no_such_pipeline", ROOT / "corpus" / "domain.txt"], ["no such pipeline"]),
    (["bench", "x", ROOT / "corpus" / "domain.txt", "--batches", "3"], ["--batches = 3", "30"]),
    (["bench", "x", "nowhere.txt"], ["nowhere.txt"]),
    (["package", "nowhere"], ["nowhere", "config.cfg is missing"]),
    (["verify", "nowhere", "--text", "a"], ["nowhere", "mtl package"]),
    (["convert", ROOT / "corpus" / "dev.jsonl", "--names", "a,a", "--out", "x"], ["--names", "'a,a'"]),
    (["convert", ROOT / "corpus" / "dev.jsonl", "--names", "../a", "--out", "x"], ["--names", "'../a'"]),
    (["convert", ROOT / "corpus" / "dev.jsonl", "--out", ROOT / "README.md"], ["README.md"]),
]


@pytest.mark.parametrize("arguments, words", MISTAKES)
def test_a_user_error_is_one_message_and_exit_code_1(tmp_path, arguments, words):
    done = mtl(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and all(word in done.stderr for word in words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("arguments, words", MISTAKES)
def test_a_user_error_has_no_traceback_in_a_process(tmp_path, arguments, words):
    done = mtl_process(*arguments, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ") and all(word in done.stderr for word in words)
    assert list(tmp_path.iterdir()) == []


def test_ask_and_evaluate(pipeline, corpus, tmp_path):
    done = mtl("ask", pipeline, "The pump failed in Oslo.", "What failed?", "Who called?")
    assert done.returncode == 0 and "? What failed?" in done.stdout and "> " in done.stdout
    for text, words in (("nowhere.txt", "no such file"), (" ", "empty"), (corpus / "dev.spacy", "standard input")):
        done = mtl("ask", pipeline, text, "What failed?")
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr
    wrong = {"--name": ("my pipe", "'my pipe'"), "--version": ("one", "1.0.0"), "--metrics": ("x", "x: cannot be read")}
    for setting, (value, words) in wrong.items():
        done = mtl("package", pipeline, "--out", tmp_path / "packages", setting, value)
        assert done.returncode == 1 and words in done.stderr and "Traceback" not in done.stderr
    (tmp_path / "folder").mkdir()
    done = mtl("evaluate", pipeline, corpus / "test.spacy", "--out", tmp_path / "folder")
    assert done.returncode == 1 and "is a folder" in done.stderr
    done = mtl("evaluate", pipeline, corpus / "test.spacy", "--train", corpus / "train.spacy", "--out", tmp_path / "m.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "m.json").read_text())
    assert set(result["baselines"]) == {"ents_f", "qa_f1", "qa_em"}  # the pipeline has none of the test set's categories
    assert {"ents_f", "qa_f1", "qa_em"} <= set(result["scores"]) and result["documents"] == 100
    assert "dictionary of training entities" in done.stdout


def test_bench(pipeline, corpus, tmp_path):
    question = ("--question", "What failed?", "--batch-size", "2", "--threads", "1")
    done = mtl("bench", pipeline, corpus / "dev.spacy", *question, "--out", tmp_path / "b.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "b.json").read_text())
    words, wait = result["words_per_second"], result["latency_ms"]
    assert 0 < words["low"] <= words["mean"] <= words["high"] and 0 < wait["p50"] <= wait["p95"] <= wait["p99"]
    assert result["settings"]["batches"] == 30 and result["machine"]["threads"] == 1 and result["load_seconds"] > 0
    assert result["pipeline"]["encoder"]["precision"] == "fp32" and str(tmp_path) not in json.dumps(result)
    assert "95% interval" in done.stdout
    done = mtl("bench", pipeline, corpus / "dev.spacy", *question, "--profile", "--out", tmp_path / "p.json")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "p.json").read_text())
    assert set(result["stages"]) == {"tokenize", "align", "encode", "textcat", "ner", "qa", "annotate", "transformer", "other"}
    assert 0.9 * result["seconds"] < sum(result["stages"].values()) <= result["seconds"]


def test_steps_are_those_of_the_first_epoch(corpus, monkeypatch):
    done = mtl(
        "steps", ROOT / "configs" / "sample.cfg", "--paths.train", corpus / "train.spacy", "--training.batcher.size", "2000"
    )
    assert done.returncode == 0, done.stderr
    first, *tasks = done.stdout.splitlines()
    numbers = [int(word.replace(",", "")) for word in first.split() if word[0].isdigit()]
    assert numbers[1] == 300 and 25 < numbers[0] < 60
    assert [line.split()[0] for line in tasks] == ["categories", "entities", "questions"] and "examples" in tasks[0]
    overrides = ["--paths.train", corpus / "train.spacy", "--training.batcher.size", "2000"]
    config = ROOT / "configs" / "sample.cfg"
    seen = []
    monkeypatch.setattr("mtl.training.steps.step_seconds", lambda path, given: seen.append(list(given)) or (60.0, 10))
    result = CliRunner().invoke(app, ["steps", str(config), "--minutes", *map(str, overrides)], catch_exceptions=False)
    assert seen == [list(map(str, overrides))] and "10 steps (training.max_steps) 10 minutes" in result.output
    done = mtl("steps", "nowhere.cfg")
    assert done.returncode == 1 and "no such file" in done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_a_terminal_that_lacks_a_character_is_no_error(encoding, tmp_path):
    """The files are written already; only the line on the screen has a "?"."""
    answer = {"text": "Ωmega", "answer_start": 9}
    row = {"text": "The Ωmega pump failed → it leaked.", "qas": [{"question": "Which?", "answers": [answer]}]}
    (tmp_path / "train.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "mtl", "convert", str(tmp_path / "train.jsonl"), "--out", str(tmp_path / "spacy")]
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert b"mega" in done.stdout and (tmp_path / "spacy" / "train.spacy").exists()


def test_asking_a_pipeline_without_the_head(tmp_path):
    spacy.blank("en").to_disk(tmp_path / "blank")
    done = mtl("ask", tmp_path / "blank", "text", "Why?")
    assert done.returncode == 1 and "no question-answering head" in done.stderr


def train_command(tiny_folder, corpus, out, *more):
    return [
        sys.executable, "-m", "spacy", "train", str(ROOT / "configs" / "sample.cfg"), "--output", str(out), "--paths.train",
        str(corpus / "train.spacy"), "--paths.dev", str(corpus / "dev.spacy"), "--paths.encoder", tiny_folder,
        "--training.logger.weighting_log", str(out) + "-weighting.jsonl", *more,
    ]  # fmt: skip


def test_mtl_train_runs_the_sample_config_and_saves_no_local_path(longer, corpus, tmp_path):
    settings = {
        "paths.train": corpus / "train.spacy", "paths.dev": corpus / "dev.spacy", "paths.encoder": longer,
        "training.max_steps": 2, "training.eval_frequency": 2, "training.logger.weighting_log": tmp_path / "weighting.jsonl",
    }  # fmt: skip
    overrides = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    done = mtl("train", ROOT / "configs" / "sample.cfg", "--output", tmp_path / "out", *overrides)
    assert done.returncode == 0, done.stderr
    assert spacy.load(tmp_path / "out" / "model-last")("The pump failed.").cats
    assert str(tmp_path) not in (tmp_path / "out" / "model-last" / "config.cfg").read_text()
    rows = [json.loads(line) for line in (tmp_path / "weighting.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 2]


@pytest.mark.slow
def test_spacy_train_runs_our_config_without_code_and_saves_no_local_path(longer, corpus, tmp_path):
    out = tmp_path / "out"
    more = ["--training.max_steps", "6", "--training.eval_frequency", "3"]
    done = subprocess.run(train_command(longer, corpus, out, *more), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-2000:]
    header = next(line for line in done.stdout.splitlines() if "CATS_ACCURACY" in line)
    assert all(column in header for column in ("LOSS TEXTCAT", "LOSS NER", "LOSS QA", "ENTS_F", "QA_F1", "SCORE"))
    nlp = spacy.load(out / "model-best")
    assert nlp("The pump failed.").cats and nlp("The pump failed.")._.ask("What failed?") is not None
    for file in (out / "model-best").rglob("*"):
        assert not file.is_file() or str(tmp_path).encode() not in file.read_bytes(), file
    rows = [json.loads(line) for line in Path(str(out) + "-weighting.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 3, 6] and "cosine/ner/textcat" in rows[1] and rows[1]["norm/qa"] > 0
    assert {entry.name for entry in out.iterdir()} == {"model-best", "model-last"}


@pytest.mark.slow
def test_ctrl_c_in_training_leaves_the_best_model_loadable(longer, corpus, tmp_path):
    out = tmp_path / "out"
    more = ["--training.max_steps", "100000", "--training.eval_frequency", "2", "--training.logger.progress_bar", "false"]
    process = subprocess.Popen(
        train_command(longer, corpus, out, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    deadline = time.monotonic() + 300
    while not (out / "model-best" / "meta.json").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=180)
    assert process.returncode != 0
    assert spacy.load(out / "model-best")("The pump failed.").cats
    assert not [entry.name for entry in out.iterdir() if entry.name.startswith(".")]


@pytest.mark.slow
def test_an_error_in_a_config_is_named_without_traceback(longer, corpus, tmp_path):
    for name, value, words in (
        ("components.transformer.model.precision", "fp8", ["precision", "bf16"]),
        ("paths.encoder", str(tmp_path / "nowhere"), ["no such folder"]),
        ("training.optimizer.grad_clip", "-1", ["optimizer.grad_clip"]),
    ):
        done = subprocess.run(
            train_command(longer, corpus, tmp_path / "out", f"--{name}", value), capture_output=True, text=True, env=ENVIRONMENT
        )
        assert done.returncode != 0 and all(word in done.stderr + done.stdout for word in words), name
        assert "Traceback" not in done.stderr, done.stderr[-3000:]


@pytest.mark.slow
def test_a_head_without_training_data_is_one_message(longer, tmp_path):
    nlp = spacy.blank("en")
    docs = [gold_doc(nlp, "The pump failed.", cats={"A": 1.0, "B": 0.0}), gold_doc(nlp, "It leaked.", cats={"A": 0.0, "B": 1.0})]
    for split in ("train", "dev"):
        write_docs(docs, tmp_path / f"{split}.spacy")
    done = subprocess.run(train_command(longer, tmp_path, tmp_path / "out"), capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: the head 'ner' has no training data" in done.stderr and "remove the head" in done.stderr


def test_a_full_disk_keeps_what_was_saved(pipeline, tmp_path, monkeypatch):
    nlp = spacy.load(pipeline)
    safe = atomic_save()(nlp)
    safe.to_disk(tmp_path / "model")
    before = {file: file.read_bytes() for file in (tmp_path / "model").rglob("*") if file.is_file()}

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nlp.get_pipe("ner"), "to_disk", full)
    with pytest.raises(UserError, match=r"not enough disk space to write .*model .*untouched"):
        safe.to_disk(tmp_path / "model")
    assert {file: file.read_bytes() for file in (tmp_path / "model").rglob("*") if file.is_file()} == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]


def test_replacing_is_all_or_nothing(tmp_path):
    target = tmp_path / "file"
    with replacing(target) as partial:
        partial.write_text("one")
    with pytest.raises(RuntimeError), replacing(target) as partial:
        partial.write_text("two")
        raise RuntimeError
    assert target.read_text() == "one" and [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_what_a_command_did_not_write_is_not_replaced(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "precious.txt").write_text("precious")
    (tmp_path / "notes.old").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for target, marker in (("notes", ""), ("notes", "adapt.json"), ("file", "adapt.json"), ("file/under", ""), (".", "*.spacy")):
        with pytest.raises(UserError, match=target.replace(".", "[.]")), replacing(tmp_path / target, marker):
            raise AssertionError("not reached")
    assert (tmp_path / "notes" / "precious.txt").read_text() == "precious"
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with replacing(tmp_path / "link") as partial:
        partial.write_text("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "new"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "link", "notes", "notes.old"]


@pytest.mark.parametrize("strike", [1, 2])
def test_ctrl_c_between_the_two_renames_loses_nothing(tmp_path, monkeypatch, strike):
    target = tmp_path / "file"
    target.write_text("one")
    real, calls = os.replace, []

    def interrupted(source, destination):
        calls.append(1)
        if len(calls) == strike:
            raise KeyboardInterrupt
        real(source, destination)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), replacing(target) as partial:
        partial.write_text("two")
    assert target.read_text() == "one" and [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_absolute_paths_are_cut_from_a_saved_config(tmp_path):
    config = load_config(ROOT / "configs" / "sample.cfg")
    config["paths"] |= {"train": "/home/me/train.spacy", "dev": "C:\\data\\dev.spacy", "encoder": "training/encoder"}
    config.to_disk(tmp_path / "config.cfg")
    without_local_paths(tmp_path / "config.cfg")
    saved = load_config(tmp_path / "config.cfg")
    assert saved["paths"]["train"] == "train.spacy" and saved["paths"]["dev"] == "dev.spacy"
    assert saved["paths"]["encoder"] == "training/encoder" and saved["corpora"] == config["corpora"]


@pytest.mark.slow
def test_wheels_hold_the_pipeline_once_and_require_spacy_mtl(pipeline, tmp_path):
    import zipfile

    wheels = build_wheels(pipeline, tmp_path, "test_pipeline", "1.2.3")
    assert wheels[0].name == "en_test_pipeline-1.2.3-py3-none-any.whl"
    names = zipfile.ZipFile(wheels[0]).namelist()
    assert sum(name.endswith("encoder/model.safetensors") for name in names) == 1
    assert not any(name.endswith((".pkl", ".pt")) for name in names)
    metadata = zipfile.ZipFile(wheels[0]).read(next(n for n in names if n.endswith(".dist-info/METADATA"))).decode()
    assert "Requires-Dist: spacy-mtl" in metadata and "doc._.ask" in metadata
    names = zipfile.ZipFile(wheels[1]).namelist()
    assert "mtl/tasks/qa/component.py" in names and "mtl/py.typed" in names and not any("test" in name for name in names)


@pytest.mark.slow
def test_an_ordinary_installation_gives_its_own_wheel_back(tmp_path):
    """Installed from a wheel, not from sources: what `mtl package` writes must install the same files."""
    first = own_wheel(tmp_path)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", "--no-index", "--target"]
    code = "import sys; from pathlib import Path; from mtl.deploy.own_wheel import own_wheel; print(own_wheel(Path(sys.argv[1])))"
    (tmp_path / "again").mkdir()
    subprocess.run([*pip, str(tmp_path / "site"), str(first)], check=True)
    there = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path / "site")}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again")], check=True, env=there, cwd=tmp_path)
    (again,) = (tmp_path / "again").iterdir()
    assert again.name == first.name
    subprocess.run([*pip, str(tmp_path / "site2"), str(again)], check=True)  # pip compares the hashes
    left_out = ("RECORD", "direct_url.json")
    installed = [
        {str(file.relative_to(site)): hashlib.sha256(file.read_bytes()).hexdigest()
         for file in site.rglob("*") if file.is_file() and file.suffix != ".pyc" and file.name not in left_out}
        for site in (tmp_path / "site", tmp_path / "site2")
    ]  # fmt: skip
    assert installed[0] == installed[1] and any(name.endswith("entry_points.txt") for name in installed[0])
    (tmp_path / "site" / "spacy_mtl-0.1.0.dist-info" / "RECORD").unlink()
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=there, cwd=tmp_path)
    assert "without the list of its files (RECORD); install it with pip" in done.stderr


def test_packages_are_installed_by_their_paths(tmp_path):
    """Asked for a name, pip would also take anyone's higher version from the index."""
    line = install_command([Path("packages/en_a-1.0.0-py3-none-any.whl"), Path("own.whl"), Path("/a b/c.whl")])
    assert line == "pip install packages/en_a-1.0.0-py3-none-any.whl ./own.whl '/a b/c.whl'"
    (tmp_path / "en_a-1.0.0-py3-none-any.whl").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"no wheel of spacy-mtl there, which en_a-1.0.0-py3-none-any.whl needs; run `mtl package`"
    ):
        verify_wheels(tmp_path, spacy.blank("en")("a"), False, print)
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for command in re.findall(r"^pip install .*$", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert not re.search(r" en_\w+( |$)", command), f"{page.name}: {command} asks the index for the name"


def test_the_project_says_what_is_there():
    project = srsly.read_yaml(ROOT / "project.yml")
    for asset in project["assets"]:
        assert hashlib.md5((ROOT / asset["dest"]).read_bytes()).hexdigest() == asset["checksum"]
    commands = {command["name"]: command for command in project["commands"]}
    assert list(commands) == project["workflows"]["all"]
    made = {asset["dest"] for asset in project["assets"]}
    for command in commands.values():
        assert command["outputs"], "a command without outputs always runs again"
        for dep in command["deps"]:
            assert dep in made or (ROOT / dep).exists() or dep.startswith("${vars"), dep
        made |= set(command["outputs"])


@pytest.mark.parametrize("folder", [ROOT, ROOT / "benchmarks" / "biomedical"], ids=["sample", "biomedical"])
def test_the_commands_of_a_project_have_the_options_it_gives(folder):
    project = srsly.read_yaml(folder / "project.yml")
    scripts = [shlex.split(script) for command in project["commands"] for script in command["script"]]
    for script in scripts:
        if script[:3] == ["python", "-m", "mtl"]:
            known = {option for parameter in COMMANDS[script[3]].params for option in parameter.opts}
            assert {part for part in script if part.startswith("--")} <= known, script
    assert set(re.findall(r"\$\{vars\.(\w+)\}", str(project))) == set(project["vars"])


def test_verification_shows_predictions_beside_gold(pipeline, corpus, tmp_path):
    """The script that `mtl verify` runs in the clean environment, run here on the pipeline's folder."""
    DocBin(docs=[pick_document(corpus / "test.spacy", 1)]).to_disk(tmp_path / "document.spacy")
    output = io.StringIO()
    with patch.object(sys, "argv", ["-c", str(pipeline), str(tmp_path / "document.spacy"), "gold"]), redirect_stdout(output):
        exec(CHECK, {})
    result = json.loads(output.getvalue())
    assert set(result["heads"]) == {"textcat", "ner", "qa"} and all(head["gold"] for head in result["heads"].values())
    report = verification_report(result)
    assert report.count("  gold") == 3 and "FOREIGN_OBJECT" in report and "upper fuselage crown" in report
    assert aligned_rows(["A", "x", "B"], ["A", "B", "y"]) == [("A", "A"), ("x", ""), ("B", "B"), ("", "y")]
    assert aligned_rows(["what? that"], ["this", "more"]) == [("what? that", "this"), ("", "more")]
    with pytest.raises(UserError, match=r"--document 101: .*test.spacy has 100 documents; allowed: 1 to 100"):
        pick_document(corpus / "test.spacy", 101)


def test_the_project_verifies_with_a_test_document():
    project = srsly.read_yaml(ROOT / "project.yml")
    verify = next(command for command in project["commands"] if command["name"] == "verify")
    assert "--data corpus/spacy/test.spacy --document ${vars.document}" in verify["script"][0]
    assert "corpus/spacy/test.spacy" in verify["deps"]


def test_the_sample_corpus_is_what_its_datasheet_says():
    for split, count in (("train", 300), ("dev", 70), ("test", 100)):
        rows = [json.loads(line) for line in (ROOT / "corpus" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
        assert len(rows) == count
        for row in rows:
            for entity in row.get("entities", ()):
                assert row["text"][entity["start"] : entity["end"]].strip()
            for qa in row.get("qas", ()):
                for answer in qa["answers"]:
                    assert row["text"][answer["answer_start"] :].startswith(answer["text"])
    assert len((ROOT / "corpus" / "domain.txt").read_text(encoding="utf-8").split()) >= 60_000


def test_the_readme_start_has_two_lines():
    block = (ROOT / "README.md").read_text().split("## Start", 1)[1].split("```")[1]
    lines = block.strip().splitlines()[1:] if not block.startswith("\n") else block.strip().splitlines()
    assert len(lines) == 2 and "spacy project run all" in lines[0] and "pytest" in lines[1]


def test_the_version_is_shown():
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0 and re.fullmatch(r"spacy-mtl \d+\.\d+\.\d+\n", result.output)
