"""How many examples of each task an epoch has, in which order, and how much of a corpus is in memory."""

import gc
from collections import Counter
from itertools import groupby, islice

import pytest
import spacy
from conftest import gold_doc, make_nlp
from hypothesis import given
from hypothesis import strategies as st

from mtl.data.docs import write_docs
from mtl.errors import UserError
from mtl.sampling import corpus as corpus_module
from mtl.sampling.corpus import MultiTaskCorpus, count_encoded_words, multi_task_corpus
from mtl.sampling.order import block_order, round_robin_order
from mtl.sampling.strategies import (
    dev_gap_sampling,
    epoch_range,
    epochs_per_task,
    is_paused,
    pause_at_peak,
    temperature_sampling,
)

NLP = spacy.blank("en")


@pytest.fixture
def corpus(tmp_path):
    """Two tasks of 7 and 40 documents, the second in shards of 6."""
    small, large = [[NLP.make_doc(f"{task} {i}") for i in range(n)] for task, n in (("small", 7), ("large", 40))]
    write_docs(small, tmp_path / "small.spacy")
    write_docs(large, tmp_path / "large", shard_size=6)
    return {"small": tmp_path / "small.spacy", "large": tmp_path / "large"}


def texts(corpus):
    return [example.reference.text for example in corpus(NLP)]


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 10_000), min_size=1), st.floats(1, 100), st.integers(0, 20))
def test_temperature_shows_every_example_at_least_once_an_epoch(sizes, start, epoch):
    sampling = temperature_sampling(start, start, 10)(sizes, epoch, {})
    assert all(sampling[task] >= size * (1 - 1e-9) for task, size in sizes.items())
    largest = max(sizes, key=sizes.get)
    for task, size in sizes.items():
        assert sampling[task] / sampling[largest] == pytest.approx((size / sizes[largest]) ** (1 / start))


def test_temperature_flattens_over_the_run():
    sampling = temperature_sampling(1.0, 1e9, 3)
    sizes = {"a": 100, "b": 400}
    assert [sampling(sizes, epoch, {})["a"] for epoch in (0, 1, 2, 9)] == pytest.approx([100, 200, 400, 400])


def test_the_number_of_epochs_per_task_is_exact(corpus):
    mixed = MultiTaskCorpus(corpus, epochs_per_task({"small": 3, "large": 0.5}, spread_over=2), seed=1)
    first, second = Counter(texts(mixed)), Counter(texts(mixed))
    seen = first + second
    assert sum(seen[text] for text in seen if text.startswith("large")) == 20
    assert all(seen[f"small {i}"] == 3 for i in range(7))
    assert max(seen[f"large {i}"] for i in range(40)) == 1
    assert abs(sum(first.values()) - sum(second.values())) <= 1  # 21 examples in two epochs: the fraction is carried over


def test_examples_of_a_task_are_seen_equally_often_over_any_number_of_epochs(corpus):
    mixed = MultiTaskCorpus(corpus, temperature_sampling(2.0, 5.0, 4), seed=0)
    seen = Counter()
    for _ in range(5):
        seen.update(texts(mixed))
        for task, size in (("small", 7), ("large", 40)):
            counts = [seen[f"{task} {i}"] for i in range(size)]
            assert min(counts) >= 1 and max(counts) - min(counts) <= 1


def test_each_pass_is_reshuffled_and_the_seed_decides(corpus):
    reader, same_seed, other_seed = (
        MultiTaskCorpus(corpus, epochs_per_task({"small": 2, "large": 1}, 2), seed) for seed in (0, 0, 1)
    )
    first = texts(reader)
    assert first == texts(same_seed)
    assert texts(reader) != first and texts(other_seed) != first
    assert texts(reader) != sorted(texts(reader))


def test_tasks_are_mixed_throughout(corpus):
    order = [text.split()[0] for text in texts(MultiTaskCorpus(corpus, epochs_per_task({"small": 6, "large": 1}), seed=0))]
    changes = sum(a != b for a, b in zip(order, order[1:]))
    assert changes > 20


def test_only_one_shard_of_a_task_is_in_memory(tmp_path, monkeypatch):
    docs = [NLP.make_doc(f"large {i}") for i in range(60)]
    write_docs(docs, tmp_path / "large", shard_size=5)
    loaded = []
    load_docbin = corpus_module.load_docbin
    monkeypatch.setattr(corpus_module, "load_docbin", lambda file: (loaded.append(file), load_docbin(file))[1])
    mixed = MultiTaskCorpus({"large": tmp_path / "large"}, epochs_per_task({"large": 1}), seed=0)
    assert mixed.sizes == {"large": 60}
    loaded.clear()
    del docs
    gc.collect()
    gc.freeze()  # objects that exist already need not be searched again and again
    most_docs = 0
    for i, _ in enumerate(mixed(NLP)):
        gc.collect()
        most_docs = max(most_docs, sum(type(o).__name__ == "Doc" and o.vocab is NLP.vocab and len(o) == 2 for o in _docs_alive()))
        assert len(loaded) <= i // 5 + 1
    gc.unfreeze()
    assert 5 <= most_docs <= 2 * 5 + 4


