"""How fast an encoder can be trained on this machine, before there is anything to train."""

import time
from typing import Any

import torch

from mtl.encoder.runtime.device import pick_device

SUBWORDS_PER_WORD = 1.4  # of English text, about
HEADS = 1.15  # what heads, the optimizer and evaluations add, about
TIMED = 3  # steps, of which the first is left out


def training_words_per_second(model: Any, window: int, words: int, precision: str) -> float:
    """The speed of forward and backward passes over random subwords, a little less for the heads.

    Args:
        model (Any): The encoder, a Hugging Face model.
        window (int): Subwords in a window.
        words (int): Words in a step.
        precision (str): "bf16" or "fp32".
    """
    device = pick_device("auto")
    model = model.to(device).train()
    size = window
    count = max(1, round(words * SUBWORDS_PER_WORD / size))
    ids = torch.randint(5, model.config.vocab_size, (count, size), device=device)
    seconds = []
    for _ in range(TIMED):
        started = time.perf_counter()
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            loss = model(ids).last_hidden_state.float().pow(2).mean()
        loss.backward()
        float(loss.detach())  # waits for a GPU
        seconds.append(time.perf_counter() - started)
    return count * size / SUBWORDS_PER_WORD / (min(seconds[1:]) * HEADS)
