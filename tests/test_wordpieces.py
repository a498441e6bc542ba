"""Words that are cut once: the wordpieces are those of the whole text."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import TEXTS, byte_tokenizer, unigram_tokenizer, wordpiece_tokenizer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers, pre_tokenizers

from mtl.encoder import wordpieces
from mtl.encoder.sources import load_tokenizer
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


def test_words_added_to_the_vocabulary():
    tokenizer = wordpiece_tokenizer().backend_tokenizer
    tokenizer.add_tokens([AddedToken("pumps", single_word=True, normalized=True)])
    texts = ["Two pumps, no PUMPS-x", "pumpsx pumps"]
    cached = CachedTokenizer(tokenizer)
    assert cached.at_spaces and found(cached, texts) == whole(tokenizer, texts)


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(wordpieces, "MOST_PIECES", 40)
    monkeypatch.setattr(wordpieces, "MOST_WORDS", 10)
    cached = CachedTokenizer(BERT)
    sizes = []
    for i in range(30):
        texts = [f"word{i} and {i} more", "more"] if i != 20 else [" ".join(f"word{j}" for j in range(100))]
        assert found(cached, texts) == whole(BERT, texts)
        sizes.append(cached._known.table.shape[1])
    assert sizes[19] == sizes[-1] == 40 and sizes[20] > 40 and len(cached._known.rows) <= 40


def test_threads_and_copies(monkeypatch):
    monkeypatch.setattr(wordpieces, "MOST_PIECES", 60)  # words are forgotten while others are looked up
    cached = CachedTokenizer(BERT)
    batches = [[f"{text} {i % 7}" for text in TEXTS] for i in range(60)]
    expected = [whole(BERT, batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda batch: found(cached, batch), batches)) == expected
    for copied in (copy.deepcopy(cached), pickle.loads(pickle.dumps(cached))):
        assert found(copied, TEXTS) == whole(BERT, TEXTS)


def test_nothing():
    for cached in (CACHED, WHOLE[0][1]):
        pieces = cached([])
        assert len(pieces.ids) == len(pieces.starts) == len(pieces.counts) == 0
        assert pieces.counts.dtype == np.int64
