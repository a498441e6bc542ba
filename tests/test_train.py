"""`mtl train`: spaCy's loop and config, with exact resume."""

import io
import json
import os
import signal
import subprocess
import sys

import pytest
import spacy
from conftest import ROOT, gold_doc, save_tiny, torchrun
from safetensors.torch import load_file
from spacy.lang.en import English
from spacy.util import load_config

from mtl import compat, distributed
from mtl.cli.app import app
from mtl.data.docs import write_docs
from mtl.errors import UserError
from mtl.training import run as module
from mtl.training.run import train_config

CONFIG = """
[paths]
train = "{folder}"
[nlp]
lang = "en"
pipeline = ["transformer", "textcat", "ner"]
[components]
[components.transformer]
factory = "mtl_transformer"
[components.transformer.model]
@architectures = "mtl.Encoder.v1"
device = "cpu"
[components.transformer.weighting]
@misc = "mtl.{weighting}Weighting.v1"
[components.textcat]
factory = "mtl_textcat"
[components.ner]
factory = "mtl_ner"
[corpora]
[corpora.train]
@readers = "mtl.MultiTaskCorpus.v1"
seed = 5
[corpora.train.sampling]
@misc = "mtl.DevGapSampling.v1"
scores = {{"roles": "cats_accuracy", "names": "ents_f"}}
references = {{"roles": 0.9, "names": 0.9}}
[corpora.train.paths]
roles = "{folder}/roles.spacy"
names = "{folder}/names.spacy"
[corpora.dev]
@readers = "mtl.Documents.v1"
paths = ["{folder}/roles.spacy", "{folder}/names.spacy"]
[training]
train_corpus = "corpora.train"
dev_corpus = "corpora.dev"
seed = 3
gpu_allocator = null
max_steps = 16
max_epochs = -1
eval_frequency = 5
dropout = 0.2
[training.batcher]
@batchers = "spacy.batch_by_words.v1"
size = 30
tolerance = 0.2
discard_oversize = false
[training.optimizer]
@optimizers = "mtl.AdamW.v1"
[training.optimizer.learn_rate]
@schedules = "mtl.WarmupLinear.v1"
peak_rate = 0.003
total_steps = 16
[training.logger]
@loggers = "mtl.ConsoleLogger.v1"
weighting_log = "{folder}/weighting.jsonl"
[training.score_weights]
cats_accuracy = 0.5
ents_f = 0.5
[initialize]
[initialize.components]
[initialize.components.transformer]
[initialize.components.transformer.encoder_loader]
@misc = "mtl.HuggingFaceLoader.v1"
name = "{folder}/encoder"
"""


@pytest.fixture
def project(tmp_path):
    """Two tasks, an encoder with dropout, and a function from a weighting to the config's file."""
    nlp = English()
    parts, places = ("pump", "fan", "door"), ("Oslo", "climb", "the hold", "rain")
    texts = [(part, f"{part} {i} failed in {place}.") for i, part in enumerate(parts) for place in places]
    roles = [gold_doc(nlp, text, cats={"A": float(i % 2), "B": float(1 - i % 2)}) for i, (_, text) in enumerate(texts)]
    names = [gold_doc(nlp, text, ents=[(0, len(part), "PART")]) for part, text in texts[:7]]
    write_docs(roles, tmp_path / "roles.spacy")
    write_docs(names, tmp_path / "names.spacy")
    save_tiny("bert", tmp_path / "encoder", hidden_dropout_prob=0.1)

    def config(weighting="Static"):
        path = tmp_path / f"{weighting}.cfg"
        path.write_text(CONFIG.format(folder=tmp_path, weighting=weighting))
        return path

    return config


def train(path, output, **given):
    said = io.StringIO()
    loaded = load_config(path, interpolate=False)
    nlp, interrupted = train_config(loaded, output, stdout=said, stderr=io.StringIO(), **given)
    return nlp, interrupted, said.getvalue()


def weights(folder):
    files = sorted(folder.rglob("*.safetensors"))
    return {str(file.relative_to(folder)): load_file(file) for file in files}


def assert_same(left, right):
    import torch

    first, second = weights(left), weights(right)
    assert first.keys() == second.keys() and len(first) == 3
    for file, tensors in first.items():
        assert all(torch.equal(tensors[name], second[file][name]) for name in tensors), file
    performance = [json.loads((folder / "meta.json").read_text())["performance"] for folder in (left, right)]
    assert performance[0] == performance[1]


