"""Domain words as subwords of their own, if the tokenizer cuts them into pieces."""

import re
from collections import Counter
from typing import Iterable, List

import torch
from tokenizers import AddedToken
from transformers import PreTrainedModel, PreTrainedTokenizerFast

WORD_OF_LETTERS = re.compile(r"[^\W\d_]{4,}")
MIN_OCCURRENCES, MIN_SUBWORDS = 20, 3  # of a word, to be worth adding
MAX_COUNTED_WORDS = 2_000_000  # of text


def domain_words(texts: Iterable[str], tokenizer: PreTrainedTokenizerFast, count: int) -> List[str]:
    """Find the words that would save the most subwords in the text.

    Args:
        texts (Iterable[str]): Domain documents.
        tokenizer (PreTrainedTokenizerFast): The encoder's tokenizer.
        count (int): How many words, at most.

    Returns:
        List[str]: The words as the tokenizer normalizes them, the most useful first.
    """
    normalizer = tokenizer.backend_tokenizer.normalizer
    occurrences: Counter = Counter()
    counted = 0
    for text in texts:
        words = WORD_OF_LETTERS.findall(text if normalizer is None else normalizer.normalize_str(text))
        occurrences.update(words)
        counted += len(words)
        if counted > MAX_COUNTED_WORDS:
            break
    frequent = [word for word, times in occurrences.items() if times >= MIN_OCCURRENCES]
    encodings = tokenizer.backend_tokenizer.encode_batch(frequent, add_special_tokens=False)
    saved = {
        word: occurrences[word] * (len(encoding.ids) - 1)
        for word, encoding in zip(frequent, encodings)
        if len(encoding.ids) >= MIN_SUBWORDS and tokenizer.unk_token_id not in encoding.ids
    }
    return sorted(saved, key=lambda word: (-saved[word], word))[:count]


@torch.no_grad()
def add_words(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, words: List[str]) -> None:
    """Give each word a subword of its own, in place. Its embedding and output bias start as the mean of its pieces'.

    Args:
        model (PreTrainedModel): A language model.
        tokenizer (PreTrainedTokenizerFast): Its tokenizer.
        words (List[str]): Words as the tokenizer normalizes them.
    """
    encodings = tokenizer.backend_tokenizer.encode_batch(words, add_special_tokens=False)
    piece_ids = [encoding.ids for encoding in encodings]
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])
    word_ids = tokenizer.convert_tokens_to_ids(words)
    model.resize_token_embeddings(max(len(tokenizer), model.config.vocab_size), mean_resizing=False)
    output = model.get_output_embeddings()
    tensors = [model.get_input_embeddings().weight, output.weight, getattr(output, "bias", None)]
    for tensor in {id(tensor): tensor for tensor in tensors if tensor is not None}.values():
        for word_id, pieces in zip(word_ids, piece_ids):
            tensor[word_id] = tensor[pieces].mean(0)
