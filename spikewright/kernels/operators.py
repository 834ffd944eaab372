"""The fused scans as torch operators, so that one call is one node to the dispatcher and to `torch.compile`.

Every tensor is contiguous; the first may also be one contiguous step, repeated without a copy.  `[time, ...]` stands
for `[time, batch, *feature]`; what has no time axis is `[batch, *feature]`.  `leaks` overrides the number `leak` with
one entry per neuron.  A surrogate is named by a number, its parameter and its factor; 0 stands for slopes given.

`lif` returns the potential before the reset if it is told to keep it.  `lif_backward` is given that as `x`; or, if the
kernels of the device can run the scan `again`, the current and the membrane it met.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from spikewright.kernels import gpu, native
from spikewright.kernels.layout import check_device, precision
from spikewright.surrogate import ATan, Erf, Exponential, FastSigmoid, Rectangle, Sigmoid, Surrogate, Triangle

_LIBRARY = torch.library.Library("spikewright", "DEF")
_LIBRARY.define(
    "lif(Tensor current, Tensor? membrane, Tensor? leaks, float leak, float threshold, float reset_amount,"
    " bool subtract, bool keep)"
    " -> (Tensor spikes, Tensor potential, Tensor after)"
)
_LIBRARY.define(
    "lif_backward(Tensor x, bool again, Tensor? membrane, Tensor? grad_spikes, Tensor? grad_after,"
    " Tensor? slopes, Tensor? leaks, float leak, float threshold, float reset_amount, bool subtract, bool detach_reset,"
    " bool through_time, int surrogate, float parameter, float factor)"
    " -> (Tensor grad_current, Tensor grad_membrane)"
)
_LIBRARY.define(
    "trace(Tensor x, Tensor? before, Tensor? leaks, float leak, bool every) -> (Tensor traces, Tensor after)"
)
_KNOWN: dict[type[Surrogate], tuple[int, str]] = {
    Sigmoid: (1, "alpha"),
    ATan: (2, "alpha"),
    Triangle: (3, "alpha"),
    Rectangle: (4, "width"),
    FastSigmoid: (5, "alpha"),
    Exponential: (6, "width"),
    Erf: (7, "alpha"),
}
"""Number of a surrogate and name of its parameter; `cpp/slopes.h` and `gpu/slopes.py` have the same numbers."""


def kernels(x: Tensor) -> ModuleType:
    """Return the kernels for the device of `x`."""
    return native if x.device.type == "cpu" else gpu


def fused(x: Tensor) -> bool:
    """Whether there are fused scans for `x`."""
    return kernels(x).available(x)


def surrogate_number(surrogate: Surrogate) -> tuple[int, float, float]:
    """Return the number by which the kernels know a surrogate, its parameter and its factor; 0, 0, 1 if they do not."""
    known: Any = surrogate
    number, name = _KNOWN.get(type(known), (0, ""))
    return (number, getattr(known, name), known.factor) if number else (0, 0.0, 1.0)


def _lif(
    current: Tensor,
    membrane: Tensor | None,
    leaks: Tensor | None,
    leak: float,
    threshold: float,
    reset_amount: float,
    subtract: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    spikes, potential, after = _lif_outputs(current, keep)
    kept = potential if keep else None
    kernels(current).call("lif", current, membrane, leaks, leak, threshold, reset_amount, subtract, spikes, kept, after)
    return spikes, potential, after


def _lif_backward(
    x: Tensor,
    again: bool,
    membrane: Tensor | None,
    grad_spikes: Tensor | None,
    grad_after: Tensor | None,
    slopes: Tensor | None,
    leaks: Tensor | None,
    leak: float,
    threshold: float,
    reset_amount: float,
    subtract: bool,
    detach_reset: bool,
    through_time: bool,
    surrogate: int,
    parameter: float,
    factor: float,
) -> tuple[Tensor, Tensor]:
    grads = _gradients(x, grad_spikes)
    states = (membrane, grad_spikes, grad_after, slopes)
    neuron = (leaks, leak, threshold, reset_amount, subtract, detach_reset, through_time, surrogate, parameter, factor)
    kernels(x).call("lif_backward", x, again, *states, *neuron, *grads)
    return grads


def _trace(x: Tensor, before: Tensor | None, leaks: Tensor | None, leak: float, every: bool) -> tuple[Tensor, Tensor]:
    traces, after = _trace_outputs(x, before, leaks, leak, every)
    kernels(x).call("trace", x, before, leaks, leak, traces if every else None, after)
    return traces, after


def _lif_outputs(current: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Allocate what `lif` returns; the potential only where it is kept."""
    wide = precision(current)
    potential = current.new_empty(current.shape if keep else 0, dtype=wide)
    return current.new_empty(current.shape), potential, torch.empty_like(current[0], dtype=wide)


def _trace_outputs(x: Tensor, *options: object) -> tuple[Tensor, Tensor]:
    every = options[-1]
    wide = precision(x)
    traces = x.new_empty(x.shape if every else 0, dtype=wide)
    return traces, torch.empty_like(x[0], dtype=wide)


def _gradients(x: Tensor, grad_spikes: Tensor | None) -> tuple[Tensor, Tensor]:
    arriving = x if grad_spikes is None else grad_spikes
    return x.new_empty(x.shape, dtype=arriving.dtype), torch.empty_like(x[0])


def register_fake(name: str, outputs: Callable[..., tuple[Tensor, ...]]) -> None:
    """Register what an operator returns for tensors without values, which are on one device too.

    Args:
        name: Name of the operator.
        outputs: Allocates what it returns, given its arguments.
    """

    def fake(x: Tensor, *arguments: Any) -> tuple[Tensor, ...]:
        check_device(name, x.device, *arguments)
        return outputs(x, *arguments)

    torch.library.register_fake(f"spikewright::{name}", fake)


DEVICES = ("CPU", "CUDA") if gpu.FOUND else ("CPU",)
"""Devices with kernels."""

for _device in DEVICES:
    _LIBRARY.impl("lif", _lif, _device)
    _LIBRARY.impl("lif_backward", _lif_backward, _device)
    _LIBRARY.impl("trace", _trace, _device)
register_fake("lif", lambda x, *options: _lif_outputs(x, options[-1]))
register_fake("lif_backward", lambda x, *states: _gradients(x, states[2]))
register_fake("trace", _trace_outputs)
