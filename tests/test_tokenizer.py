"""`mtl.Tokenizer.v1`: spaCy's tokens, and more of them remembered."""

import pytest
import spacy
from conftest import TEXTS

from mtl.errors import UserError


def blank(language="en", **settings):
    return spacy.blank(language, config={"nlp": {"tokenizer": {"@tokenizers": "mtl.Tokenizer.v1", **settings}}})


@pytest.mark.parametrize("language", ["en", "de", "xx"])
def test_it_cuts_as_spacys_own(language):
    ours, theirs = blank(language), spacy.blank(language)
    for text in [*TEXTS, *TEXTS, "", "  two  spaces\nand a line "]:
        assert [token.text_with_ws for token in ours.make_doc(text)] == [token.text_with_ws for token in theirs.make_doc(text)]


def test_its_size_is_kept_with_the_pipeline(tmp_path):
    assert blank().tokenizer.max_cache_size == 100_000
    nlp = blank(max_cache_size=7)
    nlp.to_disk(tmp_path)
    assert spacy.load(tmp_path).tokenizer.max_cache_size == 7
    words = [f"word{i}" for i in range(30)]
    assert [token.text for token in nlp.make_doc(" ".join(words * 2))] == words * 2


def test_a_negative_size_is_named():
    with pytest.raises(UserError, match=r"nlp\.tokenizer\.max_cache_size = -1"):
        blank(max_cache_size=-1)


def test_a_language_with_a_tokenizer_of_its_own_keeps_that():
    with pytest.raises(UserError, match=r"cuts by rules; 'zh' has \"spacy\.zh\.ChineseTokenizer\""):
        blank("zh")
