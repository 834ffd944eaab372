"""Old mistakes in how rules learn and how gradients are checked, each put back by one change to today's code."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
from torch import Tensor, nn

from spikewright._util.trial import restored
from spikewright.layers.restriction import SpectralRestriction
from spikewright.spatial import _hooks
from spikewright.synapses.operations import Convolution, Linear, Operation

Patch = pytest.MonkeyPatch
CERTIFY = import_module("spikewright.reports.gradient_check")
"""The module: the package exports a function of that name."""


# --- how rules learn


def backward_one_by_one(patch: Patch) -> None:
    """Errors at the output go back first, then those at neurons, though both may share a graph."""
    backward = _hooks._backward

    def in_turn(roots: list[tuple[Tensor, Tensor]], retain_graph: bool = False) -> None:
        backward(roots[:1], retain_graph)
        backward(roots[1:], retain_graph)

    patch.setattr(_hooks, "_backward", in_turn)


def power_iteration_at_every_use(patch: Patch) -> None:
    """The vectors of a restriction move on whenever its weight is used."""
    patch.setattr(SpectralRestriction, "_has_seen", lambda self, weight: False)


def without_conjugates(patch: Patch) -> None:
    """Gradients of complex numbers are taken as if these were real."""

    def straight(kind: type[Operation], name: str, *conjugated: int) -> None:
        method = getattr(kind, name)

        def taken(self: Operation, *args: Any) -> Any:
            return method(self, *(x.conj() if i in conjugated else x for i, x in enumerate(args)))

        patch.setattr(kind, name, taken)

    for kind in (Linear, Convolution):
        straight(kind, "backward", 1, 2)
        straight(kind, "at_patches", 1)
    straight(Operation, "bias_gradient", 1)


# --- how gradients are checked


def weights_not_put_back(patch: Patch) -> None:
    """A check puts gradients and buffers back, but not the values of parameters."""

    @contextmanager
    def buffers_untouched(module: nn.Module) -> Iterator[None]:
        grads = [(p, p.grad) for p in module.parameters()]
        with restored(module):
            module.zero_grad()
            try:
                yield
            finally:
                for p, grad in grads:
                    p.grad = grad

    patch.setattr(CERTIFY, "untouched", buffers_untouched)
