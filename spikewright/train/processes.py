"""Steps that the processes of a run take together: joining, deciding, beginning alike."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import distributed, nn

from spikewright._util.collectives import together
from spikewright._util.real_numbers import as_real
from spikewright.errors import SpikewrightError
from spikewright.train.distributed import Ranks, copy_buffers, join, leave

V = TypeVar("V")


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes that torchrun announces, and leave them at the end unless they were joined before."""
    if distributed.is_available() and distributed.is_initialized():
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
        return
    try:
        yield join()
    finally:
        leave()


def of_first(action: Callable[[], V], ranks: Ranks) -> V:
    """Return on every process what an action returns on rank 0, which alone performs it.

    Raises:
        SpikewrightError: That of the action, on every process.
    """
    if ranks.world == 1:
        return action()
    said: list[Any] = [None, None]
    if ranks.first:
        try:
            said[0] = action()
        except SpikewrightError as error:
            said[1] = error
    with together("hear what process 0 decides"):
        distributed.broadcast_object_list(said)
    if said[1] is not None:
        raise said[1]
    return said[0]


def share_weights(net: nn.Module, rule: nn.Module, ranks: Ranks) -> None:
    """Give every process the parameters and buffers of rank 0."""
    if ranks.world > 1:
        with together("take the weights of process 0"):
            for parameter in (*net.parameters(), *rule.parameters()):
                distributed.broadcast(as_real(parameter.detach()), 0)
        for module in (net, rule):
            copy_buffers(module, ranks)
