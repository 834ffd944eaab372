"""Several processes that share every batch: one gradient average per update, and rank 0 writes.

Start them with `torchrun --nproc_per_node=N -m spikewright train ...`.  Averaging finished gradients, and not hooking
into backward, works the same for every rule, however many backward passes an update takes.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from spikewright._util.real_numbers import as_real, is_continuous


@dataclass(frozen=True)
class Ranks:
    """Which of several processes this is."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0


def join() -> Ranks:
    """Join the group that torchrun announced in the environment; alone if there is none."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Ranks()
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Ranks(distributed.get_rank(), world)


def leave() -> None:
    """Leave the group, if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def average_gradients(parameters: Iterable[nn.Parameter], ranks: Ranks) -> None:
    """Replace every `.grad` by its mean over processes, in one message."""
    if ranks.world == 1:
        return
    grads = []
    for p in parameters:
        if p.grad is not None:
            p.grad = p.grad.resolve_conj()  # of complex parameters, such that its real numbers can be written to
            grads.append(as_real(p.grad))
    flat = torch.cat([grad.flatten() for grad in grads])
    distributed.all_reduce(flat)
    flat /= ranks.world
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads])):
        grad.copy_(part.view_as(grad))


def average_buffers(rule: nn.Module, ranks: Ranks) -> None:
    """Replace every buffer of a rule, those of whole numbers left out, by its mean over processes."""
    if ranks.world > 1:
        for buffer in rule.buffers():
            if is_continuous(buffer):
                distributed.all_reduce(as_real(buffer))
                buffer /= ranks.world


def agreed(text: str, ranks: Ranks) -> str:
    """Return what the first process says."""
    said = [text]
    if ranks.world > 1:
        distributed.broadcast_object_list(said)
    return said[0]


def total(values: Tensor, ranks: Ranks) -> Tensor:
    """Return the sum over processes of a tensor of counts."""
    if ranks.world > 1:
        distributed.all_reduce(values)
    return values