KILL = """
import os, random, signal, sys
from pathlib import Path
from spacy.util import load_config
import mtl.training.run as module
whole, at = module.Recorder.before_update, int(sys.argv[3])
def killing(self, nlp, given):
    whole(self, nlp, given)
    if given["step"] == at and not self.replaying:
        os.kill(os.getpid(), signal.SIGKILL)
module.Recorder.before_update = killing
module.train_config(load_config(sys.argv[1], interpolate=False), Path(sys.argv[2]), checkpoint_minutes=1e-9)
"""


@pytest.mark.slow
@pytest.mark.parametrize("weighting, at", [("Static", 3), ("GradNorm", 11), ("UPGrad", 8)])
def test_a_killed_run_resumes_to_the_same_bits(project, tmp_path, weighting, at):
    """SIGKILL after an odd number of steps, some before and some after an evaluation; then the same command again."""
    if weighting == "UPGrad":
        pytest.importorskip("torchjd", reason="needs it: pip install spacy-mtl[surgery]")
    config = project(weighting)
    train(config, tmp_path / "whole")
    arguments = [sys.executable, "-c", KILL, str(config), str(tmp_path / "killed"), str(at)]
    process = subprocess.run(arguments, cwd=ROOT, capture_output=True, env={**os.environ, "PYTHONHASHSEED": "0"})
    assert process.returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "killed" / "checkpoints").glob("step-*")] != []
    _, interrupted, said = train(config, tmp_path / "killed")
    assert not interrupted and f"checkpoints/step-{at:08d}" in said
    for name in ("model-last", "model-best"):
        assert_same(tmp_path / "whole" / name, tmp_path / "killed" / name)
    assert not (tmp_path / "killed" / "checkpoints").exists()


def test_after_ctrl_c_the_same_command_resumes_to_the_same_bits(project, tmp_path, monkeypatch):
    config = project()
    train(config, tmp_path / "whole")
    update = module.Recorder._update
    seen = []

    def pressing(self, examples, **given):
        if not self.replaying:
            seen.append(1)
            if len(seen) == 7:
                os.kill(os.getpid(), signal.SIGINT)
        return update(self, examples, **given)

    monkeypatch.setattr(module.Recorder, "_update", pressing)
    _, interrupted, said = train(config, tmp_path / "out")
    assert interrupted and "interrupted" in said
    assert [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()] == ["step-00000007"]
    _, interrupted, _ = train(config, tmp_path / "out")
    assert not interrupted and len(seen) == 17  # none of the first seven again
    rows = [json.loads(line)["step"] for line in (tmp_path / "weighting.jsonl").read_text().splitlines()]
    assert rows == [0, 5, 10, 15]
    assert_same(tmp_path / "whole" / "model-last", tmp_path / "out" / "model-last")


def test_spacy_train_and_mtl_train_learn_the_same(project, tmp_path):
    from spacy.training.initialize import init_nlp
    from spacy.training.loop import train as spacy_train

    config = project()
    train(config, tmp_path / "ours")
    (tmp_path / "theirs").mkdir()
    spacy_train(init_nlp(load_config(config), use_gpu=-1), tmp_path / "theirs", stdout=io.StringIO(), stderr=io.StringIO())
    for name in ("model-last", "model-best"):
        ours, theirs = (tmp_path / which / name for which in ("ours", "theirs"))
        first, second = weights(ours), weights(theirs)
        assert first.keys() == second.keys()
        assert all((first[file][key] == second[file][key]).all() for file in first for key in first[file])


