"""Locate the first non-finite value of a computation."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from spikewright.network import Network
from spikewright.synapses.operations import Operation


class _FirstBad:
    """Observer that records the first layer with a non-finite current or weight."""

    def __init__(self) -> None:
        self.found: str | None = None

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        self._look(f"the current of neuron '{site}'", current)

    def potential(self, site: str, potential: Tensor) -> None: ...

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        self._look(f"the weight of synapse '{site}'", weight)
        self._look(f"the current of synapse '{site}'", current)

    def _look(self, what: str, tensor: Tensor) -> None:
        if self.found is None and not finite(tensor):
            bad = int((~torch.isfinite(tensor)).sum())
            self.found = f"{what} ({bad} of {tensor.numel()} values)"


def finite(tensor: Tensor) -> bool:
    """Return whether every value is finite."""
    return bool(torch.isfinite(tensor).all())


def buffers_not_finite(parts: Mapping[str, object]) -> list[str]:
    """Return the names of buffers, such as running statistics, that are not finite.

    Args:
        parts: Parts of a run by name; those that are no modules have no buffers.
    """
    modules = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    found = {f"{name}.{key}": b for name, part in modules.items() for key, b in part.named_buffers()}
    return [key for key, b in found.items() if _may_overflow(b) and not finite(b)]


def _may_overflow(buffer: Tensor) -> bool:
    """Return whether a buffer holds numbers that may be infinite, in a form that torch can look at."""
    if is_lazy(buffer) or buffer.layout is not torch.strided or buffer.dtype.itemsize == 1:
        return False
    return buffer.is_floating_point() or buffer.is_complex()


@torch.no_grad()
def first_not_finite(net: Network, x: Tensor) -> str | None:
    """Return the name of the first non-finite tensor, in the order of the computation; `None` if all are finite.

    Args:
        net: `Network`.
        x: Input. Shape `[time, batch, *feature]`.
    """
    if not finite(x):
        return "the input"
    observer = _FirstBad()
    net.run(x, observers=(observer,))
    return observer.found or first_bad_parameter(net.module)


def first_bad_parameter(module: nn.Module) -> str | None:
    """Return the name of the first parameter that is not finite, or has such a gradient; `None` if there is none."""
    bad = [name for name, p in module.named_parameters() if not finite(p)]
    if bad:
        return f"the parameter '{bad[0]}'"
    grads = [name for name, p in module.named_parameters() if p.grad is not None and not finite(p.grad)]
    return f"the gradient of '{grads[0]}'" if grads else None
