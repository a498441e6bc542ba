"""Words that are cut once: the wordpieces are those of the whole text."""

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

from mtl.encoder import wordpieces
from mtl.encoder.forks import Lock
from mtl.encoder.loaders import huggingface_loader
from mtl.encoder.sources import load_tokenizer
from mtl.encoder.torch_encoder import Encoder, EncoderSettings
from mtl.encoder.wordpieces import CachedTokenizer, cuts_at_spaces

PARTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [" ", "  ", "\n", "\u00a0", "\u0301", "[MASK]", "[SEP] ", "pump", "PUMP", "İ", "don't", "Σας", "汉字", "\x00"]
    ),
)
LISTS = st.lists(st.lists(PARTS, max_size=8).map("".join), max_size=5)


def whole(tokenizer, texts):
    """What `CachedTokenizer` says, of whole texts."""
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    pairs = [pair for encoding in encodings for pair in encoding.offsets]
    return [i for encoding in encodings for i in encoding.ids], pairs, [len(encoding.ids) for encoding in encodings]


def found(cached, texts):
    pieces = cached(texts)
    return pieces.ids.tolist(), list(zip(pieces.starts.tolist(), pieces.ends.tolist())), pieces.counts.tolist()


class InPython:
    def pre_tokenize(self, text):
        text.split(lambda i, own: [own])


BERT = wordpiece_tokenizer().backend_tokenizer
CACHED = CachedTokenizer(BERT)
WHOLE = [(one, CachedTokenizer(one)) for one in (byte_tokenizer().backend_tokenizer, unigram_tokenizer().backend_tokenizer)]


@settings(deadline=None, max_examples=300)
@given(LISTS)
@example(["", " ", "a  b "])
def test_the_wordpieces_are_those_of_the_whole_text(texts):
    assert CACHED.at_spaces
    assert found(CACHED, texts) == whole(BERT, texts)


@settings(deadline=None, max_examples=60)
@given(LISTS)
def test_where_spaces_are_part_of_wordpieces_texts_are_cut_whole(texts):
    for tokenizer, cached in WHOLE:
        assert not cached.at_spaces and found(cached, texts) == whole(tokenizer, texts)


def test_the_real_tokenizer(minilm):
    tokenizer = load_tokenizer(minilm).backend_tokenizer
    cached = CachedTokenizer(tokenizer)
    assert cached.at_spaces
    for _ in range(2):  # new words, and known ones
        assert found(cached, TEXTS) == whole(tokenizer, TEXTS)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.add_tokens([AddedToken("two words")]),
        lambda one: one.add_tokens(["\n"]),  # which is looked for as a space
        lambda one: one.add_tokens(["汉字"]),  # normalised, it has spaces around it
        lambda one: setattr(one, "pre_tokenizer", pre_tokenizers.PreTokenizer.custom(InPython())),
        lambda one: one.add_tokens([AddedToken("<x>", lstrip=True)]),
        lambda one: one.enable_truncation(4),
        lambda one: one.enable_padding(),
        lambda one: setattr(one, "normalizer", normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])),
        lambda one: setattr(one, "normalizer", normalizers.Replace(" ", "_")),
        lambda one: setattr(one, "pre_tokenizer", pre_tokenizers.Metaspace()),
        lambda one: setattr(
            one, "pre_tokenizer", pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
        ),
    ],
)
def test_in_doubt_texts_are_cut_whole(change):
    tokenizer = wordpiece_tokenizer().backend_tokenizer
    assert cuts_at_spaces(tokenizer)
    change(tokenizer)
    assert not cuts_at_spaces(tokenizer)


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
def test_whatever_else_a_tokenizer_that_cuts_at_spaces_does(normalizer, pre_tokenizer):
    tokenizer = wordpiece_tokenizer().backend_tokenizer
    tokenizer.normalizer, tokenizer.pre_tokenizer = NORMALIZERS[normalizer], PRE_TOKENIZERS[pre_tokenizer]
    cached = CachedTokenizer(tokenizer)
    assert cached.at_spaces

    @settings(deadline=None, max_examples=30)
    @given(LISTS)
    def check(texts):
        assert found(cached, texts) == whole(tokenizer, texts)

    check()


def test_words_added_to_the_vocabulary():
    tokenizer = wordpiece_tokenizer().backend_tokenizer
    tokenizer.add_tokens([AddedToken("pumps", single_word=True, normalized=True)])
    texts = ["Two pumps, no PUMPS-x", "pumpsx pumps"]
    cached = CachedTokenizer(tokenizer)
    assert cached.at_spaces and found(cached, texts) == whole(tokenizer, texts)
    tokenizer.add_tokens([AddedToken("PUMPS-x")])  # after its words were met
    assert cached.at_spaces and found(cached, texts) == whole(tokenizer, texts)
    tokenizer.add_tokens([AddedToken("no PUMPS")])
    assert found(cached, texts) == whole(tokenizer, texts) and not cached.at_spaces


@pytest.mark.parametrize("limit,most", [("MOST_WORDS", 10), ("MOST_PIECES", 40), ("MOST_CHARACTERS", 60)])
def test_what_is_remembered_is_bounded(monkeypatch, limit, most):
    monkeypatch.setattr(wordpieces, limit, most)
    cached = CachedTokenizer(BERT)
    remembered = []
    for i in range(30):
        texts = [f"word{i} and {i} more", "more"] if i != 20 else [" ".join(f"word{j}" for j in range(100))]
        assert found(cached, texts) == whole(BERT, texts)
        known = cached._known
        sizes = {"MOST_WORDS": known.used, "MOST_PIECES": known.bounds[known.used], "MOST_CHARACTERS": sum(map(len, known.rows))}
        remembered.append(sizes[limit])
    assert 0 < max(remembered) <= most and remembered[20] == 0 < remembered[21]


def test_as_many_words_as_there_is_room_for_and_one_more(monkeypatch):
    monkeypatch.setattr(wordpieces, "MOST_WORDS", 20)
    for count in (19, 20, 21):
        texts = [" ".join(f"w{i}" for i in range(count))]
        assert found(CachedTokenizer(BERT), texts) == whole(BERT, texts)


def test_threads_and_copies(monkeypatch):
    monkeypatch.setattr(wordpieces, "MOST_PIECES", 60)  # words are forgotten while others are looked up
    cached = CachedTokenizer(BERT)
    batches = [[f"{text} {i % 7}" for text in TEXTS] for i in range(60)]
    expected = [whole(BERT, batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda batch: found(cached, batch), batches)) == expected
    for copied in (copy.deepcopy(cached), pickle.loads(pickle.dumps(cached))):
        assert found(copied, TEXTS) == whole(BERT, TEXTS)


def test_a_copied_encoder_has_one_tokenizer(tiny):
    copied = copy.deepcopy(Encoder(*huggingface_loader(tiny())(), EncoderSettings(device="cpu")))
    assert copied._tokenize.tokenizer is copied.tokenizer.backend_tokenizer


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


def test_nothing():
    for cached in (CACHED, WHOLE[0][1]):
        pieces = cached([])
        assert len(pieces.ids) == len(pieces.starts) == len(pieces.counts) == 0
        assert pieces.counts.dtype == np.int64
