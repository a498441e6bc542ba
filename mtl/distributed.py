"""Training in several processes under `torchrun`: rank, world size and collectives. In one process all of these do nothing.

Pure torch. Every collective must be called by all ranks.
"""

import os
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterable, Iterator, List, Sequence

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


def init() -> None:
    """Join the processes that `torchrun` started, one GPU each where there are any. Without `torchrun`, do nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def shutdown() -> None:
    """Leave the process group."""
    if world_size() > 1:
        distributed.destroy_process_group()


def world_size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Rank of this process. Rank 0 writes files and logs."""
    return distributed.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this process writes files and logs."""
    return rank() == 0


def shard(items: Sequence) -> List:
    """Every `world_size`-th item, starting at `rank`."""
    return list(items[rank() :: world_size()])


def sum_over_ranks(value: float) -> float:
    """The sum of every rank's value."""
    return float(_all_reduced(torch.tensor(value, dtype=torch.float64))) if world_size() > 1 else value


def from_rank_zero(value: float) -> float:
    """Rank 0's value, for what differs between processes, such as a clock."""
    return sum_over_ranks(value if rank() == 0 else 0.0)


def union_of_names(names: Iterable[str], known: Sequence[str]) -> List[str]:
    """The names that any rank gives.

    Args:
        names (Iterable[str]): This rank's names, a subset of `known`.
        known (Sequence[str]): All possible names, in the same order on every rank.
    """
    given = list(names)
    if world_size() == 1:
        return given
    flags = _all_reduced(torch.tensor([float(name in given) for name in known]))
    return [name for name, flag in zip(known, flags.tolist()) if flag]


def all_reduce(tensor: Tensor) -> None:
    """Sum the tensor over all ranks, in place."""
    if world_size() > 1:
        distributed.all_reduce(tensor)


def all_reduce_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Sum the gradients over all ranks, in place. A gradient that is None on every rank stays None."""
    if world_size() > 1:
        gradients = {i: parameter.grad for i, parameter in enumerate(parameters) if parameter.grad is not None}
        for i, gradient in all_reduce_parts(gradients, parameters).items():
            parameters[i].grad = gradient


def all_reduce_parts(parts: Dict[int, Tensor], like: Sequence[Tensor]) -> Dict[int, Tensor]:
    """Sum a sparse set of tensors over all ranks in one collective.

    Args:
        parts (Dict[int, Tensor]): This rank's tensors by index. Ranks may hold different indices.
        like (Sequence[Tensor]): A tensor of the right shape for every index.

    Returns:
        Dict[int, Tensor]: The sum for every index that at least one rank holds.
    """
    if world_size() == 1 or not like:
        return parts
    held = _all_reduced(torch.tensor([float(i in parts) for i in range(len(like))])).tolist()
    indices = [i for i, flag in enumerate(held) if flag]
    if not indices:
        return {}
    flat = torch.cat([(parts[i] if i in parts else torch.zeros_like(like[i])).flatten() for i in indices])
    distributed.all_reduce(flat)
    sums = flat.split([like[i].numel() for i in indices])
    return {i: total.view_as(like[i]) for i, total in zip(indices, sums)}


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Overwrite every rank's tensors with rank 0's."""
    if world_size() > 1:
        for tensor in tensors:
            distributed.broadcast(tensor.detach(), src=0)


def all_gather(tensor: Tensor) -> List[Tensor]:
    """Every rank's tensor, in rank order. All must have the same shape."""
    if world_size() == 1:
        return [tensor]
    gathered = [torch.empty_like(tensor) for _ in range(world_size())]
    distributed.all_gather(gathered, tensor)
    return gathered


def barrier() -> None:
    """Wait until every rank has reached this point."""
    if world_size() > 1:
        distributed.barrier()


@contextmanager
def main_process_first() -> Iterator[None]:
    """Rank 0 runs the block alone; the others follow, and find the files it has written."""
    if not is_main():
        barrier()
    yield
    if is_main():
        barrier()


def data_parallel(model: nn.Module) -> Callable[..., Any]:
    """The model as it is called in training: its gradients are averaged over all ranks."""
    if world_size() == 1:
        return model
    device = next(model.parameters()).device
    # An architecture may have parameters that its masked-LM form does not use.
    return DistributedDataParallel(model, [device] if device.type == "cuda" else None, find_unused_parameters=True)


def _all_reduced(tensor: Tensor) -> Tensor:
    distributed.all_reduce(tensor)
    return tensor
