"""Trials on modules, after which everything is put back."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.utils import parametrize

from spikewright._util.snapshot import Snapshot, random_state


@contextmanager
def restored(*modules: nn.Module) -> Iterator[Snapshot]:
    """Put the contents of modules, parameters aside, and all random states back afterwards; yield the snapshot."""
    snapshot = Snapshot(*modules, parameters=False)
    with _put_back(snapshot):
        yield snapshot


@contextmanager
def untouched(*modules: nn.Module) -> Iterator[None]:
    """Clear gradients, and put all contents of modules and all random states back afterwards.

    Contents are values of parameters and buffers (in place, trained or frozen), gradients, `requires_grad`, modes, and
    attributes with the lists, dictionaries and generators in them.
    """
    snapshot = Snapshot(*modules)
    with _put_back(snapshot):
        for tensor in snapshot.tensors:
            tensor.without_grad()
        yield


@contextmanager
def without_gradients(*modules: nn.Module) -> Iterator[None]:
    """Set the gradients of the parameters of modules aside for a while; what arrives meanwhile is dropped."""
    kept = [(parameter, parameter.grad) for module in modules for parameter in module.parameters()]
    for parameter, _ in kept:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in kept:
            parameter.grad = gradient


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
    """Put a module in evaluation mode, and every submodule back in its own mode afterwards."""
    modes = [(m, m.training) for m in net.modules()]
    try:
        net.eval()
        yield
    finally:
        for m, training in modes:
            m.training = training


@contextmanager
def own_weights() -> Iterator[None]:
    """Turn off the cache of parametrized weights, so that they are computed in every graph they belong to."""
    if not parametrize._cache_enabled:
        yield
        return
    outside = parametrize._cache_enabled, parametrize._cache
    parametrize._cache_enabled, parametrize._cache = 0, {}
    try:
        yield
    finally:
        parametrize._cache_enabled, parametrize._cache = outside
