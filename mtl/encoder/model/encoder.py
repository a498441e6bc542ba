"""The shared transformer: an `AutoModel`, in windows, at token level. No spaCy."""

import inspect
from dataclasses import dataclass
from functools import partial
from typing import Any, Dict, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from mtl import compat
from mtl.encoder.model.batching import batches_by_length
from mtl.encoder.model.forward import WindowForward
from mtl.encoder.model.layout import WindowLayout
from mtl.encoder.model.masking import MaskSettings, mask
from mtl.encoder.model.recompute import recomputed
from mtl.encoder.model.subwords import TokenizedText
from mtl.encoder.model.vectors import TokenVectors
from mtl.encoder.model.windows import MIN_CAPACITY, Template
from mtl.encoder.pretrained.architecture import depth_of, layer_count, max_length, without_pooler
from mtl.encoder.pretrained.trial import check_encoder, check_vocabulary
from mtl.encoder.runtime.device import check_memory, good_batch, pick_device, subwords_to_keep
from mtl.encoder.runtime.inference import InferenceModel
from mtl.encoder.runtime.precision import BACKENDS, PRECISIONS, training_autocast, usable
from mtl.encoder.runtime.workers import worker_count
from mtl.errors import UserError, check_choice, check_range
from mtl.timing import stage
from mtl.torch_model import Parameters, predicting

# Architectures that turn a mask of (batch, length) into one of (batch, 1, length, length), which costs a small encoder more than
# a layer does. A mask of (batch, 1, length) they only broadcast.
BROADCASTS_MASK = ("bert", "camembert", "roberta", "xlm-roberta", "xlm-roberta-xl")

TRIAL_LENGTH = 16  # subwords that a model encodes when it is loaded; it costs a few milliseconds


@dataclass(frozen=True)
class EncoderSettings:
    """Settings of `mtl.Encoder.v1`.

    Args:
        window (int): Subwords in a window, special tokens and prompt included. 0: the model's own maximum, at most 512.
        overlap (int): Subwords that neighbouring windows share, at most half a window.
        max_batch_subwords (int): Padded subwords in a forward pass. 0: what suits the device and the encoder's width.
        precision (str): "fp32", "bf16", "fp16" (GPU) or "int8" (CPU, predictions only).
        device (str): "auto" or a torch device name.
        frozen_layers (int): How many of the lowest layers, with the embeddings, are not trained.
        fallback (bool): If the device lacks the precision or backend, use fp32 in torch and warn; otherwise fail.
        backend (str): "torch", "openvino" (CPU) or "auto": see `usable`.
        top_layers (int): How many of the top layers a token's vector holds, one after another. Each head then weighs the
            layers itself: a linear mix, of which the scalar mix of Peters et al. 2018 (https://arxiv.org/abs/1802.05365) is a
            special case.
    """

    window: int = 0
    overlap: int = 128
    max_batch_subwords: int = 0
    precision: str = "fp32"
    device: str = "auto"
    frozen_layers: int = 0
    fallback: bool = True
    backend: str = "auto"
    top_layers: int = 1

    def check(self) -> None:
        """Check the settings that do not depend on the model.

        Raises:
            UserError: A setting is out of range; the message names it and what is allowed.
        """
        check_choice("precision", self.precision, PRECISIONS)
        check_choice("backend", self.backend, ("auto", *BACKENDS))
        check_range("window", self.window, 0)
        check_range("overlap", self.overlap, 0)
        check_range("max_batch_subwords", self.max_batch_subwords, 0)
        check_range("frozen_layers", self.frozen_layers, 0)
        check_range("top_layers", self.top_layers, 1)
        if self.top_layers > 1 and (self.precision == "int8" or self.backend == "openvino"):
            raise UserError(
                f"top_layers = {self.top_layers} needs torch, since OpenVINO gives the last layer alone: set "
                f'backend = "torch" and a precision other than int8'
            )


