"""`mtl.Tokenizer.v1`: spaCy's own tokens, with a larger cache."""

import pytest
import spacy
from conftest import TEXTS

from mtl.errors import UserError


def blank(language="en", **settings):
    return spacy.blank(language, config={"nlp": {"tokenizer": {"@tokenizers": "mtl.Tokenizer.v1", **settings}}})


@pytest.mark.parametrize("language", ["en", "de", "xx"])
def test_it_splits_like_spacys_own_tokenizer(language):
    nlp, stock = blank(language), spacy.blank(language)
    for text in [*TEXTS, *TEXTS, "", "  two  spaces\nand a line "]:
        assert [token.text_with_ws for token in nlp.make_doc(text)] == [token.text_with_ws for token in stock.make_doc(text)]


def test_the_cache_size_is_saved_with_the_pipeline(tmp_path):
    assert blank().tokenizer.max_cache_size == 100_000
    nlp = blank(max_cache_size=7)
    nlp.to_disk(tmp_path)
    assert spacy.load(tmp_path).tokenizer.max_cache_size == 7
    words = [f"word{i}" for i in range(30)]
    assert [token.text for token in nlp.make_doc(" ".join(words * 2))] == words * 2


def test_a_negative_cache_size_is_refused():
    with pytest.raises(UserError, match=r"nlp\.tokenizer\.max_cache_size = -1"):
        blank(max_cache_size=-1)


def test_a_language_with_another_kind_of_tokenizer_is_refused_with_its_name():
    with pytest.raises(UserError, match=r"tokenizes by rules; set it to \"spacy\.zh\.ChineseTokenizer\" for 'zh'"):
        blank("zh")
