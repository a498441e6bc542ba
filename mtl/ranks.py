"""The processes that train together under `torchrun`: sums over all of them. With one process, what was given. Pure torch."""

import os
from typing import Dict, Iterable, List, Sequence

import torch
from torch import Tensor, distributed, nn


def start() -> None:
    """Join the processes that `torchrun` started, each on its own GPU where there are any; without it, do nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def stop() -> None:
    if count() > 1:
        distributed.destroy_process_group()


def count() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def number() -> int:
    """This process's, from 0; that one writes and speaks."""
    return distributed.get_rank() if count() > 1 else 0


def share_of(items: Sequence) -> List:
    """This process's part of them."""
    return list(items[number() :: count()])


def total(value: float) -> float:
    """The sum over the processes."""
    return float(_summed(torch.tensor(value, dtype=torch.float64))) if count() > 1 else value


def first(value: float) -> float:
    """The first process's value, where each has its own (a clock)."""
    return total(value if number() == 0 else 0.0)


def anywhere(names: Iterable[str], known: Sequence[str]) -> List[str]:
    """Those of the `known` names, which are the same everywhere, that some process gives."""
    given = list(names)
    if count() == 1:
        return given
    flags = _summed(torch.tensor([float(name in given) for name in known]))
    return [name for name, flag in zip(known, flags.tolist()) if flag]


def sum_tensor(tensor: Tensor) -> None:
    """In place."""
    if count() > 1:
        distributed.all_reduce(tensor)


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """In place. A gradient that is None everywhere stays so."""
    if count() > 1:
        own = {i: parameter.grad for i, parameter in enumerate(parameters) if parameter.grad is not None}
        for i, gradient in summed_parts(own, parameters).items():
            parameters[i].grad = gradient


def summed_parts(own: Dict[int, Tensor], like: Sequence[Tensor]) -> Dict[int, Tensor]:
    """For each number that some process has a tensor for, the sum. like: of each number, what the tensor is shaped as."""
    if count() == 1 or not like:
        return own
    had = _summed(torch.tensor([float(i in own) for i in range(len(like))])).tolist()
    kept = [i for i, flag in enumerate(had) if flag]
    if not kept:
        return {}
    flat = torch.cat([(own[i] if i in own else torch.zeros_like(like[i])).flatten() for i in kept])
    distributed.all_reduce(flat)
    parts = flat.split([like[i].numel() for i in kept])
    return {i: part.view_as(like[i]) for i, part in zip(kept, parts)}


def share_first(tensors: Iterable[Tensor]) -> None:
    """Every process takes the first one's numbers, in place."""
    if count() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor.detach(), src=0)


def gathered(tensor: Tensor) -> List[Tensor]:
    """Every process's tensor, in their order; all of one shape."""
    if count() == 1:
        return [tensor]
    found = [torch.empty_like(tensor) for _ in range(count())]
    distributed.all_gather(found, tensor)
    return found


def wait() -> None:
    """For all to come here."""
    if count() > 1:
        distributed.barrier()


def _summed(tensor: Tensor) -> Tensor:
    distributed.all_reduce(tensor)
    return tensor
