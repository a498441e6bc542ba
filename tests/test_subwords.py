"""The cached tokenizer: each word is tokenized once, and the subwords are those of the whole text."""

import copy
import os
import pickle
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import TEXTS, byte_tokenizer, unigram_tokenizer, wordpiece_tokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers, pre_tokenizers

from mtl.encoder.loaders import huggingface_loader
from mtl.encoder.model import subwords as module
from mtl.encoder.model.encoder import Encoder, EncoderSettings
from mtl.encoder.model.subwords import CachedTokenizer, splits_at_spaces
from mtl.encoder.pretrained.sources import load_tokenizer
from mtl.encoder.runtime.processes import Lock

PARTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [" ", "  ", "\n", "\u00a0", "\u0301", "[MASK]", "[SEP] ", "pump", "PUMP", "İ", "don't", "Σας", "汉字", "\x00"]
    ),
)
LISTS = st.lists(st.lists(PARTS, max_size=8).map("".join), max_size=5)


def of_whole_texts(tokenizer, texts):
    """Ids, offsets and counts from the tokenizer itself."""
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    pairs = [pair for encoding in encodings for pair in encoding.offsets]
    return [i for encoding in encodings for i in encoding.ids], pairs, [len(encoding.ids) for encoding in encodings]


def from_cache(cached, texts):
    """The same from a `CachedTokenizer`."""
    subwords = cached(texts)
    return subwords.ids.tolist(), list(zip(subwords.starts.tolist(), subwords.ends.tolist())), subwords.counts.tolist()


class InPython:
    def pre_tokenize(self, text):
        text.split(lambda i, part: [part])


BERT = wordpiece_tokenizer().backend_tokenizer
CACHED = CachedTokenizer(BERT)
OTHERS = [(tokenizer.backend_tokenizer, CachedTokenizer(tokenizer.backend_tokenizer))
          for tokenizer in (byte_tokenizer(), unigram_tokenizer())]  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(LISTS)
@example(["", " ", "a  b "])
def test_subwords_are_those_of_the_whole_text(texts):
    assert CACHED.at_spaces
    assert from_cache(CACHED, texts) == of_whole_texts(BERT, texts)


@settings(deadline=None, max_examples=60)
@given(LISTS)
def test_texts_are_tokenized_whole_if_spaces_are_part_of_subwords(texts):
    for tokenizer, cached in OTHERS:
        assert not cached.at_spaces and from_cache(cached, texts) == of_whole_texts(tokenizer, texts)


def test_a_real_tokenizer_gives_the_same_with_and_without_the_cache(minilm):
    tokenizer = load_tokenizer(minilm).backend_tokenizer
    cached = CachedTokenizer(tokenizer)
    assert cached.at_spaces
    for _ in range(2):  # first not cached, then cached
        assert from_cache(cached, TEXTS) == of_whole_texts(tokenizer, TEXTS)


@pytest.mark.parametrize(
    "change",
    [
        lambda tokenizer: tokenizer.add_tokens([AddedToken("two words")]),
        lambda tokenizer: tokenizer.add_tokens(["\n"]),  # matched in spaces
        lambda tokenizer: tokenizer.add_tokens(["汉字"]),  # normalized, it has spaces around it
        lambda tokenizer: setattr(tokenizer, "pre_tokenizer", pre_tokenizers.PreTokenizer.custom(InPython())),
        lambda tokenizer: tokenizer.add_tokens([AddedToken("<x>", lstrip=True)]),
        lambda tokenizer: tokenizer.enable_truncation(4),
        lambda tokenizer: tokenizer.enable_padding(),
        lambda tokenizer: setattr(tokenizer, "normalizer", normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])),
        lambda tokenizer: setattr(tokenizer, "normalizer", normalizers.Replace(" ", "_")),
        lambda tokenizer: setattr(tokenizer, "pre_tokenizer", pre_tokenizers.Metaspace()),
        lambda tokenizer: setattr(
            tokenizer, "pre_tokenizer", pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
        ),
    ],
)
def test_texts_are_tokenized_whole_if_in_doubt(change):
    tokenizer = wordpiece_tokenizer().backend_tokenizer
    assert splits_at_spaces(tokenizer)
    change(tokenizer)
    assert not splits_at_spaces(tokenizer)


NORMALIZERS = {
    "none": None,
    "cased": normalizers.BertNormalizer(lowercase=False),
    "sequence": normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]),
    **{kind: getattr(normalizers, kind)() for kind in ("NFC", "NFD", "NFKC", "NFKD")},
}
PRE_TOKENIZERS = {
    "bert": pre_tokenizers.BertPreTokenizer(),
    "whitespace": pre_tokenizers.Whitespace(),
    "sequence": pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=True)]
    ),
}


