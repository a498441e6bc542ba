"""Tasks as objects: all that the rest of the program knows of a task, the task says."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import GOLD, HEADS, ROOT, TASKS, gold_doc, make_nlp, save_tiny
from spacy.lang.en import English
from spacy.tokens import DocBin
from spacy.vocab import Vocab

from mtl.adaptation.probe import Features, probe_score
from mtl.registry import headlines, heads_of, registered_tasks, score_of, task_types, tasks_of

NLP = English()
TEXT = "The pump failed."


@pytest.mark.parametrize("name", list(HEADS))
def test_a_task_knows_its_gold_and_only_its_own(name):
    doc, bare = gold_doc(NLP, TEXT, **GOLD[name]), NLP.make_doc(TEXT)
    annotated = [task.name for task in registered_tasks() if task.is_annotated(doc) and not task.is_auxiliary]
    assert set(annotated) == {name}
    assert not any(task.is_annotated(bare) for task in registered_tasks() if not task.is_auxiliary)
    (back,) = DocBin().from_bytes(DocBin(docs=[doc]).to_bytes()).get_docs(Vocab())
    task = TASKS[name].defaults()[0]
    assert task.is_annotated(back) and task.show_gold(back) == task.show_gold(doc) != []
    assert task.signature(back) == task.signature(doc)


@pytest.mark.parametrize("name", list(HEADS))
def test_a_task_says_what_a_report_needs(name):
    task = TASKS[name].defaults()[0]
    assert task.headline(dict.fromkeys((score.key for score in task.scores), 0.5)) in task.headlines
    assert all(score_of(score.key) == score for score in task.scores)
    assert len({score.title for score in task.scores}) == len(task.scores)
    assert task.usage(name) and task.title and task.survives
    doc = gold_doc(NLP, TEXT, **GOLD[name])
    assert task.encodings(doc) and not task.encodings(NLP.make_doc(TEXT))
    assert all(item.targets is not None for item in task.probe_items(doc)) and task.probe_items(doc)


@pytest.mark.parametrize("name", list(HEADS))
def test_a_head_describes_itself_with_its_own_settings(tiny, name):
    nlp = make_nlp(tiny(), heads=(name,))
    (head,) = heads_of(nlp).values()
    assert isinstance(head.task, TASKS[name]) and tasks_of(nlp)[0] is head.task
    assert {type(task) for task in tasks_of(nlp)} == set(task_types())
    again = TASKS[name].from_settings(nlp.config["components"][name])
    assert [score.key for score in again.scores] == [score.key for score in head.task.scores]


def test_headlines_name_one_score_a_task():
    scores = {score.key: 0.5 for task in registered_tasks() for score in task.scores}
    expected = ["cats_accuracy", "ents_f", "attributes_f", "qa_f1", "tag_acc", "pos_acc", "score_spearman"]
    assert headlines(scores) == expected
    assert headlines({"cats_macro_auc": 0.9, "score_mae": 2.0}) == ["cats_macro_auc", "score_mae"]
    mae = score_of("temperature_mae")  # of a regressor with a key of its own
    assert mae.is_error and mae.title == "temperature: mean absolute error" and mae.loss(2.0, 3.0) == pytest.approx(50)
    assert score_of("nothing_of_ours") is None


def test_the_probe_scores_every_kind_of_target():
    import numpy as np

    vectors = np.array([[-1.0, 0.0], [1.0, 0.0]] * 20)
    for targets in ([{"A": False}, {"A": True}], [False, True], ["", "B"], [1.0, 2.0]):
        features = Features(vectors, targets * 20)
        assert probe_score(features, features) == pytest.approx(1.0), targets
        assert probe_score(features, Features(-vectors, targets * 20)) < 0.7, targets


ROOMS = ["training/evaluation", "deploy/optimize", "deploy/packaging", "deploy/verify", "sampling/*", "tasks/teacher",
         "augment/*", "*/probe", "compare/*", "data/convert", "data/docs", "training/distill",
         "training/single_head"]  # fmt: skip


def test_nothing_but_the_tasks_names_a_task():
    """Names, factories and score keys of tasks as strings or identifiers, in the rooms that iterate over tasks."""
    forbidden = {task.name for task in task_types()} | {task.factory for task in task_types()}
    forbidden |= {score.key for task in registered_tasks() for score in task.scores}
    for pattern in ROOMS:
        for file in (ROOT / "mtl").glob(f"{pattern}.py"):
            names = set()
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    names.add(node.value)
                elif isinstance(node, (ast.ImportFrom, ast.Import)):
                    module = getattr(node, "module", "") or ""
                    names |= set(module.split(".")) if module.startswith("mtl.tasks.") else set()
            assert not names & forbidden, f"{file.relative_to(ROOT)} names {names & forbidden}"


PIPELINE = """
import json, sys
from pathlib import Path
import spacy
from mtl.adaptation.probe import Probe
from mtl.cli.app import app
from mtl.encoder.pretrained.sources import load_tokenizer
from typer.testing import CliRunner

