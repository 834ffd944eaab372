"""Builders of NIR nodes: a table from the type of a node to its builder."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from spikewright.errors import NetworkError, SpikewrightError
from spikewright.interop.nir.constants import Array, Reading, constants_of
from spikewright.interop.nir.graph import Node
from spikewright.interop.nir.module import Elementwise, SumPool2d
from spikewright.layers import Scale, SynapticDelay
from spikewright.neurons import CUBALIF, IF, LI, LIF

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
        raise NetworkError(
            f"from_nir read '{name}' of type {node.kind}, which is no type of NIR 1.0 that is known here. Leaving it "
            f"out would change what the network computes. Types that are read: {', '.join(sorted(BUILDERS))}."
        )
    _check_finite(name, node)
    try:
        return builder(name, node, reading)
    except SpikewrightError:
        raise
    except (ArithmeticError, IndexError, RuntimeError, TypeError, ValueError) as error:
        sizes = ", ".join(f"{key} {list(np.shape(node.array(key)))}" for key in node.values)
        raise NetworkError(
            f"from_nir read '{name}' ({node.kind}) with parameters of shapes that contradict each other ({sizes}): "
            f"{str(error).partition(chr(10))[0]}. No layer can be made of them. Correct the file where it was written."
        ) from error


def _check_finite(name: str, node: Node) -> None:
    for key in node.values:
        value = node.array(key) if key != "padding" else np.zeros(())
        if value.dtype.kind == "f" and not bool(np.all(np.isfinite(value))):
            wrong = float(value[~np.isfinite(value)].flat[0])
            leak = (
                " A neuron without leak is an IF node, with r in place of r / tau." if key in ("tau", "tau_mem") else ""
            )
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
    factors = node.array("scale")
    if factors.size and bool(np.all(factors == factors.flat[0])):
        return [Scale(float(factors.flat[0]))]
    return [Elementwise(_tensor(factors, reading))]


def _neuron(name: str, node: Node, reading: Reading) -> list[nn.Module]:
    found = constants_of(name, node, reading)
    lossless = bool(np.all(found.leak == 1))
    kept: dict[str, Any] = {} if lossless else {"tau": _constant(1 / (1 - found.leak))}
    kept["gain"] = _constant(found.gain)
    if found.current is not None:
        leak, gain = found.current
        kept |= {"tau_syn": _constant(1 / (1 - leak)), "gain": _constant(gain), "current_gain": kept["gain"]}
    if found.threshold is None:
        return [LI(kept.pop("tau", None), **kept)]
    kept |= {"threshold": _constant(found.threshold), "strict": found.strict, "reset": reading.reset}
    return [(CUBALIF if found.current is not None else IF if lossless else LIF)(**kept)]


def _constant(values: Array) -> float | torch.Tensor:
    """Return a number if all neurons share it, else a tensor `[*feature]`."""
    same = bool(np.all(values == values.flat[0]))
    return float(values.flat[0]) if same else torch.as_tensor(np.array(values))


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
    "CubaLI": _neuron,
    "CubaLIF": _neuron,
    "Delay": _delay,
    "Flatten": _flatten,
    "I": _neuron,
    "IF": _neuron,
    "Identity": _nothing,
    "Input": _nothing,
    "LI": _neuron,
    "LIF": _neuron,
    "Linear": _linear,
    "Output": _nothing,
    "Scale": _scale,
    "SumPool2d": _pool,
    "Threshold": _neuron,
}
"""Builders by type of node; every other type is refused."""
