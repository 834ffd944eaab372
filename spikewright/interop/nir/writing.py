"""A traced graph in the spelling of NIR, with time constants in seconds, and its file."""

from pathlib import Path
from typing import Any

import numpy as np

from spikewright import __version__
from spikewright.interop.nir.constants import AT_NEXT
from spikewright.interop.nir.graph import NEURONS, SPIKING, Graph, Node
from spikewright.interop.nir.library import writer


def spelled(graph: Graph, dt: float, dtype: Any) -> Graph:
    """Return a graph with the parameters of NIR, of one type of numbers.

    The threshold is the next number below that of a neuron that fires at it, because one of NIR fires above it.

    Args:
        graph: What was traced, with constants in steps.
        dt: Seconds in a step.
        dtype: Type of the numbers in the file.
    """
    nodes = {name: _spelled(node, dt, np.dtype(dtype)) for name, node in graph.nodes.items()}
    metadata = {"dt": float(dt), "reset": "zero", "comparison": ">", "written_by": f"spikewright {__version__}"}
    return Graph(nodes, list(graph.edges), metadata)


def _spelled(node: Node, dt: float, dtype: Any) -> Node:
    values = dict(node.values)
    if node.kind in NEURONS:
        values = _neuron(node, dt, dtype)
    if node.kind == "Delay":
        values = {"delay": values["steps"] * dt}
    kept = {key: value.astype(dtype) if isinstance(value, np.ndarray) else value for key, value in values.items()}
    said = _metadata(node) if node.kind in NEURONS else {}
    return Node(node.kind, kept, {**said, **({"site": node.site} if node.site else {})}, node.site)


def _neuron(node: Node, dt: float, dtype: Any) -> dict[str, Any]:
    """Return the parameters of a neuron; r in units of its usual value, which is the factor that is not in the weights.

    Usual is 1 with a leak, and 1/dt without, where the equation has no dt of its own.  With a current, r = tau_mem/dt
    and w_in = tau_syn/dt, which are the only ones that most readers take.
    """
    values, r, leak = dict[str, Any](), node.values["r"], node.values["leak"]
    if node.kind in SPIKING:
        firing = node.values["threshold"].astype(dtype)
        firing = firing if node.values["strict"] else np.nextafter(firing, np.asarray(-np.inf, dtype))
        values = {"v_threshold": firing, "v_reset": np.zeros_like(leak)}
    if node.kind in ("IF", "I"):
        return {**values, "r": r / dt}
    values["v_leak"] = np.zeros_like(leak)
    if node.kind in ("LIF", "LI"):
        return {**values, "r": r, "tau": dt / (1 - leak)}
    steps, steps_syn = 1 / (1 - leak), 1 / (1 - node.values["current_leak"])
    times = {"tau_mem": dt * steps, "tau_syn": dt * steps_syn}
    return {**values, **times, "r": steps, "w_in": r * steps_syn}


def _metadata(node: Node) -> dict[str, Any]:
    """Return the time constants in steps, in double precision, and whether neurons fire at their threshold."""
    leak = node.values["leak"]
    said: dict[str, Any] = {"steps": np.where(leak == 1, np.inf, 1 / np.where(leak == 1, 1, 1 - leak))}
    if "current_leak" in node.values:
        said["steps_syn"] = 1 / (1 - node.values["current_leak"])
    if node.kind in SPIKING and not node.values["strict"]:
        said["fires"] = AT_NEXT
    return said


def nir_graph(graph: Graph) -> Any:
    """Return a graph as a `nir.NIRGraph`; without its check of shapes, which refuses some valid convolutions."""
    nir = writer()
    nodes = {name: _nir_node(nir, node) for name, node in graph.nodes.items()}
    return nir.NIRGraph(nodes, list(graph.edges), metadata=graph.metadata, type_check=False)


def _nir_node(nir: Any, node: Node) -> Any:
    kind, values = getattr(nir, node.kind), dict(node.values)
    if node.kind in ("Input", "Output"):
        key = "input_type" if node.kind == "Input" else "output_type"
        return kind(**{key: np.array(values["shape"])}, metadata=node.metadata)
    if node.kind == "Flatten":
        values["input_type"] = {"input": np.array(values["input_type"])}
    if node.kind.endswith("Pool2d"):
        values = {key: np.array(value) for key, value in values.items()}
    if node.kind == "Conv1d":
        values = {key: _alone(value) for key, value in values.items()}
    return kind(**values, metadata=node.metadata)


def _alone(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def write(graph: Graph, path: str | Path) -> None:
    """Write a graph to a file."""
    writer().write(path, nir_graph(graph))