def run(*arguments):
    result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output

work, encoder = Path(sys.argv[1]), sys.argv[2]
said = run("convert", work / "train.jsonl", work / "dev.jsonl", "--out", work / "spacy")
assert "documents with a mood" in said and "is not read" not in said, said
run("train", work / "toy.cfg", "--output", work / "out")
best = work / "out" / "model-best"
dev, train = work / "spacy" / "dev.spacy", work / "spacy" / "train.spacy"
table = run("evaluate", best, dev, "--train", train, "--out", work / "scores.json")
assert "mood: accuracy" in table and "most frequent mood" in table, table
assert json.loads((work / "scores.json").read_text())["scores"]["mood_acc"] == 1.0, table
assert "mood" in run("optimize", best, dev, "--seconds", 0, "--dry-run")
probe = Probe([str(train)], [str(dev)], load_tokenizer(encoder))
assert set(probe.scores(spacy.load(best).get_pipe("transformer").encoder.model)) == {"mood"}
run("package", best, "--out", work / "wheels", "--name", "toy", "--metrics", work / "scores.json")
"""


@pytest.mark.slow
def test_a_task_of_another_package_trains_is_scored_optimised_packaged_and_loaded(tmp_path):
    """Without an edit in mtl/: by its folder and its entry points alone."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-deps", "--no-index"]
    toy = tmp_path / "source"
    subprocess.run(["cp", "-r", str(ROOT / "tests" / "toy_task"), str(toy)], check=True)
    subprocess.run([*pip, "--no-build-isolation", "--target", str(tmp_path / "site"), str(toy)], check=True)
    encoder = save_tiny("bert", tmp_path / "encoder")
    rows = [{"text": f"{word} {'and ' * i}again", "mood": mood} for i in range(4)
            for word, mood in (("good pump", "happy"), ("bad valve", "sad"))]  # fmt: skip
    for split in ("train", "dev"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "toy.cfg").write_text(
        (ROOT / "tests" / "toy_task" / "toy.cfg").read_text().replace("WORK", str(tmp_path)).replace("ENCODER", encoder)
    )
    run_there(tmp_path / "site", "-c", PIPELINE, str(tmp_path), encoder)
    wheel = next((tmp_path / "wheels").glob("en_toy-*.whl"))
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(wheel)], check=True)
    loaded = "import spacy; nlp = spacy.load('en_toy'); print(nlp('good pump again')._.mood, nlp('bad valve again')._.mood)"
    assert run_there(tmp_path / "site", "-c", loaded).split() == ["happy", "sad"]
    assert "doc._.mood" in next((tmp_path / "site").rglob("en_toy*/README.md")).read_text()


def run_there(site: Path, *arguments: str) -> str:
    """Run Python with packages of that folder beside those installed."""
    import os

    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_two_packages_cannot_register_the_same_task(monkeypatch):
    from importlib.metadata import EntryPoint

    from mtl import registry
    from mtl.errors import UserError

    points = [EntryPoint("x", "mtl.registry:Task", registry.GROUP), EntryPoint("x", "mtl.registry:Moved", registry.GROUP)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.raises(UserError, match="two packages register a task 'x'"):
        task_types.__wrapped__()
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint("y", "no.such:Thing", registry.GROUP)])
    with pytest.raises(UserError, match=r"the task 'y' .no.such:Thing. cannot be loaded"):
        task_types.__wrapped__()