def _docs_alive():
    from spacy.tokens import Doc

    return [o for o in gc.get_objects() if isinstance(o, Doc)]


def test_heads_see_labels_beyond_the_first_hundred_examples(tiny, tmp_path):
    """spaCy initializes from 100 examples of a streamed corpus; a rare label must not be lost."""
    docs = [gold_doc(NLP, "The pump failed.", ents=[(4, 8, "PART")]) for _ in range(300)]
    write_docs([*docs, gold_doc(NLP, "Oslo.", ents=[(0, 4, "RARE")])], tmp_path / "train.spacy")
    mixed = MultiTaskCorpus({"ner": tmp_path / "train.spacy"}, temperature_sampling(), 0)
    nlp = make_nlp(tiny(), heads=("ner",), examples=lambda nlp: islice(mixed(nlp), 100))
    assert nlp.get_pipe("ner").labels == ("PART", "RARE")


def test_the_reader_has_default_sampling_and_order(corpus):
    mixed = multi_task_corpus(corpus, None, 0)
    assert mixed.sizes == {"small": 7, "large": 40}
    assert len(texts(mixed)) == 40 + int(40 * (7 / 40) ** 0.5)


def test_encoded_words_count_each_question():
    from conftest import sample_examples

    examples = sample_examples(NLP)
    words = [len(example.reference) for example in examples]
    assert count_encoded_words(examples[0]) == 3 * words[0]
    assert count_encoded_words(examples[3]) == words[3]
    assert count_encoded_words(examples[5]) == 2 * words[5]


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda c: MultiTaskCorpus({}, temperature_sampling(), 0), ["paths", "empty"]),
        (lambda c: MultiTaskCorpus({"a": None}, temperature_sampling(), 0), ["a is not set"]),
        (lambda c: MultiTaskCorpus({"a": "nowhere.spacy"}, temperature_sampling(), 0), ["nowhere.spacy", "mtl convert"]),
        (lambda c: texts(MultiTaskCorpus(c, epochs_per_task({"small": 1}), 0)), ["['small']", "['large', 'small']"]),
        (lambda c: temperature_sampling(0.5), ["temperature.start"]),
        (lambda c: epochs_per_task({"a": -1}), ["epochs_per_task.epochs.a"]),
    ],
)
def test_an_error_in_a_corpus_names_the_setting_or_the_tasks(corpus, make, words):
    with pytest.raises(UserError) as error:
        make(corpus)
    assert all(word in str(error.value) for word in words)


def test_an_empty_and_a_damaged_file_are_named(tmp_path):
    write_docs([], tmp_path / "empty.spacy")
    with pytest.raises(UserError, match="no document in it"):
        texts(MultiTaskCorpus({"a": tmp_path / "empty.spacy"}, temperature_sampling(), 0))
    (tmp_path / "damaged.spacy").write_bytes(b"not a docbin")
    with pytest.raises(UserError, match=r"damaged\.spacy: not a readable"):
        texts(MultiTaskCorpus({"a": tmp_path / "damaged.spacy"}, temperature_sampling(), 0))


def test_a_cap_limits_the_size_that_a_large_corpus_counts_as():
    assert temperature_sampling(1.0, 1.0, cap=100)({"a": 50, "b": 1000}, 0, {}) == {"a": 50, "b": 100}


def test_dev_gap_gives_more_to_a_task_further_from_its_reference():
    sampling = dev_gap_sampling({"a": "ents_f", "b": "qa_f1"}, {"a": 0.8, "b": 0.5}, temperature=1.0)
    sizes = {"a": 100, "b": 100}
    assert sampling(sizes, 0, {}) == {"a": 100, "b": 100}  # nothing is known yet
    # Gaps: 1 - 0.4 / 0.8 = 0.5 and 1 - 0.4 / 0.5 = 0.2.
    assert sampling(sizes, 1, {"ents_f": [0.1, 0.4], "qa_f1": [0.4]}) == pytest.approx({"a": 250, "b": 100})
    assert sampling(sizes, 1, {"ents_f": [0.4], "qa_f1": [0.9]}) == pytest.approx({"a": 1000, "b": 100})  # a tenth, not none
    assert sampling(sizes, 1, {"ents_f": [0.9], "qa_f1": [0.9]}) == {"a": 100, "b": 100}


def test_tasks_start_and_stop_at_an_epoch():
    sampling = epoch_range(epochs_per_task({"a": 1, "b": 1, "c": 1}), start={"b": 1}, stop={"a": 2})
    sizes = {"a": 4, "b": 5, "c": 6}
    assert [sampling(sizes, epoch, {}) for epoch in range(3)] == [
        {"a": 4, "b": 0, "c": 6}, {"a": 4, "b": 5, "c": 6}, {"a": 0, "b": 5, "c": 6},
    ]  # fmt: skip
    with pytest.raises(UserError, match="epoch 0 has no task"):
        epoch_range(epochs_per_task({"a": 1}), start={"a": 1})({"a": 4}, 0, {})


