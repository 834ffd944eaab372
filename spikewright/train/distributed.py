"""Data-parallel training: processes share every batch and average finished gradients; rank 0 writes.

Start the processes with `torchrun --nproc_per_node=N -m spikewright train ...`. Averaging finished gradients, instead
of hooks in the backward pass, works for every rule, however many backward passes an update takes.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from spikewright._util.real_numbers import as_real, is_continuous


@dataclass(frozen=True)
class Ranks:
    """Position of this process in a group.

    Attributes:
        rank: Number of this process, from 0. Default: 0.
        world: Number of processes, at least 1. Default: 1.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """True for the process that writes, rank 0."""
        return self.rank == 0


def join() -> Ranks:
    """Join the process group that torchrun announces in the environment, and return the `Ranks` of this process.

    Uses NCCL if CUDA is available, else Gloo. Without `WORLD_SIZE`, returns a single process and joins nothing.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks()
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Ranks(distributed.get_rank(), world)


def leave() -> None:
    """Leave the process group, if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def average_gradients(parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
    """Replace every `.grad` by its mean over processes, with one all-reduce. Does nothing for a single process.

    Args:
        parameters: Parameters; those without a gradient are skipped, and must be the same in all processes.
        ranks: `Ranks` of this process.
    """
    if ranks.world == 1:
        return
    grads = []
    for p in parameters:
        if p.grad is not None:
            p.grad = p.grad.resolve_conj()  # makes the real view of a complex gradient writable
            grads.append(as_real(p.grad))
    flat = torch.cat([grad.flatten() for grad in grads])
    distributed.all_reduce(flat)
    flat /= ranks.world
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads])):
        grad.copy_(part.view_as(grad))


def average_buffers(rule: nn.Module, ranks: Ranks) -> None:
    """Replace every floating-point or complex buffer of a rule by its mean over processes.

    Args:
        rule: Module whose buffers are averaged in place.
        ranks: `Ranks` of this process.
    """
    if ranks.world > 1:
        for buffer in rule.buffers():
            if is_continuous(buffer):
                distributed.all_reduce(as_real(buffer))
                buffer /= ranks.world


def agreed(text: str, ranks: Ranks) -> str:
    """Return the text of rank 0."""
    said = [text]
    if ranks.world > 1:
        distributed.broadcast_object_list(said)
    return said[0]


def total(values: Tensor, ranks: Ranks) -> Tensor:
    """Return the sum of a tensor over processes."""
    if ranks.world > 1:
        distributed.all_reduce(values)
    return values
