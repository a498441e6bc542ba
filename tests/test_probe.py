"""The frozen probe: its scores, and that they decide which weights are kept."""

import json

import numpy as np
import pytest
import spacy
import torch
from conftest import TEXTS, gold_doc
from safetensors.torch import load_file
from transformers import AutoModel

from mtl.adaptation.checkpoint import AdaptCheckpoints, Progress
from mtl.adaptation.monitor import Monitor
from mtl.adaptation.probe import Probe
from mtl.adaptation.run import adapt
from mtl.adaptation.settings import AdaptSettings
from mtl.cli.app import app
from mtl.data.docs import write_docs
from mtl.encoder.pretrained.sources import load_tokenizer
from mtl.errors import UserError

SMALL = {"block_size": 32, "batch_size": 4, "device": "cpu", "precision": "fp32", "validation_split": 0.1}


@pytest.fixture
def labelled(tmp_path):
    """Two files of documents whose category, entity and answer each follow from a single word."""
    nlp = spacy.blank("en")
    docs = []
    for i in range(60):
        part = ("pump", "valve")[i % 2]
        text = f"The {part} failed in Oslo on day {i}."
        cats = {"PUMP": float(i % 2 == 0), "VALVE": float(i % 2)}
        start = len(f"The {part} failed in ")
        docs.append(gold_doc(nlp, text, cats, [(start, start + 4, "LOC")], {"What failed?": part}))
    write_docs(docs[:40], tmp_path / "train.spacy")
    write_docs(docs[40:], tmp_path / "dev.spacy")
    return [str(tmp_path / "train.spacy")], [str(tmp_path / "dev.spacy")]


def test_easy_tasks_score_high_and_an_encoder_of_zeros_scores_low(tiny, labelled):
    tokenizer = load_tokenizer(tiny())
    probe = Probe(*labelled, tokenizer)
    model = AutoModel.from_pretrained(tiny()).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if "pooler" not in name}
    scores = probe.scores(model)
    assert set(scores) == {"categories", "entities", "questions"} and all(score > 0.95 for score in scores.values())
    assert model.training and all(torch.equal(before[name], model.state_dict()[name]) for name in before)
    assert probe.scores(model) == scores
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    blind = probe.scores(model)
    assert blind["entities"] == 0.0 and blind["questions"] < 0.2 and blind["categories"] < 0.7


def test_a_task_that_is_annotated_in_one_file_only_is_left_out(tiny, labelled, tmp_path):
    nlp = spacy.blank("en")
    write_docs([gold_doc(nlp, "The pump.", ents=[(4, 8, "LOC")])] * 3, tmp_path / "few.spacy")
    train, _ = labelled
    probe = Probe(train, [str(tmp_path / "few.spacy")], load_tokenizer(tiny()))
    assert [task.title for task in probe.docs] == ["entities"]
    write_docs([nlp.make_doc("The pump.")], tmp_path / "none.spacy")
    with pytest.raises(UserError, match=r"none.spacy: no task is annotated in both"):
        Probe(train, [str(tmp_path / "none.spacy")], load_tokenizer(tiny()))


def test_the_best_probe_within_the_limit_of_forgetting_decides(tmp_path):
    """The third evaluation has the best scores but has forgotten too much; the second has the lowest loss; the last is chosen."""
    model = torch.nn.Linear(1, 1, bias=False)
    losses = [(5.0, 2.0), (3.0, 2.1), (4.0, 2.6), (4.5, 2.2)]
    scores = [{"a": 0.2, "b": 0.3}, {"a": 0.3, "b": 0.1}, {"a": 0.9, "b": 0.9}, {"a": 0.1, "b": 0.6}]
    evaluations = iter(
        {"losses": {"in-domain": domain, "general": general}, "probe": probe} for (domain, general), probe in zip(losses, scores)
    )
    monitor = Monitor(lambda: next(evaluations), AdaptCheckpoints(tmp_path / "c", {}, 1), 3, 0.5)
    progress = Progress()
    for step in range(4):
        torch.nn.init.constant_(model.weight, step)
        progress.step = step
        monitor.evaluate(model, progress)
    assert monitor.best(progress)["step"] == 3 and progress.evaluations[3]["probe"] == {"a": 0.1, "b": 0.6}
    assert load_file(tmp_path / "c" / "best" / "model.safetensors")["weight"].item() == 3
    torch.nn.init.constant_(model.weight, 9)
    monitor.restore(model, progress)
    assert model.weight.item() == 9  # the last evaluation is the best: the model has its weights already


def test_a_run_saves_the_weights_of_the_best_probe_and_probing_changes_nothing_else(tiny, labelled, tmp_path, capsys):
    (tmp_path / "domain.txt").write_text("\n\n".join(TEXTS * 10))
    arguments = [
        tiny(), str(tmp_path / "domain.txt"), "--out", str(tmp_path / "out"), "--max-steps", "8", "--block-size", "32",
        "--batch-size", "4", "--validation-split", "0.1", "--precision", "fp32", "--device", "cpu", "--no-clean",
    ]  # fmt: skip
    probe_options = ["--probe", labelled[0][0], "--probe-dev", labelled[1][0]]
    app(["adapt", *arguments, *probe_options], standalone_mode=False)
    report = json.loads((tmp_path / "out" / "adapt.json").read_text())
    means = [np.mean(list(evaluation["probe"].values())) for evaluation in report["evaluations"]]
    best = report["evaluations"][int(np.argmax(means))]
    assert len(means) == 5 and report["best_step"] == best["step"]
    assert "probe, categories " in capsys.readouterr().err
    probe = Probe(*labelled, load_tokenizer(tiny()))
    assert probe.scores(AutoModel.from_pretrained(tmp_path / "out")) == best["probe"]
    settings = AdaptSettings(max_steps=8, **SMALL)
    plain = adapt(tiny(), [str(tmp_path / "domain.txt")], tmp_path / "plain", settings=settings)
    losses, plain_losses = ([evaluation["losses"] for evaluation in run["evaluations"]] for run in (report, plain))
    assert losses == plain_losses


def test_a_probe_needs_both_of_its_options(tiny, labelled, tmp_path):
    (tmp_path / "domain.txt").write_text("\n\n".join(TEXTS))
    with pytest.raises(UserError, match="--probe and --probe-dev go together"):
        arguments = [tiny(), str(tmp_path / "domain.txt"), "--out", str(tmp_path / "out"), "--probe", labelled[0][0]]
        app(["adapt", *arguments], standalone_mode=False)