@pytest.mark.parametrize(
    "values, paused",
    [
        ([], False),
        ([0.5, 0.6], False),
        ([0.6, 0.6], False),
        ([0.6, 0.6, 0.59], True),  # two evaluations not above the best
        ([0.6, 0.6, 0.59, 0.598], True),  # less than the drop
        ([0.6, 0.6, 0.59, 0.57], False),  # it decays
        ([0.6, 0.6, 0.59, 0.57, 0.58], False),
        ([0.6, 0.6, 0.59, 0.57, 0.58, 0.58], True),  # it has recovered all it can
        ([0.6, 0.6, 0.59, 0.61], False),
    ],
)
def test_a_task_pauses_at_its_peak_and_returns(values, paused):
    assert is_paused(values, patience=2, drop=0.02) is paused
    sampling = pause_at_peak(epochs_per_task({"a": 1, "b": 1}), {"a": "ents_f"}, patience=2, drop=0.02)
    assert sampling({"a": 4, "b": 5}, 3, {"ents_f": values}) == {"a": 0 if paused else 4, "b": 5}
    alone = pause_at_peak(epochs_per_task({"a": 1}), {"a": "ents_f"}, patience=2, drop=0.02)
    assert alone({"a": 4}, 3, {"ents_f": values}) == {"a": 4}  # an epoch is never empty


def test_the_sampling_gets_the_scores_of_the_heads(tiny, tmp_path):
    nlp = make_nlp(tiny(), heads=("textcat",))
    example = gold_doc(nlp, "The pump failed.", {"A": 1.0, "B": 0.0})
    write_docs([example] * 3, tmp_path / "a.spacy")
    write_docs([example] * 3, tmp_path / "b.spacy")
    received = []

    def sampling(sizes, epoch, scores):
        received.append(scores)
        return {"a": 1.0, "b": 2.0}

    mixed = MultiTaskCorpus({"a": tmp_path / "a.spacy", "b": tmp_path / "b.spacy"}, sampling, seed=0)
    examples = list(mixed(nlp))
    nlp.evaluate(examples)
    assert len(examples) == 3 and list(mixed(nlp)) and received == [{}, {}]  # scores before training do not count
    nlp.update(examples)
    accuracy = [nlp.evaluate(examples)["cats_accuracy"] for _ in range(2)]
    list(mixed(nlp))
    assert received[-1]["cats_accuracy"] == accuracy


def test_round_robin_spreads_every_task_evenly(corpus):
    mixed = multi_task_corpus(corpus, epochs_per_task({"small": 1, "large": 0.5}), round_robin_order())
    order = [text[0] for text in texts(mixed)]
    positions = [i for i, task in enumerate(order) if task == "s"]
    assert len(order) == 27 and len(positions) == 7 and {b - a for a, b in zip(positions, positions[1:])} <= {3, 4}


def test_blocks_are_of_one_task(corpus):
    mixed = multi_task_corpus(corpus, epochs_per_task({"small": 2, "large": 1}), block_order(5), seed=3)
    order = [text[0] for text in texts(mixed)]
    assert order.count("s") == 14 and order.count("l") == 40
    runs = [(task, len(list(same))) for task, same in groupby(order)]
    assert all(length % 5 in ((0, 4) if task == "s" else (0,)) for task, length in runs)  # 14 is two blocks of 5 and one of 4
    assert len(runs) > 2


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: temperature_sampling(cap=-1), "temperature.cap = -1"),
        (lambda: block_order(0), "block_order.size = 0"),
        (lambda: pause_at_peak(temperature_sampling(), {}, patience=0), "pause_at_peak.patience = 0"),
        (lambda: dev_gap_sampling({"a": "x"}, {"a": 80.0}), "dev_gap.references.a = 80"),
        (
            lambda: dev_gap_sampling({"b": "x"}, {"b": 0.8})({"a": 1}, 0, {}),
            "dev_gap.scores names .*b.*the corpus has the tasks .*a",
        ),
        (lambda: pause_at_peak(temperature_sampling(), {"b": "x"})({"a": 1}, 0, {}), "pause_at_peak.scores names b; .* are a"),
        (lambda: epoch_range(temperature_sampling(), {"b": 1})({"a": 1}, 0, {}), "epoch_range.start names b; .* are a"),
    ],
)
def test_an_error_in_a_sampling_or_an_order_names_the_setting(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_a_task_that_has_stopped_does_not_count_as_running():
    """The only task left is at its peak: it continues, because an epoch without examples would never end."""
    sampling = pause_at_peak(epoch_range(epochs_per_task({"a": 1, "b": 1}), stop={"b": 1}), {"a": "ents_f"}, patience=1)
    assert sampling({"a": 4, "b": 5}, 1, {"ents_f": [0.5, 0.5, 0.5]}) == {"a": 4, "b": 0}


def test_an_epoch_without_examples_is_refused(corpus):
    mixed = MultiTaskCorpus(corpus, lambda sizes, epoch, scores: dict.fromkeys(sizes, 0.0), 0)
    with pytest.raises(UserError, match=r"\[corpora.train.sampling\] gives epoch 0 no example"):
        texts(mixed)
