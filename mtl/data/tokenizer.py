"""spaCy's own tokenizer with a larger cache, for the vocabulary of a domain."""

from typing import Callable

from spacy.language import Language, create_tokenizer
from spacy.tokenizer import Tokenizer

from mtl.errors import UserError, check_range


def make_tokenizer(max_cache_size: int = 100_000) -> Callable[[Language], Tokenizer]:
    """Tokenizer `mtl.Tokenizer.v1`: spaCy's tokenizer for the pipeline's language. It returns the same tokens, only faster.

    spaCy's own cache has 10,000 entries, which a few thousand documents fill; every other string is then split again wherever
    it occurs. (A tokenizer that was pickled is back at that size, because that is how spaCy pickles it.)

    Args:
        max_cache_size (int): Number of strings between spaces whose tokens are cached. A string is cached the first time it
            occurs.

    Raises:
        UserError: The size is negative, or the language (Japanese, Chinese, ...) has a tokenizer of another kind.
    """
    check_range("nlp.tokenizer.max_cache_size", max_cache_size, 0)
    create = create_tokenizer()

    def create_with_cache(nlp: Language) -> Tokenizer:
        default = nlp.default_config["nlp"]["tokenizer"]["@tokenizers"]
        if default != "spacy.Tokenizer.v1":
            raise UserError(
                f'[nlp.tokenizer] @tokenizers = "mtl.Tokenizer.v1" is for languages that spaCy tokenizes by rules; '
                f'set it to "{default}" for {nlp.lang!r}'
            )
        tokenizer = create(nlp)
        tokenizer.max_cache_size = max_cache_size
        return tokenizer

    return create_with_cache
