"""A spaCy tokenizer whose tokens are an encoder's subwords: tagging at wordpieces, for `boundaries.py`."""

from typing import Callable, List

from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import registry

from mtl.encoder.pretrained.sources import load_tokenizer


class WordpieceTokenizer:
    """Cuts every token of spaCy's where the encoder's tokenizer does.

    Args:
        nlp (Language): The pipeline.
        encoder (str): The encoder.
    """

    def __init__(self, nlp: Language, encoder: str) -> None:
        self.vocab = nlp.vocab
        self.words = registry.get("tokenizers", "spacy.Tokenizer.v1")()(nlp)
        self.subwords = load_tokenizer(encoder)

    def __call__(self, text: str) -> Doc:
        words: List[str] = []
        spaces: List[bool] = []
        for token in self.words(text):
            offsets = self.subwords(token.text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            starts = sorted({0, *(start for start, _ in offsets)})
            pieces = [token.text[start:end] for start, end in zip(starts, [*starts[1:], len(token.text)])]
            words += pieces
            spaces += [False] * (len(pieces) - 1) + [bool(token.whitespace_)]
        return Doc(self.vocab, words=words, spaces=spaces)

    def to_disk(self, path: object, **kwargs: object) -> None:
        """Nothing: it is made anew when the pipeline is loaded."""

    def from_disk(self, path: object, **kwargs: object) -> "WordpieceTokenizer":
        return self

    def to_bytes(self, **kwargs: object) -> bytes:
        return b""

    def from_bytes(self, data: bytes, **kwargs: object) -> "WordpieceTokenizer":
        return self


@registry.tokenizers("benchmark.Wordpieces.v1")
def wordpieces(encoder: str) -> Callable[[Language], WordpieceTokenizer]:
    """Tokenizer `benchmark.Wordpieces.v1`.

    Args:
        encoder (str): A Hugging Face folder or a name on the hub.
    """
    return lambda nlp: WordpieceTokenizer(nlp, encoder)
