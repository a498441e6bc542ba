"""What continued pretraining optimizes: a model with its language-model head, its masks, its loss and its precision."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from mtl import compat, distributed
from mtl.adaptation.batches import BlockBatch, count_subwords, evaluation_batches
from mtl.adaptation.electra import load_electra, rtd_loss
from mtl.adaptation.settings import AdaptSettings
from mtl.encoder.model.masking import MaskSettings
from mtl.encoder.model.mlm import causal_mask, head_parameters, load_mlm, masked_loss, start_at_frequencies
from mtl.encoder.pretrained.architecture import max_length
from mtl.encoder.pretrained.lora import add_lora, has_lora, lora_parameters, merge_lora
from mtl.encoder.pretrained.sources import load_tokenizer
from mtl.encoder.pretrained.trial import check_causal, check_encoder, check_vocabulary
from mtl.encoder.runtime.device import faster_in_bf16, pick_device
from mtl.errors import UserError

LossFunction = Callable[..., Tensor]  # with the arguments of `masked_loss`


@dataclass
class Objective:
    """A model and how its loss is computed. It knows nothing of steps, schedules or checkpoints.

    Args:
        name (str): "mlm", "span_mlm", "rtd" or "clm".
        model (Any): The encoder with its head, on `device`: a language model, or an `ElectraPair`.
        tokenizer (PreTrainedTokenizerFast): The encoder's tokenizer.
        missing (List[str]): Parameters of the head that the checkpoint lacks.
        masks (MaskSettings): What to select and how to hide it, in training.
        loss_function (LossFunction): Computes the loss of a batch.
        device (torch.device): Where the model is.
        precision (str): "fp32" or "bf16".
        is_causal (bool): Subwords see only those before them, whatever the model is: see `start`.
    """

    name: str
    model: Any
    tokenizer: PreTrainedTokenizerFast
    missing: List[str]
    masks: MaskSettings
    loss_function: LossFunction
    device: torch.device
    precision: str
    is_causal: bool = False

    def start(self, is_causal: bool) -> MaskSettings:
        """Begin to predict the next subword, or what the objective predicts. Returns the masks that the batches need for it."""
        self.is_causal = is_causal
        return replace(self.masks, objective="clm") if is_causal else self.masks

    @property
    def pad_id(self) -> int:
        """The id of padding; -1 if the tokenizer has none."""
        return -1 if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id

    @property
    def predicts_text(self) -> bool:
        """Whether the loss is a language model's, which gives bits per byte. That of replaced token detection is not."""
        return self.name != "rtd"

    def loss(self, batch: BlockBatch, forward: Optional[Callable[..., Any]] = None) -> Tensor:
        """The mean loss of a batch, in nats per predicted subword.

        Args:
            batch (BlockBatch): The batch, on any device.
            forward (Optional[Callable[..., Any]]): What to call instead of the model, such as a data-parallel wrapper of it.
        """
        masked, attention_mask = batch.to(self.device)
        if self.is_causal:
            attention_mask = causal_mask(attention_mask)
        with self._autocast():
            return self.loss_function(self.model, masked, attention_mask, forward)

    def count(self, batch: BlockBatch) -> int:
        """What the loss of a batch is the mean over: predicted subwords; all of them if replaced ones are to be detected."""
        return len(batch.masked.targets) if self.predicts_text else int(batch.attention_mask.sum())

    @torch.no_grad()
    def mean_loss(self, batches: List[BlockBatch]) -> float:
        """The mean loss over fixed batches, without dropout, in nats per predicted subword. Its exponential is the perplexity."""
        was_training = self.model.training
        self.model.eval()
        total = count = 0.0
        for batch in batches:
            total += self.loss(batch).item() * self.count(batch)
            count += self.count(batch)
        self.model.train(was_training)
        return total / count

    def losses(self, texts: Dict[str, List[BlockBatch]]) -> Dict[str, float]:
        """The mean loss on each text, by name."""
        return {name: self.mean_loss(batches) for name, batches in texts.items()}

    def evaluation_batches(self, blocks: Dataset, count: int, batch_size: int) -> List[BlockBatch]:
        """Fixed batches of a text, on the device, for `losses`.

        Args:
            blocks (Dataset): Blocks of the text, as in `Corpus`.
            count (int): Blocks to evaluate on, at most.
            batch_size (int): Blocks in a batch.
        """
        batches = evaluation_batches(blocks, count, batch_size, self.masks, self.pad_id)
        return [batch.to(self.device) for batch in batches]

    def start_new_head(self, blocks: Dataset) -> None:
        """Let a head that the checkpoint lacks start at the frequencies of the subwords in the blocks."""
        if self.missing and hasattr(self.model, "get_output_embeddings"):
            start_at_frequencies(self.model, count_subwords(blocks, self.model.config.vocab_size))

    def head_parameters(self) -> List[nn.Parameter]:
        """The parameters of the head that it does not share with the encoder."""
        return head_parameters(self.model)

    def trainable_parameters(self) -> List[nn.Parameter]:
        """What is trained with the encoder: all parameters, or with LoRA the low-rank updates and the head."""
        if has_lora(self.model):
            return lora_parameters(self.model) + self.head_parameters()
        return list(self.model.parameters())

    def merge_lora(self) -> None:
        """Merge low-rank updates, if there are any, into the weights."""
        if has_lora(self.model):
            merge_lora(self.model.base_model)

    def save(self, folder: Path) -> None:
        """Write model and tokenizer as a Hugging Face folder."""
        compat.clear_name_or_path(self.model.config)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()


