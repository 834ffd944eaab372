"""Trying things on modules without leaving a mark."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def restored(*modules: nn.Module) -> Iterator[None]:
    """Put the buffers of modules, and the random state of the devices they are on, back afterwards."""
    buffers = [(b, b.clone()) for m in modules for b in m.buffers()]
    with torch.random.fork_rng({p.device for m in modules for p in m.parameters() if p.is_cuda}):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


@contextmanager
def untouched(net: nn.Module) -> Iterator[None]:
    """Start from no gradients and put gradients, buffers and random state back afterwards."""
    grads = [(p, p.grad) for p in net.parameters()]
    with restored(net):
        try:
            for p, _ in grads:
                p.grad = None
            yield
        finally:
            for p, grad in grads:
                p.grad = grad


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
