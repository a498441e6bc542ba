"""The progress of a training run: on a terminal and elsewhere."""

import io
import json
import logging
import re
import time

import pytest
import spacy
from conftest import make_nlp, overfit, sample_examples, save_tiny
from spacy.training import Example
from spacy.util import load_config

from mtl import progress
from mtl.data.docs import write_docs
from mtl.progress import Bar, CountProgress, StepProgress, show_progress
from mtl.training.evaluation import evaluate_watched
from mtl.training.logger import console_logger, words_seen
from mtl.training.run import train_config

CONFIG = """
[nlp]
lang = "en"
pipeline = ["transformer", "textcat"]
[components]
[components.transformer]
factory = "mtl_transformer"
[components.textcat]
factory = "mtl_textcat"
[corpora]
[corpora.train]
@readers = "mtl.MultiTaskCorpus.v1"
[corpora.train.paths]
all = "{folder}/train.spacy"
[corpora.dev]
@readers = "mtl.Documents.v1"
paths = ["{folder}/train.spacy"]
[training]
train_corpus = "corpora.train"
dev_corpus = "corpora.dev"
seed = 0
gpu_allocator = null
max_steps = 6
max_epochs = -1
eval_frequency = 3
[training.logger]
@loggers = "mtl.ConsoleLogger.v1"
[training.optimizer]
@optimizers = "mtl.AdamW.v1"
[initialize]
[initialize.components]
[initialize.components.transformer]
[initialize.components.transformer.encoder_loader]
@misc = "mtl.HuggingFaceLoader.v1"
name = "{encoder}"
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """A clock that a test moves."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


class Run:
    """A run of 10 s and 100 words a step."""

    def __init__(self, monkeypatch, last_step, stream):
        self.clock, self.words = Clock(monkeypatch), 0
        self.progress = StepProgress(last_step, lambda: self.words, stream)

    def steps(self, count, words=100, seconds=10.0, **settings):
        for _ in range(count):
            self.words += words
            self.clock.now += seconds
            self.progress.advance(**settings)


def test_lines_come_every_30_seconds_where_there_is_no_terminal(monkeypatch):
    stream = io.StringIO()
    run = Run(monkeypatch, 60, stream)
    run.steps(7)
    assert stream.getvalue().splitlines() == [
        "step 2 of 60, 10 words/s, about 14 min left",  # 58 steps of 15 s: the time of the first one is in 30 s
        "step 5 of 60, 10 words/s, about 11 min left",
    ]


def test_evaluations_count_in_the_time_left_and_not_in_the_speed(monkeypatch):
    stream = io.StringIO()
    run = Run(monkeypatch, 11, stream)
    run.steps(1, evaluated=True, seconds=100.0)
    run.steps(3)
    assert stream.getvalue().splitlines() == ["step 0 of 11", "step 3 of 11, 10 words/s, about 6 min left"]  # 8 of 130 / 3 s


def test_a_replay_does_not_count(monkeypatch):
    """Steps without words at the beginning are those of a resumed run; the clock starts after them."""
    stream = io.StringIO()
    run = Run(monkeypatch, 30, stream)
    run.steps(10, words=0, seconds=1.0)
    run.steps(11)
    assert "step 20 of 30, 10 words/s, about 2 min left" in stream.getvalue()


def test_a_pipeline_without_our_encoder_has_steps_only(monkeypatch):
    stream = io.StringIO()
    Run(monkeypatch, 0, stream).steps(4, words=0)
    assert stream.getvalue() == "step 2\n"


def test_a_terminal_gets_a_bar_over_all_steps_that_goes_away(monkeypatch):
    stream = Terminal()
    run = Run(monkeypatch, 60, stream)
    run.progress.bar.mininterval = 0
    run.steps(31)
    shown = stream.getvalue()
    assert "30/60" in shown and "50%" in shown and "10 words/s" in shown and "\n" not in shown
    run.progress.hide()
    run.progress.close()
    assert stream.getvalue().rstrip("\r").endswith(" ")  # overwritten by blanks


def test_lines_that_overwrite_themselves_are_for_terminals_only(monkeypatch):
    for stream, expected in ((Terminal(), "\rhalf"), (io.StringIO(), "")):
        monkeypatch.setattr("sys.stderr", stream)
        show_progress("\rhalf")
        assert stream.getvalue() == expected


def test_words_are_those_of_the_batches_also_with_a_frozen_encoder(tiny):
    nlp = make_nlp(tiny())
    examples = sample_examples(nlp)
    words = sum(len(example.predicted) for example in examples)
    overfit(nlp, examples, steps=2)
    assert words_seen(nlp) == 2 * words
    nlp.update(examples, exclude=["transformer"])
    assert words_seen(nlp) == 3 * words
    list(nlp.pipe(["The pump failed."]))
    assert words_seen(nlp) == 3 * words


@pytest.fixture
def config(tmp_path):
    nlp = spacy.blank("en")
    write_docs([example.reference for example in sample_examples(nlp)], tmp_path / "train.spacy")
    encoder = save_tiny("bert", tmp_path / "encoder")
    (tmp_path / "config.cfg").write_text(CONFIG.format(folder=tmp_path, encoder=encoder))
    return tmp_path / "config.cfg"


