r"""The constants of nodes of NIR with a potential, and those of the neurons that compute the same steps.

.. math::
    \tau_{syn} \dot c &= -c + w_{in} I \ \text{(CubaLIF, CubaLI; elsewhere}\ c = I), \\
    \tau \dot v &= (v_{leak} - v) + r c \ \text{(LIF, LI)}, \qquad \dot v = r c \ \text{(IF, I)}, \\
    z &= \Theta(v - v_{th}), \qquad v \leftarrow v_{reset} \ \text{where}\ z = 1.

In steps of dt, with potentials measured from :math:`v_{reset} = v_{leak}`, this is :math:`u = \lambda v + k c` with
:math:`\lambda = 1 - dt/\tau, k = r\,dt/\tau` ("euler") or :math:`\lambda = e^{-dt/\tau}, k = r (1 - \lambda)`
("exact"); for IF and I :math:`\lambda = 1, k = r\,dt`.  The current takes the same step, with :math:`w_{in}` and
:math:`\tau_{syn}` in place of r and :math:`\tau`, before the potential does.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from spikewright.errors import NetworkError
from spikewright.interop.nir.graph import POTENTIALS, Node

Decay = Literal["euler", "exact"]
Comparison = Literal[">", ">="]
Reset = Literal["zero", "subtract"]
Array = np.ndarray[Any, Any]
AT_NEXT = "at the next number above v_threshold"
"""What the metadata `fires` of a node say whose neurons fire at that number of its type, too."""


@dataclass(frozen=True)
class Reading:
    """How the equations of a graph become steps.

    Attributes:
        dt: Seconds, or whatever the unit of the file is, in a step.
        decay: "euler" or "exact".
        reset: "zero" sets the potential to `v_reset`, "subtract" takes `v_threshold - v_reset` off it.
        comparison: ">" fires above the threshold, ">=" at it too.
        dtype: Type of the numbers of the network.
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
    """Constants of one layer of neurons, one for each of them.

    Attributes:
        leak: Share of the potential that is left after a step.
        gain: Factor of the current at the potential.
        current: Share of the current that is left after a step, and factor of the input; None without such a current.
        threshold: Measured from the reset; None for a potential that does not fire.
        strict: True if a neuron fires above the threshold only.
    """

    leak: Array
    gain: Array
    current: tuple[Array, Array] | None = None
    threshold: Array | None = None
    strict: bool = False


def constants_of(name: str, node: Node, reading: Reading) -> Constants:
    """Return the constants of a neuron that computes the steps of a node.

    Raises:
        NetworkError: There is no such neuron here.
    """
    if node.kind == "Threshold":
        silent = np.zeros(node.array("threshold").shape)
        return Constants(silent, silent + 1, None, *_threshold(name, node, "threshold", silent, reading))
    r = node.array("r").astype(np.float64)
    current = None
    if node.kind in ("IF", "I"):
        leak, gain = np.ones_like(r), r * reading.dt
    elif node.kind in ("LIF", "LI"):
        leak, gain = _decayed(name, node, "tau", r, reading)
    else:
        leak, gain = _decayed(name, node, "tau_mem", r, reading)
        weight = np.broadcast_to(node.array("w_in").astype(np.float64) if "w_in" in node.values else 1.0, r.shape)
        current = _decayed(name, node, "tau_syn", weight, reading)
    low = _measured_from(name, node, np.zeros_like(r))
    if node.kind in POTENTIALS:
        return Constants(leak, gain, current)
    return Constants(leak, gain, current, *_threshold(name, node, "v_threshold", low, reading))


def _measured_from(name: str, node: Node, zero: Array) -> Array:
    """Return the potential that the neurons are reset to, which has to be the one that they decay to."""
    reset = node.array("v_reset").astype(np.float64) if "v_reset" in node.values else zero
    leak = node.array("v_leak").astype(np.float64) if "v_leak" in node.values else reset
    if bool(np.all(leak == reset)):
        return reset
    if node.kind in POTENTIALS:
        raise NetworkError(
            f"from_nir read '{name}' ({node.kind}) with v_leak {_range(leak)}: its potential is its output, and "
            "potentials here start at 0 and decay to 0. Give v_leak = 0, and add it to the bias of the layer behind."
        )
    raise NetworkError(
        f"from_nir read '{name}' ({node.kind}) with v_leak {_range(leak)} and v_reset {_range(reset)}: a potential "
        "decays towards one value and is reset to another, and neurons here have one such value, from which they are "
        "measured. Give v_leak = v_reset; a difference can be put into the bias of the layer in front."
    )


def _decayed(name: str, node: Node, key: str, factor: Array, reading: Reading) -> tuple[Array, Array]:
    """Return the share that is left after a step, and the factor of what is added."""
    tau = node.array(key).astype(np.float64)
    share = reading.dt / tau
    if not bool(np.all(tau > 0)):
        raise NetworkError(
            f"from_nir read '{name}' ({node.kind}) with {key} {_range(tau)}, but a time constant is a positive number "
            "of seconds. A file that was exported from a neuron without leak should have an IF node there."
        )
    said = "steps_syn" if key == "tau_syn" else "steps"
    if said in node.metadata and reading.dt == reading.written_for:
        exact = 1 / np.asarray(node.metadata[said], np.float64)
        share = exact if exact.shape == tau.shape and np.allclose(exact, share, rtol=1e-5, atol=0) else share
    if reading.decay == "exact":
        leak = np.exp(-share)
        return leak, factor * (1 - leak)
    if bool(np.any(share > 1 + 1e-6)):
        raise NetworkError(
            f"from_nir(dt={reading.dt:g}) read '{name}' ({node.kind}) with {key} {_range(tau)}: {key}/dt is "
            f"{_range(1 / share)} steps, below 1, so a step of Euler's method would overshoot, and the potential would "
            "change its sign. dt is too long for this file. Norse 1.1 writes tau * dt in place of tau: a file that it "
            f"made with dt = {reading.dt:g} is read with dt = {reading.dt**2:g}. Files of sinabs have tau in steps: "
            "dt = 1, decay='exact'. For a short tau, decay='exact'."
        )
    return np.clip(1 - share, 0, 1), factor * share


def _threshold(name: str, node: Node, key: str, low: Array, reading: Reading) -> tuple[Array, bool]:
    """Return thresholds above the reset, and whether neurons fire above them only."""
    threshold, strict = node.array(key), reading.comparison == ">"
    if strict and node.metadata.get("fires") == AT_NEXT:
        threshold, strict = np.nextafter(threshold, np.asarray(np.inf, threshold.dtype)), False
    above = threshold.astype(np.float64) - low
    if not bool(np.all(above > 0)):
        raise NetworkError(
            f"from_nir read '{name}' ({node.kind}) with a threshold of {_range(threshold)} and a reset to "
            f"{_range(low)}: a neuron whose threshold is not above the reset fires without input. Correct the file."
        )
    return above, strict


def _range(values: Array) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:g}" if low == high else f"from {low:g} to {high:g}"
