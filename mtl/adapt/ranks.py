"""The processes of a run: this one alone, or those that `torchrun` started, by way of accelerate."""

import os
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import torch
from torch import nn

from mtl.encoder.limits import pick_device
from mtl.errors import UserError


class Ranks:
    """number: of this process, from 0. count: of all. main: whether this is the one that writes and speaks."""

    def __init__(self, device: str) -> None:
        """RAISES (UserError): several processes, and accelerate is not installed."""
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.accelerator = _accelerator(pick_device(device).type) if self.count > 1 else None
        self.device: torch.device = pick_device(device) if self.accelerator is None else self.accelerator.device
        self.number = 0 if self.accelerator is None else int(self.accelerator.process_index)
        self.main = self.number == 0

    def wrap(self, model: nn.Module) -> Callable[..., Any]:
        """The model as it is called in training: its gradients are the mean over all processes."""
        return model if self.accelerator is None else self.accelerator.prepare_model(model)

    def agree(self, value: float) -> float:
        """The main process's value, where each has its own (a clock)."""
        if self.accelerator is None:
            return value
        from accelerate.utils import broadcast

        return float(broadcast(torch.tensor(value, dtype=torch.float64, device=self.device)))

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes through alone, then the others, who find what it has written."""
        if self.accelerator is None:
            yield
        else:
            with self.accelerator.main_process_first():
                yield

    def wait(self) -> None:
        """For all to come here."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()


def _accelerator(device: str) -> Any:
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
    except ImportError:
        raise UserError('several processes need accelerate: pip install "spacy-mtl[distributed]"') from None
    # An architecture may have parameters that its masked-LM form does not use.
    return Accelerator(cpu=device == "cpu", kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)])
