r"""The constants of spiking nodes of NIR, and those of the neurons that compute the same steps.

.. math::
    \tau \dot v = (v_{leak} - v) + r I \ \text{(LIF)}, \qquad \dot v = r I \ \text{(IF)}, \qquad
    z = \Theta(v - v_{th}), \qquad v \leftarrow v_{reset} \ \text{where}\ z = 1.

In steps of dt, with potentials measured from :math:`v_{reset} = v_{leak}`, this is :math:`u = \lambda v + k I` with
:math:`\lambda = 1 - dt/\tau, k = r\,dt/\tau` ("euler") or :math:`\lambda = e^{-dt/\tau}, k = r (1 - \lambda)`
("exact"); for IF :math:`\lambda = 1, k = r\,dt`.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from spikewright.errors import NetworkError
from spikewright.interop.nir.graph import Node

Decay = Literal["euler", "exact"]
Comparison = Literal[">", ">="]
Reset = Literal["zero", "subtract"]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Reading:
    """How the equations of a graph become steps.

    Attributes:
        dt: Seconds, or whatever the unit of the file is, in a step.
        decay: "euler" or "exact".
        reset: "zero" sets the potential to `v_reset`, "subtract" takes `v_threshold - v_reset` off it.
        comparison: ">" fires above the threshold, ">=" at it too.
        dtype: Type of the numbers of the network; the next number above a threshold depends on it.
        written_for: The dt that the file was written for by `to_nir`, which then says time constants in steps in double
            precision.
    """

    dt: float
    decay: Decay = "euler"
    reset: Reset = "zero"
    comparison: Comparison = ">"
    dtype: torch.dtype = torch.float32
    written_for: float | None = None


@dataclass(frozen=True)
class Constants:
    """Constants of one layer of neurons: a leak and a gain for each, and one threshold and reset amount for all."""

    leak: Array
    gain: Array
    threshold: float
    reset_amount: float


def constants_of(name: str, node: Node, reading: Reading) -> Constants:
    """Return the constants of a neuron that computes the steps of an LIF, IF or Threshold node.

    Raises:
        NetworkError: There is no such neuron here.
    """
    if node.kind == "Threshold":
        threshold = node.array("threshold").astype(np.float64)
        silent, ones = np.zeros_like(threshold), np.ones_like(threshold)
        return Constants(silent, ones, *_thresholds(name, node, threshold, silent, reading))
    r, threshold = node.array("r").astype(np.float64), node.array("v_threshold").astype(np.float64)
    reset = node.array("v_reset").astype(np.float64) if "v_reset" in node.values else np.zeros_like(threshold)
    if node.kind == "IF":
        return Constants(np.ones_like(r), r * reading.dt, *_thresholds(name, node, threshold, reset, reading))
    leak, gain = _decayed(name, node, r, reading)
    v_leak = node.array("v_leak").astype(np.float64)
    if not np.array_equal(v_leak, reset):
        raise NetworkError(
            f"from_nir read '{name}' (LIF) with v_leak {_range(v_leak)} and v_reset {_range(reset)}: a potential "
            "decays towards one value and is reset to another, and neurons here have one such value, from which "
            "they are measured. Give v_leak = v_reset; a difference can be put into the bias of the layer in front."
        )
    return Constants(leak, gain, *_thresholds(name, node, threshold, reset, reading))


def _decayed(name: str, node: Node, r: Array, reading: Reading) -> tuple[Array, Array]:
    tau = node.array("tau").astype(np.float64)
    share = reading.dt / tau
    if not bool(np.all(tau > 0)):
        raise NetworkError(
            f"from_nir read '{name}' (LIF) with tau {_range(tau)}, but a time constant is a positive number of "
            "seconds. A file that was exported from a neuron without leak should have an IF node there."
        )
    if "steps" in node.metadata and reading.dt == reading.written_for:
        exact = 1 / np.asarray(node.metadata["steps"], np.float64)
        share = exact if exact.shape == tau.shape and np.allclose(exact, share, rtol=1e-5, atol=0) else share
    if reading.decay == "exact":
        leak = np.exp(-share)
        return leak, r * (1 - leak)
    if bool(np.any(share > 1 + 1e-6)):
        raise NetworkError(
            f"from_nir(dt={reading.dt:g}) read '{name}' (LIF) with tau {_range(tau)}: tau/dt is {_range(1 / share)} "
            "steps, below 1, so a step of Euler's method would overshoot, and the potential would change its sign. "
            "dt is too long for this file. Norse 1.1 writes tau * dt in place of tau: a file that it made with dt = "
            f"{reading.dt:g} is read with dt = {reading.dt**2:g}. Files of sinabs have tau in steps: dt = 1, "
            "decay='exact'. For a short tau, decay='exact'."
        )
    return np.clip(1 - share, 0, 1), r * share


def _thresholds(name: str, node: Node, threshold: Array, reset: Array, reading: Reading) -> tuple[float, float]:
    above = threshold - reset
    value = float(above.flat[0])
    if not bool(np.all(above == value)):
        raise NetworkError(
            f"from_nir read '{name}' ({node.kind}) with thresholds {_range(above)} above the reset, one for each "
            "neuron, but neurons here have one threshold for all. Divide the weights in front (and r) by the "
            "thresholds, which makes them 1."
        )
    if not value > 0:
        raise NetworkError(
            f"from_nir read '{name}' ({node.kind}) with a threshold of {_range(threshold)} and a reset to "
            f"{_range(reset)}: a neuron whose threshold is not above the reset fires without input. Correct the file."
        )
    if reading.comparison == ">":
        number = torch.tensor(value, dtype=reading.dtype)
        return torch.nextafter(number, torch.tensor(torch.inf, dtype=reading.dtype)).item(), value
    return value, value


def _range(values: Array) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:g}" if low == high else f"from {low:g} to {high:g}"
