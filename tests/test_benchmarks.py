"""The benchmark scripts start, and the parts of them that could be wrong unnoticed."""

import csv
import importlib.util
import json
import runpy
import subprocess
import sys

import pytest
from conftest import DATA, ROOT

from mtl.data.formats.detect import read_records
from mtl.data.records import Report

SCRIPTS = [path for path in sorted((ROOT / "benchmarks").rglob("*.py")) if "ArgumentParser(" in path.read_text()]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT / "benchmarks")))
def test_every_script_finds_what_it_imports(script, monkeypatch, capsys):
    monkeypatch.syspath_prepend(script.parent)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as done:
        runpy.run_path(str(script), run_name="__main__")
    assert done.value.code == 0 and "usage: " in capsys.readouterr().out


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / "biomedical" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ARTICLE = """TITLE: A trial.

ABSTRACT.BACKGROUND: Little is known of this disease.

ABSTRACT.METHODS:
We gave forty patients the drug or a placebo.

ABSTRACT.RESULTS AND CONCLUSIONS: Two roles in one heading.

ABSTRACT.RESULTS: Pain was lower with the drug (p = 0.01).

BODY.RESULTS: Mortality did not differ between the groups. Pain was lower with the drug than with placebo.
"""


@pytest.fixture
def repository(tmp_path):
    """Evidence Inference's layout with one article that has a question and one that has none."""
    annotations = tmp_path / "annotations"
    for folder in ("splits", "txt_files"):
        (annotations / folder).mkdir(parents=True)
    for split in ("train", "validation"):
        (annotations / "splits" / f"{split}_article_ids.txt").write_text("1\n2\n")
    (annotations / "txt_files" / "PMC1.txt").write_text(ARTICLE)
    long = "This line is long enough to be running text, since it has more than eighty characters in all of it."
    (annotations / "txt_files" / "PMC2.txt").write_text(f"TITLE: Other.\n\nBODY.METHODS: {long}\nTable 1 | 2 | 3\n")
    start = ARTICLE.index("Pain was lower with the drug than")
    rows = [
        {"PMCID": "1", "PromptID": "7", "Valid Label": "True", "Valid Reasoning": "True", "Evidence Start": start,
         "Evidence End": start + len("Pain was lower with the drug than with placebo.")},
        {"PMCID": "1", "PromptID": "7", "Valid Label": "False", "Valid Reasoning": "True", "Evidence Start": 0,
         "Evidence End": 5},
    ]  # fmt: skip
    prompts = [{"PromptID": "7", "Outcome": "pain", "Intervention": "the drug", "Comparator": "placebo"}]
    for name, table in (("v2_annotations.csv", rows), ("prompts_merged.csv", prompts)):
        with (annotations / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, table[0].keys())
            writer.writeheader()
            writer.writerows(table)
    return annotations


def test_the_derived_sets(repository, tmp_path):
    fetch = load("fetch")
    fetch.derive(repository, tmp_path / "out")
    report = Report()
    roles = list(read_records(tmp_path / "out" / fetch.FILES["roles"][0], report))
    assert [list(record.cats) for record in roles] == [["BACKGROUND"], ["METHODS"], ["RESULTS"]]
    assert roles[1].text == "We gave forty patients the drug or a placebo."
    (record,) = read_records(tmp_path / "out" / fetch.FILES["qa"][0], report)
    assert record.questions[0].answers[0].text == "Pain was lower with the drug than with placebo."
    assert record.text[record.questions[0].answers[0].start :].startswith("Pain was lower")
    assert "With respect to pain" in record.questions[0].text
    assert "running text" in (tmp_path / "out" / fetch.FILES["raw"][0]).read_text()


@pytest.mark.slow
def test_fetch_says_what_is_missing(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "biomedical" / "fetch.py", "assets"],
        capture_output=True, text=True, cwd=tmp_path, env={"MTL_DATA": str(tmp_path), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 1 and "CDR_TrainingSet.PubTator.txt is not in" in done.stderr


def test_twins_read_tags_and_windows_right():
    twins = load("twins")
    doc = twins.NLP("Heparin lowers blood pressure")
    spans = twins._spans(doc, ["B-C", "O", "I-D", "I-D"])
    assert [(span.text, span.label_) for span in spans] == [("Heparin", "C"), ("blood pressure", "D")]


@pytest.mark.skipif(not DATA.exists(), reason="needs the public benchmark data (set MTL_DATA to its folder)")
def test_public_squad_file_is_what_the_benchmark_says():
    tree = json.loads((DATA / "biomedical/qa_evidence_inference/squad_sections_train.json").read_text())
    assert sum(len(p["qas"]) for a in tree["data"] for p in a["paragraphs"]) == 2302
