"""The settings of a run of continued pretraining."""

from dataclasses import asdict, dataclass
from typing import Any, Dict

from mtl.errors import UserError, check_choice, check_range


@dataclass
class AdaptSettings:
    """How to continue pretraining. A budget ends the run at whichever of passes, tokens, steps and minutes comes first."""

    passes: float = 3.0
    tokens: float = 0  # 0: no limit
    max_steps: int = 0  # 0: no limit
    minutes: float = 0.0  # 0: no limit; covers the training, not reading and evaluation
    length: int = 128  # wordpieces a block
    batch_blocks: int = 16  # in one forward pass
    accumulate: int = 1  # forward passes a step
    learn_rate: float = 1e-4
    layer_decay: float = 1.0  # each layer's rate is so many times the one's above
    head_learn_rate: float = 2e-3  # while the head alone is trained
    head_share: float = 0.3  # of the budget, spent on the head alone where the checkpoint has none
    warmup: float = 0.06  # share of the steps in which the rate rises
    decay: float = 1.0  # share of the budget, at its end, in which it falls to 0; between the two it stays
    weight_decay: float = 0.01
    # "words", "spans" (masked), "replaced" (detected), "next" (for decoders). auto: replaced where a generator is given, words
    # where there is a mask token, else next.
    objective: str = "auto"
    generator: str = ""  # the masked-language model, small, that replaces wordpieces for an ELECTRA discriminator
    lora: int = 0  # rank of the updates that are trained in place of the encoder's own weights; 0: those themselves
    rate: float = 0.2  # share of words that are masked; at 15% when measuring, whatever it is here
    held_out: float = 0.05
    replay: float = 0.05  # share of general text in the batches, where some is given
    max_forgetting: float = 0.0  # nats that the loss on general text may rise before the run stops; 0: no limit
    evaluations: int = 4  # during the encoder's training, evenly; the weights of the best are kept
    precision: str = "auto"  # "fp32", "bf16"; auto: bf16 where it measures faster
    device: str = "auto"
    seed: int = 0
    eval_blocks: int = 200
    checkpoint_minutes: float = 10.0  # 0: none
    keep: int = 2  # checkpoints
    gradient_checkpointing: bool = False  # less memory for more time

    def check(self) -> None:
        """RAISES (UserError): a setting is out of range; it is named with what is allowed."""
        check_choice("precision", self.precision, ("auto", "fp32", "bf16"))
        check_choice("objective", self.objective, ("auto", "words", "spans", "replaced", "next"))
        if self.objective == "replaced" and not self.generator:
            raise UserError('objective = "replaced" needs a generator: the masked-language model that replaces wordpieces')
        if self.generator and self.objective not in ("auto", "replaced"):
            raise UserError(f'generator is for objective = "replaced", and objective = "{self.objective}"')
        check_range("lora", self.lora, 0)
        check_range("passes", self.passes, 0.001)
        check_range("tokens", self.tokens, 0)
        check_range("max-steps", self.max_steps, 0)
        check_range("minutes", self.minutes, 0)
        check_range("learn-rate", self.learn_rate, 0.0)
        check_range("layer-decay", self.layer_decay, 0.0, 1.0)
        check_range("length", self.length, 16)
        check_range("batch-blocks", self.batch_blocks, 1)
        check_range("accumulate", self.accumulate, 1)
        check_range("decay", self.decay, 0.0, 1.0)
        check_range("rate", self.rate, 0.01, 0.9)
        check_range("held-out", self.held_out, 0.001, 0.5)
        check_range("replay", self.replay, 0.0, 0.9)
        check_range("max-forgetting", self.max_forgetting, 0.0)
        check_range("evaluations", self.evaluations, 1)
        check_range("head-share", self.head_share, 0.0, 0.9)
        check_range("checkpoint-minutes", self.checkpoint_minutes, 0)
        check_range("keep", self.keep, 1)

    def check_general(self, given: bool) -> None:
        """RAISES (UserError): a setting needs general text, and there is none."""
        if self.max_forgetting and not given:
            raise UserError("max-forgetting is measured on general text: give some with --general")

    def of_the_run(self) -> Dict[str, Any]:
        """The settings that must be the same for a run to go on: not its budget, nor where it runs or what it watches."""
        may_change = {
            "passes", "tokens", "max_steps", "minutes", "device", "eval_blocks", "checkpoint_minutes", "keep", "evaluations",
            "max_forgetting",
        }  # fmt: skip
        return {name: value for name, value in asdict(self).items() if name not in may_change}
