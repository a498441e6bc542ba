"""The head of any masked-language model, cut off its encoder. Pure torch."""

import copy
from typing import Any, Optional

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class MaskedLMHead(nn.Module):
    """Logits over the vocabulary for hidden wordpieces, by the head that the architecture itself has.

    The output matrix is the encoder's own embeddings, which are given with each call and get no gradient from here: the
    balance decides what moves the encoder, and this way around it would be none.
    config: the encoder's.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        small = copy.deepcopy(config)
        small.num_hidden_layers = 1  # the encoder is thrown away at once
        self.model = AutoModelForMaskedLM.from_config(small)
        setattr(self.model, self.model.base_model_prefix, _Given())
        self.output = _Tied(config.vocab_size)
        self.model.set_output_embeddings(self.output)
        for module in self.model.modules():  # other names of the bias, which safetensors would refuse to store twice
            if module is not self.output:
                for name, parameter in list(module._parameters.items()):
                    if parameter is self.output.bias:
                        del module._parameters[name]
        del self.output  # it stays where the model has it

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """hidden: (chosen, width). embeddings: (vocabulary, embedding size). RETURNS (chosen, vocabulary)."""
        self.model.get_output_embeddings().table = embeddings.detach()
        return self.model(inputs_embeds=hidden[None]).logits[0]

    @torch.no_grad()
    def take(self, whole: PreTrainedModel) -> None:
        """Take over the weights of the head of a whole model of the same architecture."""
        theirs = dict(whole.named_parameters(remove_duplicate=False))
        for name, parameter in self.model.named_parameters():
            parameter.copy_(theirs[name])


class _Given(nn.Module):
    """In the encoder's place: what is given is what comes out."""

    def forward(self, input_ids: Optional[Tensor] = None, inputs_embeds: Optional[Tensor] = None, **_: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=inputs_embeds)


class _Tied(nn.Module):
    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.table: Optional[Tensor] = None

    def forward(self, hidden: Tensor) -> Tensor:
        assert self.table is not None
        return nn.functional.linear(hidden, self.table, self.bias)
