"""Batches of predictions side by side: the same results, in order, even if one of them fails."""

import copy
import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import TEXTS, make_nlp, overfit, save_tiny
from spacy.tokens import Doc

from mtl.encoder.model.batching import batches_by_length
from mtl.encoder.model.forward import WindowForward
from mtl.encoder.runtime import workers
from mtl.encoder.runtime.processes import enter_process
from mtl.encoder.runtime.workers import side_by_side, worker_count
from mtl.encoder.texts import tokenized_texts
from mtl.errors import UserError


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def encoder(tmp_path):
    """One that reads 40 subwords at once, and documents."""
    nlp = make_nlp(save_tiny("bert", tmp_path / "encoder"), ("ner",), model={"max_batch_subwords": 40})
    docs = tokenized_texts([nlp.make_doc(text * times) for times in (1, 3, 2) for text in TEXTS])
    return nlp.get_pipe("transformer").encoder, docs


def test_the_vectors_are_those_of_one_thread(encoder):
    encoder, docs = encoder
    threaded = encoder.encode(docs)
    torch.set_num_threads(1)
    single = encoder.encode(docs)
    assert torch.allclose(single.vectors, threaded.vectors, atol=1e-5)
    assert torch.allclose(single.summaries, threaded.summaries, atol=1e-5)


def test_batches_run_in_workers_with_one_thread_each(encoder, monkeypatch):
    encoder, docs = encoder
    seen = []
    forward = WindowForward.forward

    def watched(self, *args):
        seen.append((threading.current_thread().name, torch.get_num_threads()))
        return forward(self, *args)

    monkeypatch.setattr(WindowForward, "forward", watched)
    encoder.encode(docs)
    assert {threads for _, threads in seen} == {1} and len({name for name, _ in seen}) == 2 and len(seen) > 4
    seen.clear()
    encoder.encode(docs[:1])  # a single window gets all of torch's threads
    assert seen == [(threading.current_thread().name, 2)]
    seen.clear()
    torch.set_num_threads(1)
    encoder.encode(docs)
    assert {name for name, _ in seen} == {threading.current_thread().name}


def test_training_stays_in_its_thread(encoder, monkeypatch):
    encoder, docs = encoder
    monkeypatch.setattr(workers, "_pool", lambda count: pytest.fail("training went to the workers"))
    assert encoder.encode(docs, train=True).vectors.requires_grad


def test_few_windows_are_shared_out():
    sizes = np.array([30, 10, 20, 40])
    assert [batch.tolist() for batch in batches_by_length(sizes, 1000)] == [[1, 2, 0, 3]]
    assert [batch.tolist() for batch in batches_by_length(sizes, 1000, 2)] == [[1, 2], [0], [3]]
    assert list(batches_by_length(np.zeros(0, np.int64), 1000, 2)) == []


def test_results_come_in_order_and_an_error_in_the_place_of_its_item():
    def run(item):
        time.sleep(0.02 * (item % 3 == 0))
        if item == 7:
            raise ValueError("seven")
        return 10 * item

    assert list(side_by_side(run, range(7), 3)) == [0, 10, 20, 30, 40, 50, 60]
    results = []
    with pytest.raises(ValueError, match="seven"):
        for result in side_by_side(run, range(50), 3):
            results.append(result)
    assert results == [0, 10, 20, 30, 40, 50, 60]
    assert list(side_by_side(run, [1, 2], 3)) == [10, 20]  # the workers are still there


def test_pending_work_is_bounded_and_dropped():
    """A consumer that stops leaves no work behind; results do not pile up for a slow one."""
    done = []
    results = side_by_side(lambda item: done.append(item) or item, range(1000), 2)
    assert next(results) == 0
    time.sleep(0.2)
    assert len(done) <= workers.MAX_PENDING * 2 + 1
    results.close()
    time.sleep(0.1)
    assert len(done) <= workers.MAX_PENDING * 2 + 1


def test_the_number_of_threads_stays_as_it_was():
    list(side_by_side(lambda item: item, range(4), 5))  # a pool of its own
    assert torch.get_num_threads() == 2 == worker_count(torch.device("cpu"))
    with ThreadPoolExecutor(1) as fresh:
        assert fresh.submit(torch.get_num_threads).result() == 2
    assert worker_count(torch.device("meta")) == 1


