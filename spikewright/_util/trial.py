"""Trying things on modules without leaving a mark."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.utils import parametrize

from spikewright._util.snapshot import Snapshot, random_state


@contextmanager
def restored(*modules: nn.Module) -> Iterator[Snapshot]:
    """Put what modules hold beside parameters back afterwards, and all random states; yields what is put back."""
    snapshot = Snapshot(*modules, parameters=False)
    with _put_back(snapshot):
        yield snapshot


@contextmanager
def untouched(*modules: nn.Module) -> Iterator[None]:
    """Start from no gradients, and put everything that modules hold back afterwards, and all random states.

    That is the values of parameters and buffers (in place, trained or frozen), gradients, what asks for them, modes,
    and attributes with the lists, dictionaries and generators in them.
    """
    snapshot = Snapshot(*modules)
    with _put_back(snapshot):
        for tensor in snapshot.tensors:
            tensor.without_grad()
        yield


@contextmanager
def _put_back(snapshot: Snapshot) -> Iterator[None]:
    put_random_state_back = random_state()
    with snapshot.version_counters():
        try:
            yield
        finally:
            with torch.no_grad():
                snapshot.put_back()
            put_random_state_back()


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a module in evaluation mode, and every part of it back in its own mode afterwards."""
    modes = [(m, m.training) for m in net.modules()]
    try:
        net.eval()
        yield
    finally:
        for m, training in modes:
            m.training = training


@contextmanager
def own_weights() -> Iterator[None]:
    """Have parametrized weights computed anew in every piece, whose graph they belong to, whatever is cached around."""
    if not parametrize._cache_enabled:
        yield
        return
    outside = parametrize._cache_enabled, parametrize._cache
    parametrize._cache_enabled, parametrize._cache = 0, {}
    try:
        yield
    finally:
        parametrize._cache_enabled, parametrize._cache = outside
