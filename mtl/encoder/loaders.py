"""Encoders from and to Hugging Face folders, and the registered loader for `[initialize]`."""

from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

from safetensors import SafetensorError
from thinc.api import Model
from transformers import MODEL_MAPPING, AutoModel, PreTrainedModel, PreTrainedTokenizerFast

from mtl import compat
from mtl.encoder.model.encoder import Encoder, EncoderSettings
from mtl.encoder.pretrained.architecture import reinit_top_layers, set_attention_dropout, set_dropout
from mtl.encoder.pretrained.lora import add_lora, merged
from mtl.encoder.pretrained.sources import load_config, load_pretrained, load_tokenizer
from mtl.errors import UserError, check_range
from mtl.files import read_json, replacing
from mtl.torch_model import torch_model

REINSTALL = "copy or install the pipeline again"
Loader = Callable[[], Tuple[PreTrainedModel, PreTrainedTokenizerFast]]


def huggingface_loader(
    name: str, attention_dropout: float = 0.0, dropout: Optional[float] = None, reinit_layers: int = 0, lora_rank: int = 0
) -> Loader:
    """Loader `mtl.HuggingFaceLoader.v1`: for `[initialize.components.transformer.encoder_loader]`.

    Args:
        name (str): A folder that `save_pretrained` or `mtl adapt` wrote, or a name on the Hugging Face hub. The hub is asked
            when the pipeline is initialized, never later.
        attention_dropout (float): Dropout rate of attention weights in training. For the cost of a rate above 0 see
            `set_attention_dropout`.
        dropout (Optional[float]): Dropout rate of hidden states; null for the checkpoint's own.
        reinit_layers (int): How many of the top layers start from random weights (Zhang et al. 2021,
            https://arxiv.org/abs/2006.05987).
        lora_rank (int): Rank of the low-rank updates that are trained instead of the encoder's weights (Hu et al. 2021,
            https://arxiv.org/abs/2106.09685) and merged into them when the pipeline is saved; 0 to train the weights.

    Returns:
        Loader: Returns the model and its tokenizer.

    Raises:
        UserError: A setting is out of range. The loader itself raises one if the checkpoint cannot be loaded.
    """
    check_range("attention_dropout", attention_dropout, 0.0, 1.0)
    check_range("dropout", 0.0 if dropout is None else dropout, 0.0, 1.0)
    check_range("reinit_layers", reinit_layers, 0)
    check_range("lora_rank", lora_rank, 0)
    if lora_rank and reinit_layers:
        raise UserError(
            f"lora_rank = {lora_rank} and reinit_layers = {reinit_layers} cannot be combined: layers with random weights need "
            f"all their weights trained"
        )

    def load() -> Tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        config = load_config(name)
        set_attention_dropout(config, attention_dropout)
        if dropout is not None:
            set_dropout(config, dropout)
        model, info = load_pretrained(AutoModel, name, config=config)
        missing = _missing_weights(info)
        if missing:
            raise UserError(f"encoder {name!r}: the checkpoint lacks {len(missing)} weights, {missing[0]} among them")
        if reinit_layers:
            reinit_top_layers(model, reinit_layers)
        if lora_rank:
            add_lora(model, lora_rank)
        return model, load_tokenizer(name)

    return load


def _missing_weights(info: Dict[str, Any]) -> List[str]:
    """The weights that a checkpoint lacks, by its loading report. The pooler is never used."""
    return [key for key in info["missing_keys"] if "pooler" not in key]


def encoder_architecture(
    window: int = 0,
    overlap: int = 128,
    max_batch_subwords: int = 0,
    precision: str = "fp32",
    device: str = "auto",
    frozen_layers: int = 0,
    fallback: bool = True,
    backend: str = "auto",
    top_layers: int = 1,
) -> Model:
    """Architecture `mtl.Encoder.v1`: an `AutoModel` encoder with a fast tokenizer, which is tried when it is loaded.

    Its sizes come with the weights, so they are not settings. `device` is looked up where the pipeline runs.

    Args:
        window (int): Subwords in a window, special tokens and prompt included. 0: the model's own maximum, at most 512.
        overlap (int): Subwords that neighbouring windows share, at most half a window.
        max_batch_subwords (int): Padded subwords in a forward pass. 0: what suits the device and the encoder's width.
        precision (str): "fp32", "bf16", "fp16" (GPU) or "int8" (CPU, predictions only).
        device (str): "auto" (the first GPU, otherwise the CPU) or a torch device name.
        frozen_layers (int): How many of the lowest layers, with the embeddings, are not trained.
        fallback (bool): If the device lacks the precision or backend, use fp32 in torch and warn; otherwise fail.
        backend (str): "torch", "openvino" (CPU) or "auto": OpenVINO for int8, and for bf16 if it is installed.
        top_layers (int): How many of the top layers a token's vector holds, one after another. Each head then weighs the
            layers itself: a linear mix, of which the scalar mix of Peters et al. 2018 (https://arxiv.org/abs/1802.05365) is a
            special case.

    Raises:
        UserError: A setting is out of range.
    """
    settings = EncoderSettings(
        window, overlap, max_batch_subwords, precision, device, frozen_layers, fallback, backend, top_layers
    )
    settings.check()
    return torch_model("mtl-encoder", partial(Encoder, settings=settings))


def save_encoder(encoder: Encoder, folder: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer. They name no path of this machine.

    The folder is written beside its place and then renamed.

    Args:
        encoder (Encoder): The encoder.
        folder (Path): Where to.

    Raises:
        UserError: The disk is full. A folder that was there before is unchanged.
    """
    compat.clear_name_or_path(encoder.model.config)
    with replacing(folder, "config.json") as partial_folder:
        merged(encoder.model).save_pretrained(partial_folder, safe_serialization=True)  # type: ignore[operator]
        encoder.tokenizer.save_pretrained(partial_folder)


def load_encoder(folder: Path) -> Tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Read what `save_encoder` wrote. The network is never asked.

    Raises:
        UserError: A file is missing or damaged.
    """
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / file).exists():
            raise UserError(f"{folder / file}: missing; {REINSTALL}")
    read_json(folder / "config.json")
    weights = folder / "model.safetensors"
    try:
        config = load_config(str(folder))
        known = MODEL_MAPPING.get(type(config), AutoModel)  # AutoModel itself looks through, and so imports, every architecture
        model_class = known[0] if isinstance(known, tuple) else known
        model, info = load_pretrained(model_class, str(folder), config=config, local_files_only=True)
    except (SafetensorError, RuntimeError, UserError) as error:  # RuntimeError: shapes that differ from those of config.json
        raise UserError(f"{weights}: the weights cannot be read ({error}); {REINSTALL}") from error
    missing = _missing_weights(info)
    if missing:
        raise UserError(f"{weights}: {len(missing)} weights are missing, {missing[0]} among them; {REINSTALL}")
    try:
        return model, load_tokenizer(str(folder))
    except UserError as error:
        raise UserError(f"{folder / 'tokenizer.json'}: {error}; {REINSTALL}") from error
