"""Whether a model and a tokenizer work together as an encoder, found out before anything depends on it. Pure torch."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mtl.errors import UserError
from mtl.torch_model import building


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Check that the model has a vector for every subword of the tokenizer.

    Args:
        model (PreTrainedModel): The encoder, with or without a head.
        tokenizer (PreTrainedTokenizerFast): Its tokenizer.

    Raises:
        UserError: It lacks some. The first document that has one would fail.
    """
    rows = model.get_input_embeddings().weight.shape[0]  # type: ignore[union-attr]
    lacking = sorted((index, subword) for subword, index in tokenizer.get_vocab().items() if index >= rows)
    if lacking:
        examples = ", ".join(repr(subword) for _, subword in lacking[:3])
        raise UserError(
            f"the encoder's tokenizer has {len(lacking):,} subwords that the model lacks, {examples} among them: the model has "
            f"{rows:,}. Use the tokenizer the model was trained with, or enlarge the model: "
            f"model.resize_token_embeddings({lacking[-1][0] + 1}), then save_pretrained"
        )


def check_encoder(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, length: int) -> None:
    """Encode a batch: a text of this length, and a shorter one with padding.

    Args:
        model (PreTrainedModel): The encoder without a head, on any device.
        tokenizer (PreTrainedTokenizerFast): Its tokenizer.
        length (int): Subwords of the longer text.

    Raises:
        UserError: The model is no encoder of text, or does not fit its tokenizer.
    """
    kind, width = model.config.model_type, getattr(model.config, "hidden_size", None)
    if model.config.is_encoder_decoder:
        raise UserError(f"{kind} is an encoder-decoder: use an encoder, such as BERT, RoBERTa, DeBERTa or ModernBERT")
    first = tokenizer.backend_tokenizer.encode("a").ids[0]
    try:
        with building(), torch.no_grad():
            ids = torch.full((2, length), first, device=model.device)
            present = torch.ones_like(ids)
            present[1, length // 2 :] = 0
            output: Any = model(input_ids=ids, attention_mask=present)
        vectors = getattr(output, "last_hidden_state", None)
    except Exception as error:  # whatever an architecture raises that wants other inputs, or a shorter text
        reason = " ".join(str(error).split())
        raise UserError(
            f"{kind} does not encode {length} subwords with an attention mask: {type(error).__name__}: {reason}. {_ADVICE}"
        ) from error
    if not isinstance(vectors, Tensor) or vectors.shape != (2, length, width):
        shape = tuple(vectors.shape) if isinstance(vectors, Tensor) else "none"
        raise UserError(f"{kind} gives no vector of size {width} for each of {length} subwords (output: {shape}). {_ADVICE}")
    if not torch.isfinite(vectors[0]).all():
        raise UserError(f"{kind} gives vectors that are NaN or infinite: its weights are damaged")


def check_causal(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Check that the model can be made to see only the subwords before each.

    Args:
        model (PreTrainedModel): The encoder without a head, on any device.
        tokenizer (PreTrainedTokenizerFast): Its tokenizer.

    Raises:
        UserError: It takes no attention mask for pairs of subwords, or does not heed it.
    """
    first, second = sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))[:2]
    ids = torch.full((2, 4), first, device=model.device)
    ids[1, 3] = second
    mask = torch.ones(2, 4, 4, dtype=torch.long, device=model.device).tril()
    try:
        with building(), torch.no_grad():
            vectors = model(input_ids=ids, attention_mask=mask).last_hidden_state
        is_causal = torch.allclose(vectors[0, :3], vectors[1, :3], atol=1e-4) and not torch.equal(vectors[0, 3], vectors[1, 3])
    except Exception:  # whatever an architecture raises that takes a mask of another shape
        is_causal = False
    if not is_causal:
        raise UserError(f"causal-ratio: {model.config.model_type} takes no attention mask for pairs of subwords; set it to 0")


_ADVICE = "Set a shorter window if it is only too long; the documentation lists the families that are tested"