def load_objective(encoder: str, settings: AdaptSettings) -> Objective:
    """Load an encoder with the head, the loss and the masks of its objective.

    Args:
        encoder (str): A Hugging Face folder or a name on the hub.
        settings (AdaptSettings): Objective, block size, LoRA, precision, device and seed are used here.

    Raises:
        UserError: A setting is out of range, or the objective does not fit the encoder.
    """
    settings.check()
    tokenizer = load_tokenizer(encoder)
    mask_id = tokenizer.mask_token_id
    name = _objective_name(encoder, settings, mask_id is not None)
    if settings.causal_ratio and name not in ("mlm", "span_mlm"):
        raise UserError(f'causal-ratio is a detour of objective = "mlm" or "span_mlm", and that of {encoder!r} is "{name}"')
    device = _device(settings.device)
    torch.manual_seed(settings.seed)  # for a head that the checkpoint lacks
    loss_function: LossFunction = rtd_loss if name == "rtd" else masked_loss
    model, missing = _load_model(encoder, name, settings.generator, tokenizer)
    longest = max_length(model.base_model, model.config)
    if settings.block_size > longest:
        raise UserError(f"block-size = {settings.block_size} is more than the encoder's maximum of {longest} subwords")
    check_vocabulary(model.base_model, tokenizer)
    check_encoder(model.base_model, tokenizer, settings.block_size)
    if settings.causal_ratio:
        check_causal(model.base_model, tokenizer)
    if settings.lora_rank:
        add_lora(model.base_model, settings.lora_rank)
    model.to(device)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    masks = MaskSettings(-1 if mask_id is None else mask_id, len(tokenizer), settings.mlm_probability, objective=name)
    if name == "rtd":
        masks = replace(masks, objective="mlm", mask_fraction=1.0, random_fraction=0.0)
    return Objective(name, model, tokenizer, missing, masks, loss_function, device, _precision(settings.precision, device))


def _objective_name(encoder: str, settings: AdaptSettings, has_mask_token: bool) -> str:
    automatic = "rtd" if settings.generator else "mlm" if has_mask_token else "clm"
    name = automatic if settings.objective == "auto" else settings.objective
    if name != "clm" and not has_mask_token:
        raise UserError(
            f"encoder {encoder!r}: its tokenizer has no mask token, which objective = {name!r} needs; "
            f'for a decoder set objective = "clm"'
        )
    return name


def _load_model(encoder: str, name: str, generator: str, tokenizer: PreTrainedTokenizerFast) -> Tuple[Any, List[str]]:
    """The model with its head, and the names of the head's parameters that the checkpoint lacks."""
    return load_electra(encoder, generator, tokenizer) if name == "rtd" else load_mlm(encoder, causal=name == "clm")


def _device(name: str) -> torch.device:
    """The device of this process: under torchrun on GPUs, the one that it was given."""
    device = pick_device(name)
    if device.type == "cuda" and distributed.world_size() > 1:
        return torch.device("cuda", torch.cuda.current_device())  # set by `distributed.init`
    return device


def _precision(precision: str, device: torch.device) -> str:
    """The precision to use. Rank 0 measures for all."""
    if precision != "auto":
        return precision
    return "bf16" if distributed.from_rank_zero(faster_in_bf16(device)) else "fp32"
