"""The head of any masked-language model, without its encoder. Pure torch."""

import copy
from typing import Any, Optional

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from mtl import compat


class MaskedLMHead(nn.Module):
    """Logits over the vocabulary for masked subwords, from the head that the architecture itself has.

    The output matrix is the encoder's own embeddings, which are passed with each call and get no gradient from the output: the
    weighting decides how much each task moves the encoder, and this gradient would bypass it.

    Args:
        config (PretrainedConfig): The encoder's.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        small = copy.deepcopy(config)
        small.num_hidden_layers = 1  # the encoder is dropped at once
        self.model = AutoModelForMaskedLM.from_config(small)
        setattr(self.model, self.model.base_model_prefix, _Identity())
        output = _TiedOutput(config.vocab_size)
        self.model.set_output_embeddings(output)
        for module in self.model.modules():  # other names of the bias: safetensors refuses to store it twice
            if module is not output:
                _, parameters = compat.module_members(module)
                for name, parameter in list(parameters.items()):
                    if parameter is output.bias:
                        del parameters[name]

    def forward(self, hidden: Tensor, embeddings: Tensor) -> Tensor:
        """Predict the masked subwords.

        Args:
            hidden (Tensor): Shape (masked, width): their vectors.
            embeddings (Tensor): Shape (vocabulary, embedding size).

        Returns:
            Tensor: Shape (masked, vocabulary).
        """
        self.model.get_output_embeddings().table = embeddings.detach()
        return self.model(inputs_embeds=hidden[None]).logits[0]

    @torch.no_grad()
    def copy_head(self, model: PreTrainedModel) -> None:
        """Copy the weights of the head of a whole model of the same architecture."""
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for name, parameter in self.model.named_parameters():
            parameter.copy_(parameters[name])


class _Identity(nn.Module):
    """Takes the encoder's place: returns its input."""

    def forward(self, input_ids: Optional[Tensor] = None, inputs_embeds: Optional[Tensor] = None, **_: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=inputs_embeds)


class _TiedOutput(nn.Module):
    """A linear layer whose weight is set before each call."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.table: Optional[Tensor] = None

    def forward(self, hidden: Tensor) -> Tensor:
        assert self.table is not None
        return nn.functional.linear(hidden, self.table, self.bias)
