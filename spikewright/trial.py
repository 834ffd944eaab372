"""Trying a rule on a network without leaving a mark."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from spikewright.network import Network
from spikewright.rules import Rule


@contextmanager
def untouched(net: Network, rule: Rule) -> Iterator[None]:
    """Start from no gradients and put gradients, buffers, rule state and random state back afterwards."""
    grads = [(p, p.grad) for p in net.parameters()]
    buffers = [(b, b.clone()) for b in (*net.buffers(), *rule.buffers())]
    devices = {p.device for p, _ in grads if p.is_cuda}
    with torch.random.fork_rng(devices):
        try:
            for p, _ in grads:
                p.grad = None
            yield
        finally:
            for p, grad in grads:
                p.grad = grad
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
