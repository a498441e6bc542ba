"""Batches of predictions side by side: the same results, in order, whatever happens in one of them."""

import copy
import multiprocessing
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import TEXTS, make_nlp, overfit, save_tiny
from spacy.tokens import Doc

from mtl.encoder import workers as module
from mtl.encoder.component import tokens_of
from mtl.encoder.forks import enter_process
from mtl.encoder.torch_encoder import Encoder
from mtl.encoder.workers import side_by_side, workers
from mtl.errors import UserError


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def encoder(tmp_path):
    """One that reads 40 wordpieces at once."""
    nlp = make_nlp(save_tiny("bert", tmp_path / "encoder"), ("ner",), model={"batch_pieces": 40})
    docs = tokens_of([nlp.make_doc(text * times) for times in (1, 3, 2) for text in TEXTS])
    return nlp.get_pipe("transformer").encoder, docs


def test_the_vectors_are_those_of_one_thread(encoder):
    encoder, docs = encoder
    two = encoder.encode(docs)
    torch.set_num_threads(1)
    one = encoder.encode(docs)
    assert torch.allclose(one.vectors, two.vectors, atol=1e-5) and torch.allclose(one.summaries, two.summaries, atol=1e-5)


def test_batches_run_in_threads_of_one(encoder, monkeypatch):
    encoder, docs = encoder
    seen = []
    whole = Encoder._forward

    def look(self, *given):
        seen.append((threading.current_thread().name, torch.get_num_threads()))
        return whole(self, *given)

    monkeypatch.setattr(Encoder, "_forward", look)
    encoder.encode(docs)
    assert {threads for _, threads in seen} == {1} and len({name for name, _ in seen}) == 2 and len(seen) > 4
    seen.clear()
    encoder.encode(docs[:1])  # one window is for all of torch's threads
    assert seen == [(threading.current_thread().name, 2)]
    seen.clear()
    torch.set_num_threads(1)
    encoder.encode(docs)
    assert {name for name, _ in seen} == {threading.current_thread().name}


def test_training_stays_in_its_thread(encoder, monkeypatch):
    encoder, docs = encoder
    monkeypatch.setattr(module, "_pool", lambda count: pytest.fail("training went to the workers"))
    assert encoder.encode(docs, train=True).vectors.requires_grad


def test_few_windows_are_shared_out(encoder):
    encoder, _ = encoder
    encoder.batch_pieces = 1000
    sizes = np.array([30, 10, 20, 40])
    assert [batch.tolist() for batch in encoder._batches(sizes)] == [[1, 2, 0, 3]]
    assert [batch.tolist() for batch in encoder._batches(sizes, 2)] == [[1, 2], [0], [3]]
    assert list(encoder._batches(np.zeros(0, np.int64), 2)) == []


def test_results_come_in_order_and_an_error_where_it_happened():
    def run(item):
        time.sleep(0.02 * (item % 3 == 0))
        if item == 7:
            raise ValueError("seven")
        return 10 * item

    assert list(side_by_side(run, range(7), 3)) == [0, 10, 20, 30, 40, 50, 60]
    found = []
    with pytest.raises(ValueError, match="seven"):
        found.extend(side_by_side(run, range(50), 3))
    assert list(side_by_side(run, [1, 2], 3)) == [10, 20]  # and the workers are still there


def test_what_waits_is_bounded_and_dropped():
    """A consumer that stops leaves no work behind; one that is slow does not gather results."""
    done = []
    found = side_by_side(lambda item: done.append(item) or item, range(1000), 2)
    assert next(found) == 0
    time.sleep(0.2)
    assert len(done) <= module.AHEAD * 2 + 1
    found.close()
    time.sleep(0.1)
    assert len(done) <= module.AHEAD * 2 + 1


def test_the_number_of_threads_stays_as_it_was():
    list(side_by_side(lambda item: item, range(4), 5))  # a pool of its own
    assert torch.get_num_threads() == 2 == workers(torch.device("cpu"))
    with ThreadPoolExecutor(1) as fresh:
        assert fresh.submit(torch.get_num_threads).result() == 2
    assert workers(torch.device("meta")) == 1


def test_threads_of_a_user_and_forked_processes(tmp_path):
    nlp = make_nlp(save_tiny("bert", tmp_path / "encoder"), ("textcat", "ner"), model={"batch_pieces": 40})
    overfit(nlp, steps=5)
    texts = [f"{text} {i}" for i in range(6) for text in TEXTS]
    expected = [doc.cats for doc in nlp.pipe(texts)]
    with ThreadPoolExecutor(8) as pool:
        every = list(pool.map(lambda _: [doc.cats for doc in nlp.pipe(texts)], range(8)))
    assert all(found == expected for found in every)  # bit for bit
    forked = [doc.cats for doc in nlp.pipe(texts, n_process=2, batch_size=8)]
    assert all(one[label] == pytest.approx(own[label], abs=1e-5) for one, own in zip(forked, expected) for label in own)


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


def test_a_thread_that_outlives_the_main_one(tmp_path):
    nlp = make_nlp(save_tiny("bert", tmp_path / "encoder"), ("textcat", "ner"), model={"batch_pieces": 40})
    nlp.to_disk(tmp_path / "pipeline")
    command = [sys.executable, "-c", AT_THE_END, str(tmp_path / "pipeline")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "40" and not done.stderr.strip(), done.stderr


def test_few_windows_are_for_all_threads(encoder, monkeypatch):
    encoder, docs = encoder
    torch.set_num_threads(64)
    monkeypatch.setattr(module, "_pool", lambda count: pytest.fail("few windows went to many workers"))
    encoder.encode(docs)


def test_a_fork_cannot_use_the_gpu_of_its_parent(monkeypatch):
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)  # what torch says in such a process
    enter_process(torch.device("cpu"))
    with pytest.raises(
        UserError, match=r"a fork cannot use a GPU .* Leave n_process at 1, set components\.transformer\.model\.device"
    ):
        enter_process(torch.device("cuda"))


def test_a_pickled_pipeline_predicts_the_same_and_with_one_thread_in_a_worker(tiny, monkeypatch):
    """As `nlp.pipe(n_process=...)` sends it where processes are spawned: macOS, Windows, and where a GPU is used."""
    nlp = make_nlp(tiny())
    overfit(nlp, steps=20)
    expected = list(nlp.pipe(TEXTS))
    sent = pickle.dumps((nlp.vocab, [pipe for _, pipe in nlp.pipeline]))
    assert pickle.loads(sent) and torch.get_num_threads() == 2
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "this is a worker")
    vocab, pipes = pickle.loads(sent)
    assert torch.get_num_threads() == 1
    docs = [Doc(vocab).from_bytes(nlp.make_doc(text).to_bytes()) for text in TEXTS]
    for pipe in pipes:
        docs = list(pipe.pipe(docs, batch_size=4))
    for doc, alone in zip(docs, expected):
        assert doc.cats == pytest.approx(alone.cats, abs=1e-5)
        assert [(ent.text, ent.label_) for ent in doc.ents] == [(ent.text, ent.label_) for ent in alone.ents]


def test_a_copy_in_a_worker_keeps_its_threads_and_refers_to_what_the_original_does(tiny, monkeypatch):
    transformer = make_nlp(tiny()).get_pipe("transformer")
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "this is a worker")
    for held in (transformer._nlp, *transformer._linked.values()):
        assert copy.deepcopy(held)() is held()
    assert torch.get_num_threads() == 2