class Encoder(nn.Module):
    """An `AutoModel` with a fast tokenizer, in windows, at token level.

    It stays in `eval()` mode except inside a training call, and a prediction changes nothing in it, so threads may share it.

    Args:
        model (PreTrainedModel): The transformer.
        tokenizer (PreTrainedTokenizerFast): Its tokenizer.
        settings (EncoderSettings): How to run it.

    Raises:
        UserError: A setting does not fit the model or the device, or the model does not fit its tokenizer.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, settings: EncoderSettings) -> None:
        super().__init__()
        settings.check()
        check_vocabulary(model, tokenizer)
        check_encoder(model, tokenizer, min(TRIAL_LENGTH, max_length(model, model.config)))
        self.model, self.tokenizer, self.settings = without_pooler(model), tokenizer, settings
        self.template = Template.from_tokenizer(tokenizer)
        self.window, self.overlap = self._window_sizes()
        self._layout = WindowLayout(tokenizer, self.template, self.window, self.overlap)
        self.passes = 0  # items encoded so far, for tests and profiles
        self._freeze(settings.frozen_layers)
        self.to(pick_device(settings.device))
        self.max_batch_subwords = settings.max_batch_subwords or good_batch(model, self.device)
        if settings.top_layers > self.layers:
            raise UserError(f"top_layers = {settings.top_layers} is more than the encoder's {self.layers} layers")
        wanted = "torch" if settings.top_layers > 1 else settings.backend
        precision, backend = usable(settings.precision, wanted, self.device, settings.fallback)
        accepts_types = (
            "token_type_ids" in inspect.signature(model.forward).parameters and getattr(model.config, "type_vocab_size", 0) > 1
        )
        attention = compat.attention_implementation(model.config)
        broadcasts_mask = attention == "sdpa" and model.config.model_type in BROADCASTS_MASK
        self._windows = WindowForward(
            self.template, self.window, self.width, self.max_batch_subwords, tokenizer.pad_token_id or 0, accepts_types,
            broadcasts_mask, settings.top_layers,
        )  # fmt: skip
        inputs = ("input_ids", "attention_mask", "token_type_ids")[: 3 if accepts_types else 2]
        self.inference = InferenceModel(precision, backend, inputs, settings.fallback)
        self._training_precision = "bf16" if self.inference.precision == "bf16" else "fp32"
        self.eval()

    def _window_sizes(self) -> Tuple[int, int]:
        """The window and overlap to use."""
        settings, longest = self.settings, max_length(self.model, self.model.config)
        window = settings.window or min(longest, 512)
        if window > longest:
            raise UserError(f"window = {window} is more than the {longest} subwords that the encoder takes")
        minimum = self.template.specials(False) + MIN_CAPACITY
        if window < minimum:
            raise UserError(f"window = {window} is too short: the minimum is {minimum} subwords")
        if settings.window and settings.overlap > window // 2:
            raise UserError(f"overlap = {settings.overlap} is too much for window = {window}; allowed: 0 to {window // 2}")
        return window, min(settings.overlap, window // 2)

    def check_window(self) -> None:
        """Encode a whole window, once: the longest text that the model takes is not known of every architecture.

        Raises:
            UserError: The model fails.
        """
        check_encoder(self.model, self.tokenizer, self.window)

    @property
    def width(self) -> int:
        """Size of a token vector."""
        return int(self.model.config.hidden_size) * self.settings.top_layers

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(self.model.parameters()).device

    @property
    def layers(self) -> int:
        """Number of transformer layers."""
        return layer_count(self.model)

    def describe(self) -> Dict[str, Any]:
        """What reports say of it: precision, device, window, width, layers, parameters."""
        count = sum(parameter.numel() for parameter in self.model.parameters())
        return {
            "precision": self.inference.precision, "backend": self.inference.backend, "device": str(self.device),
            "window": self.window, "width": self.width, "layers": self.layers, "parameters": count,
            "max_batch_subwords": self.max_batch_subwords,
        }  # fmt: skip

    def trainable(self) -> Parameters:
        """The parameters that are not frozen, each with its distance from the top layer."""
        layers = self.layers  # counting them walks through all parameters
        return {
            name: (parameter, max(layers - depth_of(name, layers), 0))
            for name, parameter in self.model.named_parameters()
            if parameter.requires_grad
        }

    def _freeze(self, count: int) -> None:
        layers = self.layers
        if count > layers:
            raise UserError(f"frozen_layers = {count} is more than the encoder's {layers} layers")
        for name, parameter in self.model.named_parameters():
            if count and depth_of(name, layers) <= count:
                parameter.requires_grad_(False)

    def prompt_fits(self, prompt: str) -> bool:
        """Whether a prompt leaves enough room in the window for text."""
        return self._layout.room(prompt) >= MIN_CAPACITY

    def encode(
        self, docs: Sequence[TokenizedText], prompts: Optional[Sequence[str]] = None, *, train: bool = False, before: int = 0
    ) -> TokenVectors:
        """Encode documents.

        Args:
            docs (Sequence[TokenizedText]): One for each item.
            prompts (Optional[Sequence[str]]): One for each item: it is then encoded as `[CLS] prompt [SEP] window [SEP]`.
            train (bool): With dropout and gradients; otherwise with neither, whatever mode torch is in.
            before (int): In training, subwords that were encoded for the same step before.

        Raises:
            UserError: A prompt leaves too little room in the window; the vectors do not fit in memory.
        """
        lengths = np.array([len(doc.starts) for doc in docs], dtype=np.int64)
        if self.device.type == "cpu":
            check_memory(int(lengths.sum()), self.width)
        with stage("align"):
            windows, aligned = self._layout(docs, prompts)
        self.passes += len(docs)
        if not train:
            with stage("encode"), predicting():
                workers = worker_count(self.device)
                workers = workers if len(windows.sizes) >= workers else 1  # a few windows get all threads each
                model = self.inference.model(self.model, workers)
                vectors, summaries = self._windows.read(model, windows, lengths, workers, self.device)
            return TokenVectors(vectors, summaries, lengths, aligned, len(windows.ids))
        self.train()
        try:
            with training_autocast(self._training_precision, self.device):
                keep = subwords_to_keep(self.model, self.width, self.device) - before
                vectors, summaries = self._windows.read(self.model, windows, lengths, 0, self.device, keep)
        finally:
            self.eval()
        return TokenVectors(vectors, summaries, lengths, aligned, len(windows.ids))

    def encode_masked(self, docs: Sequence[TokenizedText], settings: MaskSettings) -> Tuple[Tensor, Tensor]:
        """Mask some tokens and encode the rest, with dropout and gradients. A token is masked in the window it is read from.

        Args:
            docs (Sequence[TokenizedText]): The documents.
            settings (MaskSettings): What to mask. Draws come from torch's default generator.

        Returns:
            Tuple[Tensor, Tensor]: Vectors of the masked subwords, (masked, width), and their original ids, (masked,).
        """
        windows, _ = self._layout(docs, None)
        words = windows.words()
        vectors, targets = [], []
        recompute = len(windows.ids) > subwords_to_keep(self.model, self.width, self.device)
        self.train()
        try:
            with training_autocast(self._training_precision, self.device):
                for batch in batches_by_length(windows.sizes, self.max_batch_subwords):
                    longest, rows = int(windows.sizes[batch[-1]]), windows.rows(batch)
                    present = windows.mask(batch, longest)
                    padded_ids, padded_words = np.zeros((2, *present.shape), dtype=np.int64)
                    padded_ids[present], padded_words[present] = windows.ids[rows], words[rows]
                    ids, word_ids = torch.from_numpy(padded_ids), torch.from_numpy(padded_words)
                    masked = mask(ids, word_ids, settings, torch.default_generator)
                    windows.ids[rows] = masked.input_ids.numpy()[present]
                    run = partial(self._windows.forward, self.model, windows, batch, longest, self.device)
                    hidden = recomputed(run, self.model, self.device) if recompute else run()
                    last_layer = hidden[:, : self.model.config.hidden_size]
                    vectors.append(last_layer[masked.selected.flatten().to(self.device)])
                    targets.append(masked.targets.to(self.device))
        finally:
            self.eval()
        return torch.cat(vectors), torch.cat(targets)
