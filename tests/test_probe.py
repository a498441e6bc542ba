"""The frozen probe: its scores, and that it says which weights are kept."""

import json

import numpy as np
import pytest
import spacy
import torch
from conftest import TEXTS, gold_doc
from safetensors.torch import load_file
from transformers import AutoModel

from mtl.adapt.checkpoint import Checkpoints, Progress
from mtl.adapt.loop import Adaptation
from mtl.adapt.probe import Probe
from mtl.adapt.settings import AdaptSettings
from mtl.adapt.watch import Watch
from mtl.cli.app import app
from mtl.data.docs import write_docs
from mtl.encoder.sources import load_tokenizer
from mtl.errors import UserError

SMALL = {"length": 32, "batch_blocks": 4, "device": "cpu", "precision": "fp32", "held_out": 0.1}


@pytest.fixture
def labelled(tmp_path):
    """Two files of documents whose category, entity and answer are told by a word each."""
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


def test_what_a_word_tells_is_found_and_chance_is_not(tiny, labelled, tmp_path):
    tokenizer = load_tokenizer(tiny())
    probe = Probe(*labelled, tokenizer)
    model = AutoModel.from_pretrained(tiny()).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if "pooler" not in name}
    scores = probe.scores(model)
    assert set(scores) == {"categories", "entities", "answers"} and all(score > 0.95 for score in scores.values())
    assert model.training and all(torch.equal(before[name], model.state_dict()[name]) for name in before)
    assert probe.scores(model) == scores
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    blind = probe.scores(model)
    assert blind["entities"] == 0.0 and blind["answers"] < 0.2 and blind["categories"] < 0.7


def test_a_task_that_one_file_lacks_is_left_out(tiny, labelled, tmp_path):
    nlp = spacy.blank("en")
    write_docs([gold_doc(nlp, "The pump.", ents=[(4, 8, "LOC")])] * 3, tmp_path / "few.spacy")
    train, _ = labelled
    assert set(Probe(train, [str(tmp_path / "few.spacy")], load_tokenizer(tiny())).docs) == {"entities"}
    write_docs([nlp.make_doc("The pump.")], tmp_path / "none.spacy")
    with pytest.raises(UserError, match=r"none.spacy: no task is annotated in both"):
        Probe(train, [str(tmp_path / "none.spacy")], load_tokenizer(tiny()))


def test_the_best_probe_within_the_budget_decides(tmp_path):
    """Scores that are given here: the third's are best, but it has forgotten too much; the second has the least loss."""
    model = torch.nn.Linear(1, 1, bias=False)
    losses = iter([(5.0, 2.0), (3.0, 2.1), (4.0, 2.6), (4.5, 2.2)])
    scores = iter([{"a": 0.2, "b": 0.3}, {"a": 0.3, "b": 0.1}, {"a": 0.9, "b": 0.9}, {"a": 0.1, "b": 0.6}])
    watch = Watch(
        lambda: dict(zip(("in-domain", "general"), next(losses))), Checkpoints(tmp_path / "c", 1, {}), 3, 0.5, True,
        probe=lambda: next(scores),
    )  # fmt: skip
    progress = Progress()
    for step in range(4):
        with torch.no_grad():
            model.weight.fill_(step)
        progress.step = step
        watch.evaluate(model, progress)
    assert watch.best(progress)["step"] == 3 and progress.evaluations[3]["probe"] == {"a": 0.1, "b": 0.6}
    with torch.no_grad():
        model.weight.fill_(9)
    watch.restore(model, progress)
    assert model.weight.item() == 9  # the last evaluation is the best: its weights are the model's


def test_a_run_with_a_probe(tiny, labelled, tmp_path, capsys):
    (tmp_path / "domain.txt").write_text("\n\n".join(TEXTS * 10))
    given = [tiny(), str(tmp_path / "domain.txt"), "--out", str(tmp_path / "out"), "--max-steps", "8", "--length", "32"]
    given += ["--batch-blocks", "4", "--held-out", "0.1", "--precision", "fp32", "--device", "cpu", "--no-clean"]
    probe = ["--probe", labelled[0][0], "--probe-dev", labelled[1][0]]
    app(["adapt", *given, *probe], standalone_mode=False)
    report = json.loads((tmp_path / "out" / "adapt.json").read_text())
    means = [np.mean(list(found["probe"].values())) for found in report["evaluations"]]
    assert len(means) == 5 and report["best_step"] == report["evaluations"][int(np.argmax(means))]["step"]
    assert "probe, categories " in capsys.readouterr().err
    plain = Adaptation(tiny(), AdaptSettings(max_steps=8, **SMALL)).run([str(tmp_path / "domain.txt")], [], tmp_path / "plain")
    assert [found["losses"] for found in plain["evaluations"]] == [found["losses"] for found in report["evaluations"]]
    if plain["best_step"] == report["best_step"]:
        one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "plain"))
        assert all(torch.equal(one[name], two[name]) for name in one)
    with pytest.raises(UserError, match="--probe and --probe-dev go together"):
        app(["adapt", *given, *probe[:2]], standalone_mode=False)
