"""Every test starts from one and the same state of torch, and none of them may reach the network."""

import socket
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
import torch
from hypothesis import settings

pytest_plugins = ["tests.tiers"]
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None, max_examples=40)
settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "compile: goes through torch.compile")


@pytest.fixture(autouse=True)
def fresh_torch() -> Iterator[None]:
    """One thread and one seed; the default dtype is put back whatever a test does to it."""
    torch.set_num_threads(1)
    torch.default_generator.manual_seed(0)
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)


@pytest.fixture
def float64(fresh_torch: None) -> None:
    """New tensors are in double precision."""
    torch.set_default_dtype(torch.float64)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets within the machine stay possible: worker processes talk through them."""

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError(f"A test tried to reach the network: {args or kwargs}.")

    def local_only(connect: Callable[[socket.socket, Any], Any]) -> Callable[[socket.socket, Any], Any]:
        return lambda self, address: connect(self, address) if self.family == socket.AF_UNIX else refuse(address)

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, local_only(getattr(socket.socket, name)))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
