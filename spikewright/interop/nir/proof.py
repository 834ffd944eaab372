"""Comparison of a network with the file that was written of it, neuron layer by neuron layer."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikewright.errors import NetworkError
from spikewright.interop.nir.graph import POTENTIALS, SPIKING, Graph, Node
from spikewright.interop.nir.interpreter import simulate
from spikewright.network import Network
from spikewright.neurons import Neuron

Array = np.ndarray[Any, Any]


class Recorder:
    """Observer of a run that keeps the output of every neuron layer: spikes, or the potentials of integrators."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Tensor]] = {}

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        """Keep the output of a chunk."""
        self._kept.setdefault(site, []).append(spikes.detach())

    def synapse(self, site: str, operation: Any, x: Tensor, weight: Tensor, current: Tensor) -> None:
        """Keep nothing of layers."""

    def potential(self, site: str, potential: Tensor) -> None:
        """Keep nothing of potentials beside spikes, which are refused later."""

    def spikes(self, steps: int) -> dict[str, Array]:
        """Return outputs `[time, batch, *feature]` by layer."""
        joined = {site: torch.cat(kept) for site, kept in self._kept.items()}
        return {site: rows.unflatten(0, (steps, -1)).cpu().double().numpy() for site, rows in joined.items()}


def recorded(net: Network, x: Tensor) -> tuple[Any, dict[str, Array]]:
    """Return what a run returns, and the output of every neuron layer."""
    recorder = Recorder()
    with torch.no_grad():
        output, _ = net.run(x, observers=[recorder])
    return output, recorder.spikes(len(x))


def tolerance(dtype: torch.dtype) -> float:
    """Return how far a result may be from its value in double precision, in units of the largest part of it."""
    return 1000 * torch.finfo(dtype).eps


def check_run(graph: Graph, x: Tensor, dt: float, output: Array, spikes: dict[str, Array]) -> int:
    """Compare a run with the equations of a graph; each neuron gets the spikes that the network sent before.

    Args:
        graph: What the file says.
        x: Input, `[time, batch, *feature]`.
        dt: Duration of a step.
        output: Of the network.
        spikes: Of the network, by layer; potentials of layers that do not fire.

    Returns:
        Number of spikes that differ by rounding.

    Raises:
        NetworkError: Something differs by more than rounding.
    """
    sites = {name: node.metadata["site"] for name, node in graph.nodes.items() if "site" in node.metadata}
    given = {name: spikes[site] for name, site in sites.items() if graph.nodes[name].kind in SPIKING}
    found = simulate(graph, x.detach().cpu().double().numpy(), dt, given=given)
    rounding = 0
    for name, potential in found.potentials.items():
        check_potential(sites[name], spikes[sites[name]], potential, tolerance(x.dtype))
    for name in given:
        site = sites[name]
        differs = found.spikes[name] != (given[name] != 0)
        far = differs & (np.abs(found.margins[name]) > tolerance(x.dtype))
        if far.any():
            raise _mismatch(site, found.margins[name], far)
        rounding += int(differs.sum())
    largest = float(np.abs(found.output).max(initial=0))
    if not np.allclose(found.output, output, rtol=0, atol=tolerance(x.dtype) * (1 + largest)):
        raise NetworkError(
            f"to_nir wrote a graph whose output differs from that of the network by up to "
            f"{float(np.abs(found.output - output).max()):.3g}, with equal spikes of all neurons. Something behind the "
            "neurons is not what was recorded, so no file is written. Give the network to certify and report it."
        )
    return rounding


def _mismatch(site: str, margins: Array, far: Array) -> NetworkError:
    place = tuple(int(index) for index in np.argwhere(far)[0])
    return NetworkError(
        f"to_nir wrote the neurons of '{site}' as a node that does not fire as they do: {int(far.sum())} of {far.size} "
        f"spikes differ, first at step {place[0]}, sample {place[1]}, neuron {list(place[2:])}, with a potential "
        f"{100 * float(margins[place]):.3g} % above the threshold of the file. Something in the forward, such as a "
        "branch that depends on values or the state of a module, is not in the recorded graph, so no file "
        "is written. Leave it out of the exported module."
    )