def test_training_shows_its_progress_and_keeps_the_table(config, tmp_path, monkeypatch):
    monkeypatch.setattr(progress.Verbosity, "seconds", 0.0)
    stdout, stderr = io.StringIO(), io.StringIO()
    train_config(load_config(config), tmp_path / "out", stdout=stdout, stderr=stderr)
    lines = stderr.getvalue().splitlines()
    assert [re.match(r"step (\d) of 6", line).group(1) for line in lines] == list("0123456")
    assert "words/s" not in lines[0] and all(re.search(r" [\d,]+ words/s", line) for line in lines[1:])
    table = [line.split() for line in stdout.getvalue().splitlines()]
    assert [row[1] for row in table if len(row) > 2 and row[1].isdigit()] == ["0", "3", "6"]


def test_progress_can_be_switched_off(config, tmp_path, monkeypatch):
    monkeypatch.setattr(progress.Verbosity, "seconds", 0.0)
    stderr = io.StringIO()
    off = load_config(config, overrides={"training.logger.progress_bar": False})
    train_config(off, tmp_path / "out", stdout=io.StringIO(), stderr=stderr)
    assert stderr.getvalue() == ""


def test_a_table_row_is_written_while_the_bar_is_hidden(config, tmp_path):
    stream = Terminal()  # both streams, as on a terminal
    train_config(load_config(config), tmp_path / "out", stdout=stream, stderr=stream)
    lines = stream.getvalue().splitlines()
    rows = [line.split("\r")[-1] for line in lines if re.match(r"\s*\d+\s+[036]\s", line.split("\r")[-1])]
    assert len(rows) == 3 and not any("steps" in row for row in rows)


def test_the_weighting_log_has_a_row_for_each_evaluation(tiny, tmp_path):
    nlp = make_nlp(tiny(), heads=("textcat", "ner"))
    nlp.config["training"]["score_weights"] = {}
    log_step, finish = console_logger(str(tmp_path / "log.jsonl"))(nlp, io.StringIO(), io.StringIO())
    examples = sample_examples(nlp)
    losses = {"transformer": 0.0, "textcat": 0.0, "ner": 0.0}
    for step in range(3):
        overfit(nlp, examples, steps=1)
        nlp.get_pipe("transformer").take_due_step()
        info = {"epoch": 0, "step": step, "losses": losses, "other_scores": {}, "score": 0.0}
        log_step(info if step != 1 else None)
    finish()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 2] and {"norm/ner", "weight/textcat"} <= set(rows[1])


# Work that counts items, and how much is shown


def counted(monkeypatch, stream, seconds=40.0, **settings):
    clock = Clock(monkeypatch)
    with CountProgress("reading a.jsonl", "documents", stream=stream, **settings) as counter:
        for _ in counter.over(range(4)):
            clock.now += seconds
    return stream.getvalue()


def test_items_are_counted_in_lines_with_rate_and_time_left(monkeypatch):
    lines = counted(monkeypatch, io.StringIO(), total=8).splitlines()
    assert lines[0] == "reading a.jsonl: 1 of 8 documents, 0 a second, about 280 s left" and len(lines) == 4
    assert counted(monkeypatch, io.StringIO(), seconds=1.0) == ""  # nothing where it takes no time


def test_items_are_counted_in_a_bar_on_a_terminal(monkeypatch):
    assert "reading a.jsonl" in counted(monkeypatch, Terminal(), seconds=1.5, total=8)
    assert counted(monkeypatch, Terminal(), seconds=0.1) == ""


def test_quiet_shows_nothing_and_verbose_more(monkeypatch):
    try:
        progress.set_verbosity(quiet=True, verbose=False)
        run = Run(monkeypatch, 10, Terminal())
        run.steps(5)
        assert counted(monkeypatch, Terminal()) == counted(monkeypatch, io.StringIO()) == run.progress.stream.getvalue() == ""
        progress.set_verbosity(quiet=False, verbose=True)
        assert len(counted(monkeypatch, io.StringIO(), seconds=6.0).splitlines()) == 4
    finally:
        progress.set_verbosity(quiet=False, verbose=False)
        logging.getLogger("mtl").setLevel(logging.NOTSET)


def test_a_long_evaluation_shows_its_progress(config, monkeypatch, capsys):
    monkeypatch.setattr(progress.Verbosity, "seconds", 0.0)
    nlp = spacy.blank("en")
    examples = [Example(nlp.make_doc("a b"), nlp("a b")) for _ in range(3)]
    evaluate_watched(nlp, examples)
    assert "scoring: 2 of 3 documents" in capsys.readouterr().err
    assert "pipe" not in vars(nlp)


def test_a_bar_is_plain_lines_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr(progress.Verbosity, "seconds", 0.05)
    stream = io.StringIO()
    bar = Bar(range(5), unit="document", file=stream)
    bar.set_description("read")
    for _ in bar:
        time.sleep(0.04)
    lines = stream.getvalue().splitlines()
    assert 1 <= len(lines) <= 4 and "\r" not in stream.getvalue()
    assert re.fullmatch(r"read: \d of 5, +[\d.]+document/s, 00:0\d left", lines[0]), lines[0]
    quick = io.StringIO()
    monkeypatch.setattr(progress.Verbosity, "seconds", 30.0)
    list(Bar(range(5), desc="read", file=quick))
    assert quick.getvalue() == ""
    terminal = Terminal()
    list(Bar(range(5), desc="read", file=terminal))
    assert "read: 100%" in terminal.getvalue()