def test_the_best_is_chosen_over_references(project, tmp_path, monkeypatch):
    """Scores that are given here: the mean is highest at the third evaluation, the mean over references at the second."""
    given = iter([(0.1, 0.1), (0.3, 0.8), (0.9, 0.5), (0.2, 0.2)])
    saved, save = [], module.Saver.save

    def evaluate(self, *_, **__):
        return dict(zip(("cats_accuracy", "ents_f"), next(given)))

    def look(self, is_best, best_of, step=None):
        saved.append((is_best, best_of))
        save(self, is_best, best_of, step)

    monkeypatch.setattr(spacy.language.Language, "evaluate", evaluate)
    monkeypatch.setattr(module.Saver, "save", look)
    *_, log = train(project(), tmp_path / "out", references={"cats_accuracy": 0.9, "ents_f": 0.4}, best_per_score=True)
    assert [is_best for is_best, _ in saved] == [True, True, False, False, False]
    assert [best_of for _, best_of in saved][:3] == [["cats_accuracy", "ents_f"], ["cats_accuracy", "ents_f"], ["cats_accuracy"]]
    assert spacy.load(tmp_path / "out" / "model-best-ents_f")("pump")
    (line,) = [line for line in log.splitlines() if line.startswith("model-best is from step")]
    assert "categories: accuracy 30.0 instead of 90.0 at step" in line and "entities" not in line and "model-best-SCORE" in line


def test_the_last_evaluations_are_kept_and_can_be_averaged(project, tmp_path, capsys):
    """As many as asked for, each with the weights of its step; a new run starts over."""
    config = project()
    (tmp_path / "out" / "evaluations" / "999").mkdir(parents=True)
    app(["train", str(config), "--output", str(tmp_path / "out"), "--keep-evaluations", "2"], standalone_mode=False)
    kept = sorted((tmp_path / "out" / "evaluations").iterdir(), key=lambda folder: int(folder.name))
    assert len(kept) == 2 and kept[-1].name != "999"
    assert f"mtl average {tmp_path / 'out' / 'evaluations'}/* --dev" in capsys.readouterr().out
    first, last = (weights(folder) for folder in kept)
    assert not all((first[file][key] == last[file][key]).all() for file in first for key in first[file])
    expected = weights(tmp_path / "out" / "model-last")
    assert all((last[file][key] == expected[file][key]).all() for file in last for key in last[file])
    with pytest.raises(UserError, match="keep-evaluations = -1"):
        app(["train", str(config), "--output", str(tmp_path / "x"), "--keep-evaluations", "-1"], standalone_mode=False)


def test_a_reference_that_cannot_be_is_refused(project, tmp_path):
    config = project()
    with pytest.raises(UserError, match=r"reference ents_f = 83"):
        train(config, tmp_path / "out", references={"ents_f": 83.0})
    with pytest.raises(UserError, match=r"a reference is given for qa_f1, which is not evaluated; there are .*ents_f"):
        train(config, tmp_path / "out", references={"qa_f1": 0.8})
    for given in ("ents_f", "ents_f=high"):
        with pytest.raises(UserError, match=r"--reference '.*': .*as in ents_f=0.83"):
            app(["train", str(config), "--output", str(tmp_path / "x"), "--reference", given], standalone_mode=False)


def test_a_config_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere.cfg: no such file"):
        app(["train", "nowhere.cfg", "--output", str(tmp_path / "x")], standalone_mode=False)


def test_a_run_resumes_only_with_the_settings_it_had(project, tmp_path, monkeypatch):
    config = project()
    update, calls = module.Recorder._update, []

    def stopping(self, examples, **given):
        calls.append(1)
        self.stop_requested = len(calls) == 3
        return update(self, examples, **given)

    with monkeypatch.context() as patched:
        patched.setattr(module.Recorder, "_update", stopping)
        assert train(config, tmp_path / "out")[1]
    config.write_text(config.read_text().replace("peak_rate = 0.003", "peak_rate = 0.01"))
    changed = r"written with other settings \(training.optimizer.learn_rate.peak_rate was 0.003, is now 0.01\).*--no-resume"
    with pytest.raises(UserError, match=changed):
        train(config, tmp_path / "out")
    config.write_text(config.read_text().replace("peak_rate = 0.01", "peak_rate = 0.003"))
    with pytest.raises(UserError, match=r"choice.best_per_score was False, is now True"):
        train(config, tmp_path / "out", best_per_score=True)
    (tmp_path / "out" / "model-best-mine").mkdir()
    assert not train(config, tmp_path / "out", resume=False)[1] and (tmp_path / "out" / "model-best-mine").exists()