def test_users_may_call_from_threads_and_forked_processes(tmp_path):
    nlp = make_nlp(save_tiny("bert", tmp_path / "encoder"), ("textcat", "ner"), model={"max_batch_subwords": 40})
    overfit(nlp, steps=5)
    texts = [f"{text} {i}" for i in range(6) for text in TEXTS]
    expected = [doc.cats for doc in nlp.pipe(texts)]
    with ThreadPoolExecutor(8) as pool:
        from_threads = list(pool.map(lambda _: [doc.cats for doc in nlp.pipe(texts)], range(8)))
    assert all(cats == expected for cats in from_threads)  # bit for bit
    forked = [doc.cats for doc in nlp.pipe(texts, n_process=2, batch_size=8)]
    assert all(a[label] == pytest.approx(b[label], abs=1e-5) for a, b in zip(forked, expected) for label in b)


AT_THE_END = """
import sys, threading, time, torch
import spacy
torch.set_num_threads(2)
nlp = spacy.load(sys.argv[1])
texts = ["The pump failed in Oslo." * (1 + i % 3) for i in range(40)]
def late():
    time.sleep(0.5)  # the main thread has ended by then
    print(len(list(nlp.pipe(texts))), flush=True)
threading.Thread(target=late).start()
"""


def test_without_workers_the_rest_is_run_here(monkeypatch):
    """As when the interpreter shuts down, and its pools take no new work."""
    submitted = []

    class ClosingPool:
        def submit(self, run, item):
            if len(submitted) == 2:
                raise RuntimeError("cannot schedule new futures after shutdown")
            submitted.append(item)
            future = Future()
            future.set_result(run(item))
            return future

    monkeypatch.setattr(workers, "_pool", lambda count: ClosingPool())
    assert list(side_by_side(lambda item: 10 * item, range(6), 2)) == [0, 10, 20, 30, 40, 50] and submitted == [0, 1]


@pytest.mark.slow
def test_a_thread_that_outlives_the_main_one_can_predict(tmp_path):
    nlp = make_nlp(save_tiny("bert", tmp_path / "encoder"), ("textcat", "ner"), model={"max_batch_subwords": 40})
    nlp.to_disk(tmp_path / "pipeline")
    command = [sys.executable, "-c", AT_THE_END, str(tmp_path / "pipeline")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "40" and not done.stderr.strip(), done.stderr


def test_fewer_windows_than_workers_get_all_threads(encoder, monkeypatch):
    encoder, docs = encoder
    torch.set_num_threads(64)
    monkeypatch.setattr(workers, "_pool", lambda count: pytest.fail("few windows went to many workers"))
    encoder.encode(docs)


def test_a_fork_cannot_use_the_gpu_of_its_parent(monkeypatch):
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)  # as in such a process
    enter_process(torch.device("cpu"))
    with pytest.raises(
        UserError, match=r"a fork cannot use a GPU .* Leave n_process at 1, set components\.transformer\.model\.device"
    ):
        enter_process(torch.device("cuda"))


def test_a_pickled_pipeline_predicts_the_same_and_with_one_thread_in_a_worker(tiny, monkeypatch):
    """As `nlp.pipe(n_process=...)` sends it where processes are spawned: macOS, Windows, and where a GPU is used."""
    nlp = make_nlp(tiny(), heads=("textcat", "ner", "qa"))
    torch.set_num_threads(1)  # trains tiny tensors faster than two
    overfit(nlp, steps=20)
    torch.set_num_threads(2)
    expected = list(nlp.pipe(TEXTS))
    sent = pickle.dumps((nlp.vocab, [pipe for _, pipe in nlp.pipeline]))
    assert pickle.loads(sent) and torch.get_num_threads() == 2
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "this is a worker")
    vocab, pipes = pickle.loads(sent)
    assert torch.get_num_threads() == 1
    docs = [Doc(vocab).from_bytes(nlp.make_doc(text).to_bytes()) for text in TEXTS]
    for pipe in pipes:
        docs = list(pipe.pipe(docs, batch_size=4))
    for doc, original in zip(docs, expected):
        assert doc.cats == pytest.approx(original.cats, abs=1e-5)
        assert [(ent.text, ent.label_) for ent in doc.ents] == [(ent.text, ent.label_) for ent in original.ents]


def test_a_copy_in_a_worker_keeps_its_threads_and_refers_to_the_heads_of_the_original(tiny, monkeypatch):
    nlp = make_nlp(tiny(), heads=("textcat", "ner", "qa"))
    transformer = nlp.get_pipe("transformer")
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "this is a worker")
    copied = copy.deepcopy(transformer)
    assert [head.name for head in copied._heads.values()] == ["textcat", "ner", "qa"]
    assert all(head is nlp.get_pipe(head.name) for head in copied._heads.values())
    assert torch.get_num_threads() == 2
