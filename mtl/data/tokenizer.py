"""`mtl.Tokenizer.v1`: spaCy's own tokenizer, with room for the words of a domain."""

from typing import Callable

from spacy.language import Language, create_tokenizer
from spacy.tokenizer import Tokenizer

from mtl.errors import UserError, check_range


def make_tokenizer(max_cache_size: int = 100_000) -> Callable[[Language], Tokenizer]:
    """spaCy's tokenizer for the pipeline's language: the same tokens, sooner.

    max_cache_size (int): strings between spaces whose tokens are remembered, each when it is first met. spaCy's own number is
    10,000, which a few thousand documents fill; every further string is then taken apart again wherever it comes. (A tokenizer
    that was pickled is back at that number: so spaCy pickles it.)
    RAISES (UserError): it is negative, or the language (Japanese, Chinese, ...) has a tokenizer of another kind.
    """
    check_range("nlp.tokenizer.max_cache_size", max_cache_size, 0)
    create = create_tokenizer()

    def create_larger(nlp: Language) -> Tokenizer:
        usual = nlp.default_config["nlp"]["tokenizer"]["@tokenizers"]
        if usual != "spacy.Tokenizer.v1":
            raise UserError(
                f'[nlp.tokenizer] @tokenizers = "mtl.Tokenizer.v1" is for languages that spaCy cuts by rules; '
                f'{nlp.lang!r} has "{usual}", which is to be set there'
            )
        tokenizer = create(nlp)
        tokenizer.max_cache_size = max_cache_size
        return tokenizer

    return create_larger
