"""The fused scans of `spikewright.kernels.neuron` as torch operators; see `spikewright.kernels.operators`.

`states` and `after` are current, membrane and adaptation; `constants` are in the order of `CONSTANTS`, each an array
`[batch, *feature]`, or absent, so that the number in `numbers` holds.  What is not wanted has no entries.
"""

import torch
from torch import Tensor

from spikewright.kernels.equations import CONSTANTS
from spikewright.kernels.operators import DEVICES, kernels, register_fake

Optional = list[Tensor | None]

_LIBRARY = torch.library.Library("spikewright", "FRAGMENT")
_LIBRARY.define(
    "neuron(Tensor x, Tensor?[] states, Tensor?[] constants, float[] numbers, int kind, int flags, float most,"
    " int emits)"
    " -> (Tensor spikes, Tensor emitted, Tensor current, Tensor membrane, Tensor adaptation)"
)
_LIBRARY.define(
    "neuron_backward(Tensor x, Tensor?[] states, Tensor?[] constants, float[] numbers, int kind, int flags, float most,"
    " int emits, Tensor? grad_spikes, Tensor? grad_emitted, Tensor?[] grad_after, Tensor? slopes, int surrogate,"
    " float parameter, float factor, bool[] wanted)"
    " -> (Tensor grad_x, Tensor[] grad_states, Tensor[] grad_constants)"
)
CURRENT, ADAPTIVE, COUNTS, SUBTRACT = 1, 2, 4, 8
"""Bits of `kind`."""
STRICT, MOVING, ATTACHED, THROUGH_TIME = 1, 2, 4, 8
"""Bits of `flags`."""
EMITS = ("nothing", "before reset", "after reset", "overdrive")


def _neuron(
    x: Tensor,
    states: Optional,
    constants: Optional,
    numbers: list[float],
    kind: int,
    flags: int,
    most: float,
    emits: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    outputs = spikes, emitted, *after = _outputs(x, states, constants, numbers, kind, flags, most, emits)
    arrays = [spikes, emitted if emits else None, *(_filled(value) for value in after)]
    kernels(x).call("neuron", x, *states, constants, numbers, kind, flags, most, emits, *arrays)
    return outputs


def _neuron_backward(
    x: Tensor,
    states: Optional,
    constants: Optional,
    numbers: list[float],
    kind: int,
    flags: int,
    most: float,
    emits: int,
    grad_spikes: Tensor | None,
    grad_emitted: Tensor | None,
    grad_after: Optional,
    slopes: Tensor | None,
    surrogate: int,
    parameter: float,
    factor: float,
    wanted: list[bool],
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    grads = grad_x, grad_states, grad_constants = _gradients(x, kind, wanted)
    given = (*states, constants, numbers, kind, flags, most, emits, grad_spikes, grad_emitted, *grad_after, slopes)
    sums = [_filled(value) for value in grad_constants]
    slope = surrogate, parameter, factor
    out = grad_x, *(_filled(value) for value in grad_states), any(wanted), sums
    kernels(x).call("neuron_backward", x, *given, *slope, *out)
    return grads


def _outputs(x: Tensor, *options: object) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    kind, emits = options[3], options[6]
    assert isinstance(kind, int)
    emitted, (current, membrane, adaptation) = x.new_empty(x.shape if emits else 0), _states(x, kind)
    return x.new_empty(x.shape), emitted, current, membrane, adaptation


def _gradients(x: Tensor, kind: int, wanted: list[bool]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    sums = [torch.empty_like(x[0]) if want else x.new_empty(0) for want in wanted]
    return x.new_empty(x.shape), _states(x, kind), sums


def _states(x: Tensor, kind: int) -> list[Tensor]:
    there = bool(kind & CURRENT), True, bool(kind & ADAPTIVE)
    return [torch.empty_like(x[0]) if is_there else x.new_empty(0) for is_there in there]


def _filled(value: Tensor) -> Tensor | None:
    return value if value.dim() != 1 or value.numel() else None


for _device in DEVICES:
    _LIBRARY.impl("neuron", _neuron, _device)
    _LIBRARY.impl("neuron_backward", _neuron_backward, _device)
register_fake("neuron", _outputs)
register_fake("neuron_backward", lambda x, *options: _gradients(x, options[3], options[-1]))
assert len(CONSTANTS) == 9  # as in cpp/neuron.cpp
