"""Random numbers for the samples of a batch, which several processes may share.

With a share that has a source of its own they are drawn for the whole batch, and each process takes its rows: a sample
then gets the same numbers whatever the number of processes.  Otherwise the global generator of torch is used.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from spikewright._util.collectives import add_up
from spikewright._util.share import Share, current_share


def common_generator(device: torch.device) -> torch.Generator | None:
    """Return a generator that all processes of a share have in the same state; `None`, the global one, without."""
    share = current_share()
    if share is None or (share.draws is None and share.world == 1):
        return None
    seed = _seed(share.draws) if share.draws is not None else int(add_up(torch.randint(2**32, ())))
    return torch.Generator(device).manual_seed(seed)


def drawn_by_step(
    seed: Tensor | None, like: Tensor, draw: Callable[[Tensor, torch.Generator], Tensor]
) -> tuple[Tensor, Tensor]:
    """Return random numbers for a chunk, of its shape, and the seed of the step after it.

    Numbers of a step depend on the seed and the step alone, not on how a sequence is cut into chunks.

    Args:
        seed: Seed of the first step.  Tensor without axes; `None` draws one.
        like: The chunk, `[time, batch, *feature]`.
        draw: Function of an uninitialised step `[batch, *feature]`, which it may write to, and a generator; returns the
            numbers of the step.
    """
    share = _with_draws()
    if seed is None:
        seed = torch.randint(2**62, (), generator=None if share is None else share.draws)
    steps: list[Tensor] = []
    for t, step in enumerate(like):
        generator = torch.Generator(like.device).manual_seed(int(seed) + t)
        if share is None:
            steps.append(draw(torch.empty_like(step), generator))
        else:
            whole = step.new_empty(share.rows(len(step)), *step.shape[1:])
            steps.append(share.own(draw(whole, generator)))
    return torch.stack(steps), seed + len(like)


def drawn_globally(like: Tensor, draw: Callable[[Tensor], Tensor]) -> Tensor:
    """Return what a function draws from the global generator of torch.

    Args:
        like: Rows of this process, `[batch, *feature]`.
        draw: Function of ones `[batch, *feature]` that returns a tensor of that shape.
    """
    share = _with_draws()
    if share is None or share.draws is None:
        return draw(torch.ones_like(like))
    with _seeded(_seed(share.draws), like.device):
        return share.own(draw(like.new_ones(share.rows(len(like)), *like.shape[1:]))).clone()


def _with_draws() -> Share | None:
    share = current_share()
    return None if share is None or share.draws is None else share


def _seed(draws: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=draws))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generator of a device, and put it back afterwards."""
    on_device = device.type == "cuda"
    with torch.random.fork_rng([device] if on_device else []):
        torch.default_generator.manual_seed(seed)
        if on_device:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