def test_a_damaged_checkpoint_is_named(project, tmp_path, monkeypatch):
    config, update, calls = project(), module.Recorder._update, []

    def stopping(self, examples, **given):
        calls.append(1)
        self.stop_requested = len(calls) == 3
        return update(self, examples, **given)

    with monkeypatch.context() as patched:
        patched.setattr(module.Recorder, "_update", stopping)
        train(config, tmp_path / "out")
    file = next((tmp_path / "out" / "checkpoints").rglob("optimizer.safetensors"))
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(UserError, match=r"step-00000003/optimizer.safetensors: the checkpoint is damaged"):
        train(config, tmp_path / "out")


def trained_by(start, path, output, *more):
    command = [*start, "mtl", "train", str(path), "--output", str(output), *more]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["Static", "UPGrad"])
def test_two_processes_learn_what_one_does(project, tmp_path, weighting):
    """Each has its part of every batch, some batches have one document, and some no document of a task: the same weights."""
    path = project(weighting)
    save_tiny("bert", tmp_path / "encoder")  # without dropout
    path.write_text(path.read_text().replace("dropout = 0.2", "dropout = 0.0").replace("size = 30", "size = 12"))
    said = {}
    for name in ("one", "two"):
        if name == "one":
            said[name] = train(path, tmp_path / name)[2]
        else:
            code, said[name], wrong = trained_by(torchrun(), path, tmp_path / name)
            assert code == 0, wrong[-3000:]
        said[name, "row"] = json.loads((tmp_path / "weighting.jsonl").read_text().splitlines()[-1])
    first, second = weights(tmp_path / "one" / "model-last"), weights(tmp_path / "two" / "model-last")
    assert first.keys() == second.keys() and len(first) == 3
    start = load_file(tmp_path / "encoder" / "model.safetensors")
    for file, tensors in first.items():
        for key, tensor in tensors.items():
            assert (tensor - second[file][key]).abs().max() < 2e-4, (file, key)
    key = "encoder.layer.0.output.dense.weight"
    assert (first["transformer/encoder/model.safetensors"][key] - start[key]).abs().max() > 5e-3
    assert said["two", "row"] == pytest.approx(said["one", "row"], rel=1e-2, abs=1e-3)  # norms, weights and cosines
    assert said["two"].count("CATS_ACC") == 1 == said["one"].count("CATS_ACC")  # one of them speaks
    scores = [json.loads((tmp_path / name / "model-last" / "meta.json").read_text())["performance"] for name in ("one", "two")]
    assert scores[0]["ents_f"] == scores[1]["ents_f"] and scores[0]["cats_accuracy"] == scores[1]["cats_accuracy"]


INTERRUPT = """
import os, signal, sys
from mtl import distributed
import mtl.training.run as module
whole = module.Recorder.before_update
def interrupting(self, nlp, given):
    if given["step"] == 7 and not self.replaying and not self.resumed_at and distributed.rank() == 1:
        os.kill(os.getpid(), signal.SIGINT)
    whole(self, nlp, given)
module.Recorder.before_update = interrupting
from mtl.cli.app import main
main()
"""


@pytest.mark.slow
def test_two_processes_stop_and_resume_together(project, tmp_path):
    """With dropout: what each process draws is in the checkpoint. One that is interrupted stops the other."""
    path = project()
    script = tmp_path / "interrupt.py"
    script.write_text(INTERRUPT)
    code, _, wrong = trained_by(torchrun(), path, tmp_path / "whole")
    assert code == 0, wrong[-3000:]
    start = [*torchrun()[:-1], str(script)]
    given = ["train", str(path), "--output", str(tmp_path / "stopped")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*start, *given], capture_output=True, text=True, env=environment)
    assert "repeat the command to resume" in done.stdout and done.returncode != 0
    assert [folder.name for folder in (tmp_path / "stopped" / "checkpoints").iterdir()] == ["step-00000007"]
    with pytest.raises(UserError, match="processes was 2, is now 1"):
        train(path, tmp_path / "stopped")
    code, said, wrong = trained_by(torchrun(), path, tmp_path / "stopped")
    assert code == 0 and "resuming from" in said, wrong[-3000:]
    assert_same(tmp_path / "whole" / "model-last", tmp_path / "stopped" / "model-last")


