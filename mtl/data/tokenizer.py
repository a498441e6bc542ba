"""spaCy's own tokenizer with a larger cache, for the vocabulary of a domain."""

import re
from typing import Callable

from spacy.language import Language, create_tokenizer
from spacy.tokenizer import Tokenizer
from spacy.util import compile_infix_regex, compile_prefix_regex, compile_suffix_regex

from mtl.errors import UserError, check_range


def make_tokenizer(max_cache_size: int = 100_000, split_at: str = "") -> Callable[[Language], Tokenizer]:
    """Tokenizer `mtl.Tokenizer.v1`: spaCy's tokenizer for the pipeline's language. It returns the same tokens, only faster.

    With `split_at` the tokens are finer, for entities whose edges lie inside spaCy's tokens: "PAN)-induced" is one of those.

    spaCy's own cache has 10,000 entries, which a few thousand documents fill; every other string is then split again wherever
    it occurs. (A tokenizer that was pickled is back at that size, because that is how spaCy pickles it.)

    Args:
        max_cache_size (int): Number of strings between spaces whose tokens are cached. A string is cached the first time it
            occurs.
        split_at (str): Characters that are tokens of their own wherever they are, such as "-/()"; `mtl convert` says which
            would help. The pipeline keeps them.

    Raises:
        UserError: The size is negative, `split_at` has a letter, a digit or white space, or the language (Japanese, Chinese, ...)
            has a tokenizer of another kind.
    """
    check_range("nlp.tokenizer.max_cache_size", max_cache_size, 0)
    if any(character.isalnum() or character.isspace() for character in split_at):
        raise UserError(f"nlp.tokenizer.split_at = {split_at!r}: give punctuation alone, no letters, digits or spaces")
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
        if split_at:
            _split_at(tokenizer, nlp, split_at)
        return tokenizer

    return create_with_cache


def _split_at(tokenizer: Tokenizer, nlp: Language, characters: str) -> None:
    """Let the tokenizer split before and after each of the characters."""
    extra = [re.escape(character) for character in characters]
    defaults = nlp.Defaults
    tokenizer.prefix_search = compile_prefix_regex([*extra, *(defaults.prefixes or ())]).search
    tokenizer.suffix_search = compile_suffix_regex([*extra, *(defaults.suffixes or ())]).search
    tokenizer.infix_finditer = compile_infix_regex([*extra, *(defaults.infixes or ())]).finditer