def check_neuron(neuron: Neuron, traced: Node, node: Node, dt: float) -> None:
    """Compare a neuron with its node on currents that show every constant: ties, strong, weak and sparse ones.

    Args:
        neuron: The neuron.
        traced: What was recorded of it, with its leak, and with what the weights in front were multiplied by.
        node: Its node in the file.
        dt: Duration of a step.

    Raises:
        NetworkError: A spike differs.
    """
    constants = [key for key in (*CONSTANTS, "factor", "threshold") if key in traced.values]
    shape = traced.values["varying"]
    first = tuple(slice(0, size) for size in shape)
    own = {key: traced.values[key][first] for key in constants}
    gain, left = own["gain"] * own.get("current_gain", 1.0), (1 - own["leak"]) * (1 - own.get("current_leak", 0.0))
    current = probes(shape, left) * own.get("threshold", 1.0) / np.where(gain == 0, 1, gain)
    with torch.no_grad():
        sent = neuron.scan(torch.from_numpy(current), {}, False)[0].numpy()
    values = {key: node.array(key)[first].astype(float) for key in node.values}
    nodes = {"in": Node("Input", {}), "n": Node(node.kind, values), "out": Node("Output", {})}
    given = {"n": sent} if node.kind in SPIKING else {}
    found = simulate(Graph(nodes, [("in", "n"), ("n", "out")]), current * own["factor"], dt, given=given)
    dtype = node.array("r").dtype
    if node.kind in POTENTIALS:
        check_potential(traced.site, sent, found.potentials["n"], 1000 * float(np.finfo(dtype).eps))
        return
    far = (found.spikes["n"] != (sent != 0)) & (np.abs(found.margins["n"]) > 64 * np.finfo(dtype).eps)
    if far.any():
        raise _mismatch(traced.site, found.margins["n"], far)
    _check_threshold(traced, node.array("v_threshold"))


CONSTANTS = ("leak", "gain", "current_leak", "current_gain")


def check_potential(site: str, own: Array, found: Array, allowed: float) -> None:
    """Raise `NetworkError` unless potentials are equal but for rounding.

    Args:
        site: Name of the layer.
        own: Potentials of the network.
        found: Those of the file.
        allowed: Largest difference, in units of the largest potential.
    """
    largest = max(float(np.abs(own).max(initial=0)), float(np.abs(found).max(initial=0)))
    far = ~(np.abs(own - found) <= allowed * largest)
    if far.any():
        place = tuple(int(index) for index in np.argwhere(far)[0])
        raise NetworkError(
            f"to_nir wrote the potentials of '{site}' as a node with others: {int(far.sum())} of {far.size} differ, "
            f"first at step {place[0]}, sample {place[1]}, neuron {list(place[2:])}, with {float(found[place]):.6g} "
            f"for {float(own[place]):.6g}. Something in the forward, such as a branch that depends on values or the "
            "state of a module, is not in the recorded graph, so no file is written. Leave it out of the exported "
            "module."
        )


def _check_threshold(traced: Node, threshold: Array) -> None:
    own = traced.values["threshold"].astype(threshold.dtype)
    at = threshold if traced.values["strict"] else np.nextafter(threshold, np.asarray(np.inf, threshold.dtype))
    if not bool(np.all(at == own)):
        raise NetworkError(
            f"to_nir wrote '{traced.site}' with the threshold {float(threshold.flat[0])!r} for "
            f"{float(own.flat[0])!r}, so that the neurons would fire differently at the threshold itself. No file "
            "is written. Report this as a fault of to_nir."
        )


def probes(shape: tuple[int, ...], left: Array, steps: int = 64, rows: int = 16) -> Array:
    """Return currents `[time, probe, *shape]` for a threshold and a gain of 1, several rows of each kind.

    Quarters, which meet the threshold exactly; strong ones of both signs; weak ones, which hold the potential near the
    threshold; and sparse ones.

    Args:
        shape: Of the neurons.
        left: Share of a constant current that is lost in a step at equilibrium; broadcasts to the shape.
        steps: Number of steps.
        rows: Number of rows of each kind.
    """
    draws = np.random.default_rng(0).random((4, steps, rows, *shape))
    quarters = np.floor(draws[0] * 11) / 4 - 0.5
    weak = (0.6 + draws[2]) * np.maximum(left, 0.01)
    return np.concatenate([quarters, 8 * draws[1] - 4, weak, np.where(draws[3] < 0.1, 1.3 * draws[1], 0.0)], 1)
