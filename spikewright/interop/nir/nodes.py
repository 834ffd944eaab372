"""What each type of NIR node becomes: a table from type to builder, and the types that are refused with the reason."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from spikewright.errors import NetworkError
from spikewright.interop.nir.constants import Array, Constants, Reading, constants_of
from spikewright.interop.nir.graph import Node
from spikewright.interop.nir.module import Elementwise, SumPool2d
from spikewright.layers import Scale, SynapticDelay
from spikewright.neurons import IF, LIF

Builder = Callable[[str, Node, Reading], list[nn.Module]]
"""Returns the modules of a node, in the order in which its input passes them."""


def build(name: str, node: Node, reading: Reading) -> list[nn.Module]:
    """Return the modules of a node.

    Args:
        name: Of the node.
        node: The node.
        reading: How its equations become steps.

    Raises:
        NetworkError: The type is unknown, or there is no equal of this node here.
    """
    builder = BUILDERS.get(node.kind)
    if builder is None:
        why = REFUSED.get(node.kind, "which is no type of NIR 1.0 that is known here")
        raise NetworkError(
            f"from_nir read '{name}' of type {node.kind}, {why}. Leaving it out would change what the network "
            f"computes. Types that are read: {', '.join(sorted(BUILDERS))}."
        )
    _check_finite(name, node)
    return builder(name, node, reading)


def _check_finite(name: str, node: Node) -> None:
    for key in node.values:
        value = node.array(key) if key != "padding" else np.zeros(())
        if value.dtype.kind == "f" and not bool(np.all(np.isfinite(value))):
            wrong = float(value[~np.isfinite(value)].flat[0])
            leak = " A neuron without leak is an IF node, with r in place of r / tau." if key == "tau" else ""
            raise NetworkError(
                f"from_nir read '{name}' ({node.kind}) with {key} {wrong:g}, which no step can be computed with. "
                f"Correct the file where it was written.{leak}"
            )


def _tensor(values: Array, reading: Reading) -> torch.Tensor:
    return torch.as_tensor(np.ascontiguousarray(values)).to(reading.dtype, copy=True)


def _linear(name: str, node: Node, reading: Reading) -> list[nn.Module]:
    weight = node.array("weight")
    if weight.ndim != 2:
        raise NetworkError(
            f"from_nir read '{name}' ({node.kind}) with a weight of shape {list(weight.shape)}, but a linear layer "
            "here is one matrix, [out, in]. Split it into a node for each matrix."
        )
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=node.kind == "Affine", dtype=reading.dtype)
    with torch.no_grad():
        layer.weight.copy_(_tensor(weight, reading))
        if node.kind == "Affine":
            layer.bias.copy_(_tensor(node.array("bias"), reading))
    return [layer]


def _convolution(kind: type[nn.Conv1d] | type[nn.Conv2d], axes: int) -> Builder:
    def builder(name: str, node: Node, reading: Reading) -> list[nn.Module]:
        weight, bias, groups = node.array("weight"), node.array("bias"), int(node.values["groups"])
        padding = node.values["padding"]
        layer: Any = kind(
            weight.shape[1] * groups,
            weight.shape[0],
            tuple(weight.shape[2:]),
            stride=numbers(node.values["stride"], axes),
            padding=str(padding) if isinstance(padding, str) else numbers(padding, axes),
            dilation=numbers(node.values["dilation"], axes),
            groups=groups,
            dtype=reading.dtype,
        )
        with torch.no_grad():
            layer.weight.copy_(_tensor(weight, reading))
            layer.bias.copy_(_tensor(bias, reading))
        return [layer]

    return builder


def numbers(value: Any, axes: int) -> Any:
    """Return a size for each axis, of one number or of as many as there are axes."""
    sizes = [int(size) for size in np.ravel(np.asarray(value))]
    return tuple(sizes * axes if len(sizes) == 1 else sizes)


def _pool(name: str, node: Node, reading: Reading) -> list[nn.Module]:
    kind = nn.AvgPool2d if node.kind == "AvgPool2d" else SumPool2d
    return [kind(*(numbers(node.values[key], 2) for key in ("kernel_size", "stride", "padding")))]


def _flatten(name: str, node: Node, reading: Reading) -> list[nn.Module]:
    """Axes of NIR leave out the batch."""
    start, end = int(node.values.get("start_dim", 1)), int(node.values.get("end_dim", -1))
    shape = node.values.get("input_type")
    axes = None if shape is None else len(np.ravel(np.asarray(shape)))
    if axes is not None and start >= axes:  # nothing to join
        return [nn.Identity()]
    return [nn.Flatten(start + 1 if start >= 0 else start, end + 1 if end >= 0 else end)]


def _scale(name: str, node: Node, reading: Reading) -> list[nn.Module]:
    return [_times(node.array("scale"), reading)]


def _times(factors: Array, reading: Reading) -> nn.Module:
    if factors.size and bool(np.all(factors == factors.flat[0])):
        return Scale(float(factors.flat[0]))
    return Elementwise(_tensor(factors, reading))


def _spiking(name: str, node: Node, reading: Reading) -> list[nn.Module]:
    found = constants_of(name, node, reading)
    uniform = bool(np.all(found.gain == found.gain.flat[0]))
    scale = [] if uniform else [_times(found.gain, reading)]
    return [*scale, _neuron(found, float(found.gain.flat[0]) if uniform else 1.0, reading)]


def _neuron(found: Constants, gain: float, reading: Reading) -> nn.Module:
    soft = reading.reset == "subtract"
    rest = found.threshold - found.reset_amount if soft else 0.0
    kept: dict[str, Any] = {"threshold": found.threshold, "reset": reading.reset, "rest": rest, "gain": gain}
    if bool(np.all(found.leak == 1)):
        return IF(**kept)
    tau = 1 / (1 - found.leak)
    if bool(np.all(found.leak == found.leak.flat[0])):
        return LIF(float(tau.flat[0]), **kept)
    return LIF(torch.as_tensor(np.array(tau)), **kept)


def _delay(name: str, node: Node, reading: Reading) -> list[nn.Module]:
    return delay_of(delay_steps(name, node, reading))


def delay_steps(name: str, node: Node, reading: Reading) -> Array:
    """Return the delays of a Delay node in steps.

    Raises:
        NetworkError: One is negative, or no whole number of steps.
    """
    steps = node.array("delay").astype(np.float64) / reading.dt
    whole = np.round(steps)
    if not bool(np.all((np.abs(steps - whole) <= 1e-5 * np.maximum(1, whole)) & (whole >= 0))):
        raise NetworkError(
            f"from_nir(dt={reading.dt:g}) read '{name}' (Delay) with delays of {float(steps.min()):g} to "
            f"{float(steps.max()):g} steps, but what is delayed here arrives a whole number of steps later, at least "
            "0. Choose dt so that all delays are multiples of it."
        )
    return whole


def delay_of(steps: Array) -> list[nn.Module]:
    """Return the modules that delay by whole numbers of steps, one for each feature."""
    longest = int(steps.max()) if steps.size else 0
    if longest == 0:
        return []
    flat = steps.reshape(len(steps), -1)
    by_channel = bool(np.all(flat == flat[:, :1]))
    kept = flat[:, 0] if by_channel else steps
    start = torch.as_tensor(np.where(kept == 0, 0.25, kept), dtype=torch.get_default_dtype())
    return [SynapticDelay(len(kept) if by_channel else list(kept.shape), longest + 1, start)]


def _nothing(name: str, node: Node, reading: Reading) -> list[nn.Module]:
    return []


BUILDERS: dict[str, Builder] = {
    "Affine": _linear,
    "AvgPool2d": _pool,
    "Conv1d": _convolution(nn.Conv1d, 1),
    "Conv2d": _convolution(nn.Conv2d, 2),
    "Delay": _delay,
    "Flatten": _flatten,
    "IF": _spiking,
    "Identity": _nothing,
    "Input": _nothing,
    "LIF": _spiking,
    "Linear": _linear,
    "Output": _nothing,
    "Scale": _scale,
    "SumPool2d": _pool,
    "Threshold": _spiking,
}
SPIKING = frozenset({"IF", "LIF", "Threshold"})
"""Types that become a neuron."""
REFUSED = {
    "CubaLI": "a non-spiking integrator of a current with its own decay; no module here emits its potential",
    "CubaLIF": "a neuron whose current has a decay of its own; no neuron here has one that is free of the membrane's",
    "I": "a non-spiking integrator; no module here emits its potential",
    "LI": "a non-spiking leaky integrator; no module here emits its potential",
}
"""Types of NIR without an equal here, with the reason."""
