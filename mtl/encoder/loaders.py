"""Encoders from and to Hugging Face folders, and the registered loader for `[initialize]`."""

from functools import partial
from pathlib import Path
from typing import Callable, Optional, Tuple

from safetensors import SafetensorError
from thinc.api import Model
from transformers import MODEL_MAPPING, AutoModel, PreTrainedModel, PreTrainedTokenizerFast

from mtl.encoder.limits import reinit_top_layers, set_attention_dropout, set_dropout
from mtl.encoder.lora import add_lora, merged
from mtl.encoder.sources import load_config, load_pretrained, load_tokenizer
from mtl.encoder.torch_encoder import Encoder, EncoderSettings
from mtl.errors import UserError, check_range
from mtl.files import read_json, replacing
from mtl.torch_model import torch_model

AGAIN = "copy or install the pipeline again"
Loader = Callable[[], Tuple[PreTrainedModel, PreTrainedTokenizerFast]]


def huggingface_loader(
    name: str, attention_dropout: float = 0.0, dropout: Optional[float] = None, reinit_layers: int = 0, lora: int = 0
) -> Loader:
    """`mtl.HuggingFaceLoader.v1`, for `[initialize.components.transformer.encoder_loader]`.

    name (str): a folder that `save_pretrained` or `mtl adapt` wrote, or a name on the Hugging Face hub. The hub is asked
    when the pipeline is initialized, never later. attention_dropout (float): of attention weights, in training. See
    `set_attention_dropout` for what a value above 0 costs. dropout (float): of hidden states; null leaves the checkpoint's.
    reinit_layers (int): how many of the top layers start anew (Zhang et al. 2021, https://arxiv.org/abs/2006.05987).
    lora (int): the rank of updates that are trained in place of the encoder's own weights (Hu et al. 2021,
    https://arxiv.org/abs/2106.09685), and merged into them when the pipeline is saved; 0: those themselves are trained.
    """
    check_range("attention_dropout", attention_dropout, 0.0, 1.0)
    check_range("dropout", 0.0 if dropout is None else dropout, 0.0, 1.0)
    check_range("reinit_layers", reinit_layers, 0)
    check_range("lora", lora, 0)
    if lora and reinit_layers:
        raise UserError(
            f"lora = {lora} and reinit_layers = {reinit_layers}: layers that start anew need all their weights trained"
        )

    def load() -> Tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        config = load_config(name)
        set_attention_dropout(config, attention_dropout)
        if dropout is not None:
            set_dropout(config, dropout)
        model, info = load_pretrained(AutoModel, name, config=config)
        lost = [key for key in info["missing_keys"] if "pooler" not in key]
        if lost:
            raise UserError(f"encoder {name!r}: the checkpoint lacks {len(lost)} weights, {lost[0]} among them")
        if reinit_layers:
            reinit_top_layers(model, reinit_layers)
        if lora:
            add_lora(model, lora)
        return model, load_tokenizer(name)

    return load


def encoder_architecture(
    window: int = 0,
    overlap: int = 128,
    batch_pieces: int = 0,
    precision: str = "fp32",
    device: str = "auto",
    frozen_layers: int = 0,
    fallback: bool = True,
    backend: str = "auto",
) -> Model:
    """Architecture `mtl.Encoder.v1`: any `AutoModel` encoder with a fast tokenizer. See `EncoderSettings`.

    The sizes come with the weights, so none is repeated here; `device` is looked up where the pipeline runs.
    RAISES (UserError): a setting is out of range.
    """
    settings = EncoderSettings(window, overlap, batch_pieces, precision, device, frozen_layers, fallback, backend)
    settings.check()
    return torch_model("mtl-encoder", partial(Encoder, settings=settings))


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer, beside first, then renamed. No path of this machine in them.

    RAISES (UserError): the disk is full; the folder that was there stays as it was.
    """
    encoder.model.config._name_or_path = ""
    with replacing(folder, "config.json") as partial:
        merged(encoder.model).save_pretrained(partial, safe_serialization=True)  # type: ignore[operator]
        encoder.tokenizer.save_pretrained(partial)


def load_encoder(folder: Path) -> Tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Read what `save_encoder` wrote; never asks the network. RAISES (UserError): a file is missing or broken."""
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / file).exists():
            raise UserError(f"{folder / file}: missing; {AGAIN}")
    read_json(folder / "config.json")
    try:
        config = load_config(str(folder))
        known = MODEL_MAPPING.get(type(config), AutoModel)  # AutoModel itself looks through, and so imports, every architecture
        model_class = known[0] if isinstance(known, tuple) else known
        model, info = load_pretrained(model_class, str(folder), config=config, local_files_only=True)
    except (SafetensorError, RuntimeError, UserError) as error:  # RuntimeError: sizes that are not those of config.json
        raise UserError(f"{folder / 'model.safetensors'}: the weights cannot be read ({error}); {AGAIN}") from error
    lost = [key for key in info["missing_keys"] if "pooler" not in key]
    if lost:
        raise UserError(f"{folder / 'model.safetensors'}: {len(lost)} weights are missing, {lost[0]} among them")
    try:
        return model, load_tokenizer(str(folder))
    except UserError as error:
        raise UserError(f"{folder / 'tokenizer.json'}: {error}; {AGAIN}") from error
