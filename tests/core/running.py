"""Runs that are stopped half-way, to look at a network while another thread runs it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from spikewright.network import Network
from spikewright.neurons import LIF
from tests.core.support import lively

WAIT = 10.0
"""Seconds after which a test that hangs fails."""


class Door(nn.Module):
    """Lets the thread that comes first in only when it is opened."""

    def forward(self, x: Tensor) -> Tensor:
        if id(self) in closed:
            closed.discard(id(self))
            events[id(self)][0].set()
            assert events[id(self)][1].wait(WAIT)
        return x


closed: set[int] = set()
"""Doors that are closed, by identity: not held by the network, which would be looked at anew."""
events: dict[int, tuple[threading.Event, threading.Event]] = {}
"""For every door: somebody waits before it; it is open.  Apart from the doors, which are copied and pickled."""


def with_door() -> nn.Sequential:
    layers = [nn.Linear(8, 16), LIF(), Door(), nn.Linear(16, 16), LIF(), nn.Linear(16, 4)]
    return cast(nn.Sequential, lively(nn.Sequential(*layers)))


@contextmanager
def half_way(net: Network, x: Tensor, run: Callable[[], Any] | None = None) -> Iterator[None]:
    """Have another thread in the middle of a run meanwhile; it ends with the block."""
    net.wiring(x)
    door = next(m for m in net.module.modules() if isinstance(m, Door))
    inside, opened = events[id(door)] = threading.Event(), threading.Event()
    closed.add(id(door))
    thread = threading.Thread(target=run or (lambda: net.run(x)))
    thread.start()
    try:
        assert inside.wait(WAIT)
        yield
    finally:
        opened.set()
        thread.join(WAIT)
        assert not thread.is_alive()


def together(*bodies: Callable[[], Any]) -> None:
    """Run each in a thread of its own, and raise what any of them raises."""
    failed: list[BaseException] = []

    def guarded(body: Callable[[], Any]) -> None:
        try:
            body()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(body,), daemon=True) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert not any(thread.is_alive() for thread in threads), "threads wait for each other"
    if failed:
        raise failed[0]


def patched(module: nn.Module) -> list[str]:
    """Return the modules on which something stands in for the forward."""
    return [n for n, m in module.named_modules() if {"forward", "__getstate__"} & m.__dict__.keys()]


def sample(steps: int = 5, batch: int = 6) -> tuple[Tensor, Tensor]:
    return 3 * torch.rand(steps, batch, 8), torch.randint(4, (batch,))
