"""The settings of a run of continued pretraining."""

from dataclasses import asdict, dataclass
from typing import Any, Dict

from mtl.errors import UserError, check_choice, check_range

OBJECTIVES = ("auto", "mlm", "span_mlm", "rtd", "clm")
# Settings that may differ when a run resumes: its budget, where it runs, and what it only watches.
MAY_DIFFER = {
    "epochs", "max_tokens", "max_steps", "max_minutes", "device", "eval_blocks", "checkpoint_minutes", "save_total_limit",
    "num_evaluations", "max_forgetting",
}  # fmt: skip


@dataclass
class AdaptSettings:
    """How to continue pretraining. The run ends when the first of `epochs`, `max_tokens`, `max_steps`, `max_minutes` is spent.

    Args:
        epochs (float): Epochs over the domain text.
        max_tokens (float): Subwords to train on, at most; 0 for no limit.
        max_steps (int): Optimizer steps, at most; 0 for no limit.
        max_minutes (float): Minutes of training, at most, without reading and evaluation; 0 for no limit.
        block_size (int): Subwords in a block.
        batch_size (int): Blocks in a forward pass.
        gradient_accumulation_steps (int): Forward passes in an optimizer step.
        learning_rate (float): The highest learning rate; 0 for what suits the encoder's width: see `default_rate`.
        layer_lr_decay (float): Factor between the learning rate of a layer and that of the layer above it.
        head_learning_rate (float): The highest learning rate while only the head is trained.
        head_only_ratio (float): Fraction of the budget in which only the head is trained, if the checkpoint has no head. It ends
            sooner if the head learns no more.
        causal_ratio (float): Fraction of the budget in which the encoder predicts the next subword from those before it, ahead of
            masked-language modelling; the learning rate then falls only in the latter (Touchent and de la Clergerie 2026,
            https://arxiv.org/abs/2605.12438). 0 for none.
        warmup_ratio (float): First fraction of the budget over which the learning rate rises.
        decay_ratio (float): Final fraction of the budget over which it falls to 0. In between it is constant.
        weight_decay (float): Weight decay of matrices. Vectors (biases and norms) have none.
        objective (str): "mlm" (masked words), "span_mlm" (masked spans of words), "rtd" (replaced token detection, for ELECTRA),
            "clm" (the next subword, for decoders). "auto": "rtd" with a generator, else "mlm" if there is a mask token, else
            "clm".
        generator (str): The small masked-language model that replaces subwords for an ELECTRA discriminator.
        lora_rank (int): Rank of the low-rank updates that are trained instead of the encoder's weights; 0 to train the weights.
        mlm_probability (float): Fraction of words that are masked in training. Evaluation always masks 15%.
        validation_split (float): Fraction of documents that are held out.
        replay_ratio (float): Fraction of general text in the batches, if there is any.
        max_forgetting (float): Nats that the loss on general text may rise before the run stops; 0 for no limit.
        num_evaluations (int): Evaluations while the encoder is trained, evenly spaced. The best weights are saved.
        precision (str): "fp32", "bf16", or "auto": bf16 if it measures faster.
        device (str): "auto", "cpu", "cuda", "cuda:1", ...
        seed (int): Seed of all random choices.
        eval_blocks (int): Blocks of each text to evaluate on, at most.
        checkpoint_minutes (float): Minutes between checkpoints; 0 for none.
        save_total_limit (int): Checkpoints to keep.
        gradient_checkpointing (bool): Compute activations twice instead of storing them: less memory, more time.
    """

    epochs: float = 3.0
    max_tokens: float = 0
    max_steps: int = 0
    max_minutes: float = 0.0
    block_size: int = 128
    batch_size: int = 16
    gradient_accumulation_steps: int = 1
    learning_rate: float = 0.0
    layer_lr_decay: float = 1.0
    head_learning_rate: float = 2e-3
    head_only_ratio: float = 0.05
    causal_ratio: float = 0.0
    warmup_ratio: float = 0.06
    decay_ratio: float = 1.0
    weight_decay: float = 0.01
    objective: str = "auto"
    generator: str = ""
    lora_rank: int = 0
    mlm_probability: float = 0.2
    validation_split: float = 0.05
    replay_ratio: float = 0.05
    max_forgetting: float = 0.0
    num_evaluations: int = 4
    precision: str = "auto"
    device: str = "auto"
    seed: int = 0
    eval_blocks: int = 200
    checkpoint_minutes: float = 10.0
    save_total_limit: int = 2
    gradient_checkpointing: bool = False

    def check(self) -> None:
        """Check every setting.

        Raises:
            UserError: A setting is out of range; the message names it and what is allowed.
        """
        check_choice("precision", self.precision, ("auto", "fp32", "bf16"))
        check_choice("objective", self.objective, OBJECTIVES)
        if self.objective == "rtd" and not self.generator:
            raise UserError('objective = "rtd" needs a generator: the masked-language model that replaces subwords')
        if self.generator and self.objective not in ("auto", "rtd"):
            raise UserError(f'generator is for objective = "rtd", and objective = "{self.objective}"')
        check_range("lora-rank", self.lora_rank, 0)
        check_range("epochs", self.epochs, 0.001)
        check_range("max-tokens", self.max_tokens, 0)
        check_range("max-steps", self.max_steps, 0)
        check_range("max-minutes", self.max_minutes, 0)
        check_range("learning-rate", self.learning_rate, 0.0)
        check_range("layer-lr-decay", self.layer_lr_decay, 0.0, 1.0)
        check_range("block-size", self.block_size, 16)
        check_range("batch-size", self.batch_size, 1)
        check_range("gradient-accumulation-steps", self.gradient_accumulation_steps, 1)
        check_range("decay-ratio", self.decay_ratio, 0.0, 1.0)
        check_range("mlm-probability", self.mlm_probability, 0.01, 0.9)
        check_range("validation-split", self.validation_split, 0.001, 0.5)
        check_range("replay-ratio", self.replay_ratio, 0.0, 0.9)
        check_range("max-forgetting", self.max_forgetting, 0.0)
        check_range("num-evaluations", self.num_evaluations, 1)
        check_range("head-only-ratio", self.head_only_ratio, 0.0, 0.9)
        check_range("causal-ratio", self.causal_ratio, 0.0, 0.9)
        if self.causal_ratio and self.objective not in ("auto", "mlm", "span_mlm"):
            raise UserError(f'causal-ratio is a detour of objective = "mlm" or "span_mlm", and objective = "{self.objective}"')
        check_range("checkpoint-minutes", self.checkpoint_minutes, 0)
        check_range("save-total-limit", self.save_total_limit, 1)

    def check_general(self, has_general: bool) -> None:
        """Check that there is general text if a setting needs it.

        Raises:
            UserError: There is none.
        """
        if self.max_forgetting and not has_general:
            raise UserError("max-forgetting is measured on general text: give some with --general")

    def identity(self) -> Dict[str, Any]:
        """The settings that must be the same for a run to resume."""
        return {name: value for name, value in asdict(self).items() if name not in MAY_DIFFER}
