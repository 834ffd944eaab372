"""Operations over all processes of a group, and the error for a group that has lost one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed

from spikewright._util.real_numbers import as_real
from spikewright.errors import ProcessLost


@contextmanager
def together(what: str) -> Iterator[None]:
    """Turn the error of an operation over all processes into `ProcessLost`.

    Args:
        what: What was to be done, for the message.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, ProcessLost):
            raise
        rank, world = distributed.get_rank(), distributed.get_world_size()
        raise ProcessLost(
            f"Process {rank} of {world} was to {what}, but another process did not take part: "
            f"{str(error).strip().partition(chr(10))[0]} It has ended, or waits somewhere else, and a batch that is "
            "shared cannot go on without it. Its own output says why it ended; start all processes again, from the "
            "last checkpoint if there is one."
        ) from error


def add_up(x: Tensor) -> Tensor:
    """Replace a tensor by its sum over all processes, in place; return it."""
    with together("add up numbers of all processes"):
        distributed.all_reduce(as_real(x))
    return x


def collect(x: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Return the tensors of all processes, which differ in their first axis only.

    Args:
        x: Tensor of this process, `[sizes[rank], *feature]`.
        sizes: Size of the first axis by process.
    """
    # As bytes: not every backend knows every type.
    one = x.detach().contiguous().flatten().view(torch.uint8)
    row = len(one) // len(x)
    padded = one.new_zeros(max(sizes) * row)
    padded[: len(one)] = one
    found = [torch.empty_like(padded) for _ in sizes]
    with together("collect tensors of all processes"):
        distributed.all_gather(found, padded)
    return [part[: size * row].view(x.dtype).view(size, *x.shape[1:]) for part, size in zip(found, sizes)]


class Sum(torch.autograd.Function):
    """The sum of a tensor over all processes, whose loss is one; its gradient is the sum of the gradients of all."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return add_up(x.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None: ...

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return Sum.apply(grads[0])

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return Sum.apply(tangents[0])
