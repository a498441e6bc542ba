"""Domain words as wordpieces of their own, where the tokenizer cuts them to bits."""

import re
from collections import Counter
from typing import Iterable, List

import torch
from tokenizers import AddedToken
from transformers import PreTrainedModel, PreTrainedTokenizerFast

LETTERS = re.compile(r"[^\W\d_]{4,}")
FEWEST, SHORTEST = 20, 3  # occurrences of a word; wordpieces that it is cut into
SEEN = 2_000_000  # words of text that are counted


def domain_words(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast, count: int) -> List[str]:
    """The words, at most `count`, that would save most wordpieces in the text, as the tokenizer normalises them."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    found: Counter = Counter()
    seen = 0
    for text in texts:
        words = LETTERS.findall(text if normalizer is None else normalizer.normalize_str(text))
        found.update(words)
        seen += len(words)
        if seen > SEEN:
            break
    often = [word for word, times in found.items() if times >= FEWEST]
    encodings = tokenizer.backend_tokenizer.encode_batch(often, add_special_tokens=False)
    saved = {
        word: found[word] * (len(encoding.ids) - 1)
        for word, encoding in zip(often, encodings)
        if len(encoding.ids) >= SHORTEST and tokenizer.unk_token_id not in encoding.ids
    }
    return sorted(saved, key=lambda word: (-saved[word], word))[:count]


@torch.no_grad()
def grow(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, words: List[str]) -> None:
    """Give each word a wordpiece of its own, in place. Its embedding, and its output bias, start as the mean of its pieces'."""
    pieces = [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch(words, add_special_tokens=False)]
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])
    ids = tokenizer.convert_tokens_to_ids(words)
    model.resize_token_embeddings(max(len(tokenizer), model.config.vocab_size), mean_resizing=False)
    output = model.get_output_embeddings()
    tensors = [model.get_input_embeddings().weight, output.weight, getattr(output, "bias", None)]
    for tensor in {id(one): one for one in tensors if one is not None}.values():
        for id_, own in zip(ids, pieces):
            tensor[id_] = tensor[own].mean(0)