@pytest.mark.parametrize("pre_tokenizer", list(PRE_TOKENIZERS))
@pytest.mark.parametrize("normalizer", list(NORMALIZERS))
def test_the_cache_fits_every_normalizer_and_pre_tokenizer_that_splits_at_spaces(normalizer, pre_tokenizer):
    tokenizer = wordpiece_tokenizer().backend_tokenizer
    tokenizer.normalizer, tokenizer.pre_tokenizer = NORMALIZERS[normalizer], PRE_TOKENIZERS[pre_tokenizer]
    cached = CachedTokenizer(tokenizer)
    assert cached.at_spaces

    @settings(deadline=None, max_examples=30)
    @given(LISTS)
    def check(texts):
        assert from_cache(cached, texts) == of_whole_texts(tokenizer, texts)

    check()


def test_tokens_added_to_the_vocabulary_take_effect():
    tokenizer = wordpiece_tokenizer().backend_tokenizer
    tokenizer.add_tokens([AddedToken("pumps", single_word=True, normalized=True)])
    texts = ["Two pumps, no PUMPS-x", "pumpsx pumps"]
    cached = CachedTokenizer(tokenizer)
    assert cached.at_spaces and from_cache(cached, texts) == of_whole_texts(tokenizer, texts)
    tokenizer.add_tokens([AddedToken("PUMPS-x")])  # after its words were cached
    assert cached.at_spaces and from_cache(cached, texts) == of_whole_texts(tokenizer, texts)
    tokenizer.add_tokens([AddedToken("no PUMPS")])
    assert from_cache(cached, texts) == of_whole_texts(tokenizer, texts) and not cached.at_spaces


@pytest.mark.parametrize("limit,maximum", [("MAX_WORDS", 10), ("MAX_SUBWORDS", 40), ("MAX_CHARACTERS", 60)])
def test_the_cache_is_bounded(monkeypatch, limit, maximum):
    monkeypatch.setattr(module, limit, maximum)
    cached = CachedTokenizer(BERT)
    cached_sizes = []
    for i in range(30):
        texts = [f"word{i} and {i} more", "more"] if i != 20 else [" ".join(f"word{j}" for j in range(100))]
        assert from_cache(cached, texts) == of_whole_texts(BERT, texts)
        cache = cached._cache
        sizes = {"MAX_WORDS": cache.used, "MAX_SUBWORDS": cache.bounds[cache.used], "MAX_CHARACTERS": sum(map(len, cache.rows))}
        cached_sizes.append(sizes[limit])
    assert 0 < max(cached_sizes) <= maximum and cached_sizes[20] == 0 < cached_sizes[21]


def test_a_text_that_just_fits_the_cache_and_one_that_does_not_give_the_same(monkeypatch):
    monkeypatch.setattr(module, "MAX_WORDS", 20)
    for count in (19, 20, 21):
        texts = [" ".join(f"w{i}" for i in range(count))]
        assert from_cache(CachedTokenizer(BERT), texts) == of_whole_texts(BERT, texts)


def test_threads_share_a_cache_and_copies_work(monkeypatch):
    monkeypatch.setattr(module, "MAX_SUBWORDS", 60)  # the cache is emptied while other threads read it
    cached = CachedTokenizer(BERT)
    batches = [[f"{text} {i % 7}" for text in TEXTS] for i in range(60)]
    expected = [of_whole_texts(BERT, batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda batch: from_cache(cached, batch), batches)) == expected
    for copied in (copy.deepcopy(cached), pickle.loads(pickle.dumps(cached))):
        assert from_cache(copied, TEXTS) == of_whole_texts(BERT, TEXTS)


def test_a_copied_encoder_has_one_tokenizer(tiny):
    copied = copy.deepcopy(Encoder(*huggingface_loader(tiny())(), EncoderSettings(device="cpu")))
    assert copied._layout._tokenize.tokenizer is copied._layout.tokenizer.backend_tokenizer
    assert copied._layout.tokenizer is copied.tokenizer


def test_a_forked_process_does_not_wait_for_a_lock_that_was_held():
    lock = Lock()
    with lock:
        child = os.fork()
        if child == 0:
            with lock:
                os._exit(0)
        deadline = time.monotonic() + 20
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
    if ended[0] == 0:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the forked process waits for the lock")
    assert ended[1] == 0


def test_no_texts_give_no_subwords():
    for cached in (CACHED, OTHERS[0][1]):
        subwords = cached([])
        assert len(subwords.ids) == len(subwords.starts) == len(subwords.counts) == 0
        assert subwords.counts.dtype == np.int64
