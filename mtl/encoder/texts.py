"""Docs as the encoder takes them: text and character offsets of the tokens."""

from typing import Dict, List, Sequence

import numpy as np
from spacy.attrs import IDX, LENGTH, ORTH, SPACY
from spacy.tokens import Doc
from spacy.vocab import Vocab

from mtl.encoder.model.subwords import TokenizedText


class _Strings(Dict[int, str]):
    """The strings of orth ids, each looked up once."""

    def __init__(self, vocab: Vocab) -> None:
        super().__init__()
        self.strings = vocab.strings

    def __missing__(self, orth: int) -> str:
        self[orth] = word = self.strings[orth]
        return word


def tokenized_texts(docs: Sequence[Doc]) -> List[TokenizedText]:
    """Each Doc's text and where its tokens are in it.

    The text is put together from `to_array`, because `doc.text` creates an object for each token and takes five times as long.
    """
    strings = _Strings(docs[0].vocab) if docs else {}
    texts = []
    for doc in docs:
        table = doc.to_array([IDX, LENGTH, ORTH, SPACY])
        starts = table[:, 0].astype(np.int64)
        words = map(strings.__getitem__, table[:, 2].tolist())
        text = "".join([word + " " if space else word for word, space in zip(words, table[:, 3].tolist())])
        texts.append(TokenizedText(text, starts, starts + table[:, 1].astype(np.int64)))
    return texts
