"""`mtl bench`, and what speed and memory depend on: batches, stages, devices that are too small."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import spacy
import torch
from conftest import TEXTS, make_nlp
from spacy.tokens import Doc

from mtl import pipe
from mtl.deploy.bench import BenchSettings, mean_interval, sample_batches
from mtl.encoder.model.subwords import TokenizedText
from mtl.encoder.runtime.device import free_memory
from mtl.errors import UserError
from mtl.timing import StageClock, stage


def docs_of(lengths):
    vocab = spacy.blank("en").vocab
    return [Doc(vocab, words=["a"] * length) for length in lengths]


def test_batches_hold_at_most_so_many_docs_and_tokens(monkeypatch):
    monkeypatch.setattr(pipe, "MOST_TOKENS", 10)
    sizes = [[len(doc) for doc in batch] for batch in pipe.batches(docs_of([4, 4, 4, 25, 1, 0, 0, 0, 1]), 3)]
    assert sizes == [[4, 4], [4], [25], [1, 0, 0], [0, 1]]


def test_a_full_batch_does_not_wait_for_the_next_doc():
    def stream():
        yield from docs_of([1, 1])
        raise AssertionError("asked for more than the batch")

    assert len(next(pipe.batches(stream(), 2))) == 2


def test_nested_stages_add_up(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    with StageClock() as clock, stage("outer"):  # entered at 0
        with stage("inner"):  # 1
            pass  # left at 2
        with stage("inner"):  # 3, left at 4
            pass
    assert clock.seconds == {"outer": 3, "inner": 2}
    with stage("nobody asks"):
        pass
    assert "nobody asks" not in clock.seconds


def test_every_document_is_used_before_any_is_repeated():
    texts = [str(i) for i in range(50)]
    batches = sample_batches(texts, BenchSettings(batches=30, batch_size=5))
    assert [len(batch) for batch in batches] == [5] * 30
    flat = [text for batch in batches for text in batch]
    assert sorted(flat[:50]) == sorted(texts) and flat[:50] != texts
    with pytest.raises(UserError, match="no text"):
        sample_batches([], BenchSettings())


def test_bootstrap_interval():
    values = np.random.default_rng(1).normal(100, 10, 400)
    interval = mean_interval(values)
    expected = 1.96 * values.std() / 20
    assert interval["mean"] == pytest.approx(values.mean(), abs=0.1)
    assert interval["high"] - interval["mean"] == pytest.approx(expected, rel=0.1)
    assert interval["mean"] - interval["low"] == pytest.approx(expected, rel=0.1)


def test_a_batch_that_does_not_fit_the_device_is_halved(nlp, monkeypatch):
    expected = [doc.cats for doc in nlp.pipe(TEXTS)]
    encoder = nlp.get_pipe("transformer").encoder
    model = encoder.inference.model(encoder.model)
    whole, sizes = model.forward, []

    def forward(input_ids, **inputs):
        sizes.append(len(input_ids))
        if len(input_ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(input_ids, **inputs)

    monkeypatch.setattr(model, "forward", forward)
    for doc, cats in zip(nlp.pipe(TEXTS), expected):
        assert doc.cats == pytest.approx(cats, abs=1e-5)
    assert max(sizes) == len(TEXTS) and sizes.count(1) == len(TEXTS)

    monkeypatch.setattr(model, "forward", lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(UserError, match=r"a single window of \d+ subwords; set a smaller components.transformer.model.window"):
        nlp(TEXTS[0])


def test_a_pipeline_of_a_later_version_says_which_to_install(nlp, tmp_path):
    nlp.to_disk(tmp_path)
    cfg = tmp_path / "transformer" / "cfg"
    saved = json.loads(cfg.read_text())
    assert saved["format"] == 1
    cfg.write_text(json.dumps({**saved, "format": 2, "saved_by": "7.1.0"}))
    with pytest.raises(UserError, match=r"pip install 'spacy-mtl>=7\.1\.0'"):
        spacy.load(tmp_path)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_padded_batch_gives_each_text_what_it_gets_alone(tiny, family):
    """With the mask that is broadcast (see BROADCASTS_MASK), and the texts of very different length."""
    encoder = make_nlp(tiny(family)).get_pipe("transformer").encoder
    assert encoder._windows.broadcasts_mask
    texts = [TokenizedText(text, np.array([0]), np.array([len(text)])) for text in (TEXTS[0], "Pump.", TEXTS[1][:30])]
    together = encoder.encode(texts).vectors
    for text, row in zip(texts, together):
        assert torch.allclose(encoder.encode([text]).vectors[0], row, atol=1e-6)


def test_a_document_larger_than_the_memory_is_refused_alone(nlp, monkeypatch):
    monkeypatch.setattr("mtl.encoder.runtime.device.LARGE", 0)
    monkeypatch.setattr("mtl.encoder.runtime.device.free_memory", lambda: 2 * 4 * 32 * 100)  # room for 100 tokens
    failed = []
    nlp.set_error_handler(lambda name, pipe, docs, error: failed.append((docs[0].text, str(error))))
    stream = [TEXTS[0], "word " * 101, TEXTS[1]]
    assert [doc.text for doc in nlp.pipe(stream)] == [TEXTS[0], TEXTS[1]]
    assert failed[0][0] == stream[1] and "101 tokens at once need about" in failed[0][1] and "split the document" in failed[0][1]


def fake_system(monkeypatch, root):
    """Let `free_memory` read its files below another root."""
    monkeypatch.setattr("mtl.encoder.runtime.device.Path", lambda path: root / path.lstrip("/"))


def write_meminfo(root, kilobytes):
    (root / "proc").mkdir()
    (root / "proc" / "meminfo").write_text(f"MemTotal:  999 kB\nMemAvailable:  {kilobytes} kB\n")


def write_cgroup(root, limit, used):
    folder = root / "sys" / "fs" / "cgroup"
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="the system has no /proc/meminfo")
def test_free_memory_is_what_the_system_says():
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free, available = free_memory(), 1024 * int(lines["MemAvailable"].split()[0])
    assert free is not None and 0 < free < 1.5 * available  # other processes run meanwhile


def test_free_memory_is_limited_by_the_control_group(tmp_path, monkeypatch):
    fake_system(monkeypatch, tmp_path)
    assert free_memory() is None
    write_meminfo(tmp_path, 4)
    assert free_memory() == 4 * 1024
    write_cgroup(tmp_path, 5000, 2000)
    assert free_memory() == 3000


def test_a_control_group_without_limit_leaves_what_the_system_has(tmp_path, monkeypatch):
    fake_system(monkeypatch, tmp_path)
    write_meminfo(tmp_path, 4)
    write_cgroup(tmp_path, "max", 2000)
    assert free_memory() == 4 * 1024
