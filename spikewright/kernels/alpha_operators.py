"""The fused scans of `spikewright.kernels.alpha` as torch operators for the CPU; see `spikewright.kernels.operators`.

`alpha` returns the potential before the reset if it is told to keep it.  `alpha_backward` is given that as `x`; or, to
run the scan `again`, the input, with the current and the membrane that it started from.
"""

import torch
from torch import Tensor

from spikewright.kernels import native
from spikewright.kernels.operators import register_fake

_LIBRARY = torch.library.Library("spikewright", "FRAGMENT")
_LIBRARY.define(
    "alpha(Tensor x, Tensor? current, Tensor? membrane, float rho, float gain, float threshold, bool subtract,"
    " bool keep)"
    " -> (Tensor spikes, Tensor potential, Tensor after_current, Tensor after_membrane)"
)
_LIBRARY.define(
    "alpha_backward(Tensor x, bool again, Tensor? current, Tensor? membrane, Tensor? grad_spikes,"
    " Tensor? grad_after_current, Tensor? grad_after_membrane, Tensor? slopes, float rho, float gain, float threshold,"
    " bool subtract, bool detach_reset, bool through_time, int surrogate, float parameter, float factor)"
    " -> (Tensor grad_x, Tensor grad_current, Tensor grad_membrane)"
)


def _alpha(
    x: Tensor,
    current: Tensor | None,
    membrane: Tensor | None,
    rho: float,
    gain: float,
    threshold: float,
    subtract: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    spikes, potential, *after = outputs = _outputs(x, keep)
    kept = potential if keep else None
    native.call("alpha", x, current, membrane, rho, gain, threshold, subtract, spikes, kept, *after)
    return outputs


def _alpha_backward(
    x: Tensor,
    again: bool,
    current: Tensor | None,
    membrane: Tensor | None,
    grad_spikes: Tensor | None,
    grad_after_current: Tensor | None,
    grad_after_membrane: Tensor | None,
    slopes: Tensor | None,
    rho: float,
    gain: float,
    threshold: float,
    subtract: bool,
    detach_reset: bool,
    through_time: bool,
    surrogate: int,
    parameter: float,
    factor: float,
) -> tuple[Tensor, Tensor, Tensor]:
    grads = _gradients(x)
    arriving = (grad_spikes, grad_after_current, grad_after_membrane, slopes)
    neuron = (rho, gain, threshold, subtract, detach_reset, through_time, surrogate, parameter, factor)
    native.call("alpha_backward", x, again, current, membrane, *arriving, *neuron, *grads)
    return grads


def _outputs(x: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Allocate what `alpha` returns; the potential only where it is kept."""
    spikes, potential = x.new_empty(x.shape), x.new_empty(x.shape if keep else 0)
    return spikes, potential, torch.empty_like(x[0]), torch.empty_like(x[0])


def _gradients(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), torch.empty_like(x[0]), torch.empty_like(x[0])


_LIBRARY.impl("alpha", _alpha, "CPU")
_LIBRARY.impl("alpha_backward", _alpha_backward, "CPU")
register_fake("alpha", lambda x, *options: _outputs(x, options[-1]))
register_fake("alpha_backward", lambda x, *options: _gradients(x))