def test_several_processes_do_not_train_stock_components(project, tmp_path, monkeypatch):
    path = project()
    path.write_text(path.read_text().replace('"textcat", "ner"]', '"textcat", "ner", "tagger"]').replace(
        "[corpora]\n", '[components.tagger]\nfactory = "tagger"\n[corpora]\n', 1))  # fmt: skip
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 0)
    monkeypatch.setattr(compat, "init_nlp", lambda config, **given: spacy.util.load_model_from_config(config, auto_fill=True))
    with pytest.raises(UserError, match="several processes can only train our own heads; the pipeline has tagger"):
        train(path, tmp_path / "out")


LOGGERS = """[training.logger]
@loggers = "spacy.ChainLogger.v1"
[training.logger.logger1]
@loggers = "mtl.ConsoleLogger.v1"
weighting_log = "{folder}/weighting.jsonl"
[training.logger.logger2]
{second}
[training.score_weights]
"""


def logged_by(project, tmp_path, second, **given):
    path = project()
    before, _, rest = path.read_text().partition("[training.logger]")
    logger = LOGGERS.format(folder=tmp_path, second=second)
    path.write_text(before + logger + rest.partition("[training.score_weights]\n")[2])
    return train(path, tmp_path / "out", **given)


def test_the_tensorboard_logger_writes_losses_scores_and_weighting(project, tmp_path):
    pytest.importorskip("tensorboard", reason="pip install spacy-mtl[tensorboard]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    given = f'@loggers = "mtl.TensorBoardLogger.v1"\nlog_dir = "{tmp_path / "board"}"'
    _, _, said = logged_by(project, tmp_path, given)
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    names = set(events.Tags()["scalars"])
    assert {"loss/ner", "score/ents_f", "score", "weighting/norm/ner", "weighting/weight/textcat"} <= names
    assert [event.step for event in events.Scalars("score/ents_f")] == [0, 5, 10, 15]
    rows = [json.loads(row) for row in (tmp_path / "weighting.jsonl").read_text().splitlines()]
    assert [event.value for event in events.Scalars("weighting/norm/ner")] == pytest.approx([row["norm/ner"] for row in rows])
    assert said.count("CATS_ACC") == 1


def test_mlflow_gets_losses_and_scores(project, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="spacy-loggers logs to it where it is installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    logged_by(project, tmp_path, '@loggers = "spacy.MLflowLogger.v2"')
    (run,) = mlflow.search_runs(output_format="list")
    assert "loss_ner" in run.data.metrics and "ents_f" in run.data.metrics


def test_wandb_gets_a_run(project, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="spacy-loggers logs to it where it is installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    logged_by(project, tmp_path, '@loggers = "spacy.WandbLogger.v5"\nproject_name = "mtl"')
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_low_rank_updates_resume_to_the_same_bits(project, tmp_path, monkeypatch):
    pytest.importorskip("peft", reason="needs it: pip install spacy-mtl[lora]")
    path = project()
    path.write_text(path.read_text() + "lora_rank = 2\n")
    train(path, tmp_path / "whole")
    whole = module.Recorder.before_update

    def stopping(self, nlp, given):
        self.stop_requested = self.stop_requested or (given["step"] == 8 and not self.replaying)
        whole(self, nlp, given)

    with monkeypatch.context() as patched:
        patched.setattr(module.Recorder, "before_update", stopping)
        assert train(path, tmp_path / "stopped")[1]
    assert not train(path, tmp_path / "stopped")[1]
    assert_same(tmp_path / "whole" / "model-last", tmp_path / "stopped" / "model-last")


def test_documents_that_are_trained_and_scored_on_are_warned_of(project, tmp_path, caplog, capsys):
    train(project(), tmp_path / "out")
    assert "19 of the 19 documents that are scored on are in the training data too" in caplog.text
    scored, known = str(tmp_path / "names.spacy"), str(tmp_path / "roles.spacy")
    app(["evaluate", str(tmp_path / "out" / "model-last"), scored, "--train", known], standalone_mode=False)
    assert "note: 7 of the 7 documents that are scored on" in capsys.readouterr().out
    caplog.clear()
    write_docs([gold_doc(English(), "another one", cats={"A": 1.0, "B": 0.0}, ents=[(0, 7, "PART")])], tmp_path / "dev.spacy")
    changed = load_config(project(), overrides={"corpora.dev.paths": [str(tmp_path / "dev.spacy")]}, interpolate=False)
    train_config(changed, tmp_path / "other", stdout=io.StringIO(), stderr=io.StringIO())
    assert "scored on are in the training data" not in caplog.text
