"""Read a network from NIR."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from spikewright._util.arguments import shown
from spikewright._util.ranges import check_choice, check_numbers
from spikewright.errors import ConfigError, NetworkError
from spikewright.interop.nir.building import Builder
from spikewright.interop.nir.constants import Comparison, Decay, Reading, Reset
from spikewright.interop.nir.graph import Graph
from spikewright.interop.nir.module import NIRModule
from spikewright.interop.nir.reading import read_graph


def from_nir(
    source: str | Path | Mapping[str, Any] | Any,
    *,
    dt: float | None = None,
    decay: Decay = "euler",
    reset: Reset | None = None,
    comparison: Comparison | None = None,
    dtype: torch.dtype | None = None,
) -> NIRModule:
    r"""Read a graph in the Neuromorphic Intermediate Representation (NIR) as a module for `spikewright.Network`.

    NIR describes neurons by equations in continuous time and says nothing of steps.  An LIF node,
    :math:`\tau \dot v = (v_{leak} - v) + r I` with a spike above :math:`v_{th}` and a reset to
    :math:`v_{reset} = v_{leak}`, becomes, with potentials measured from the reset,

    .. math::
        u[t] = \lambda v[t-1] + k I[t], \qquad
        \lambda = 1 - \tfrac{dt}{\tau},\ k = r \tfrac{dt}{\tau} \ \text{("euler")}, \qquad
        \lambda = e^{-dt/\tau},\ k = r (1 - \lambda) \ \text{("exact")},

    and starts at :math:`v_{leak}`; IF is :math:`\lambda = 1, k = r\,dt` and starts at :math:`v_{reset}`.  The current
    of CubaLIF and CubaLI, :math:`\tau_{syn} \dot c = -c + w_{in} I`, takes the same step first, from 0, and the
    potential its own with the new current.  LI, CubaLI and I send their potential, with :math:`v_{leak} = 0`.  Edges
    that meet are a sum; one that is there twice is refused, as by the package nir.  Along a loop without a Delay node,
    spikes take one step: back to the neuron of the loop that is fewest neurons away from the input.  Nested graphs are
    laid open.

    Read are Affine, Linear, Scale, Conv1d, Conv2d, AvgPool2d, SumPool2d, Flatten, IF, LIF, CubaLIF, I, LI, CubaLI,
    Threshold and Delay.
    Everything else is refused by its name: nothing is left out.

    Args:
        source: Path of a NIR file, an instance of `nir.NIRGraph`, or the dictionary that its `to_dict` returns.
        dt: Duration of a step in the unit of the time constants, usually seconds.  Finite number > 0.  Files of
            SpikingJelly: the dt that they were exported with; of snnTorch: 1e-4; of sinabs: 1, with decay="exact"; of
            Norse 1.1: the square of the dt of its LIF cells, and 1 for IF.  Default: None, what the metadata of the
            file say, as those of `to_nir` do.
        decay: "euler" for a step of Euler's method, as SpikingJelly, snnTorch and Norse compute; "exact" for the
            solution of each equation over a step of constant input, as sinabs does.  Default: "euler".
        reset: What a spike does to the potential: "zero" sets it to `v_reset`, which is the equation of NIR, "subtract"
            takes `v_threshold - v_reset` off it.  Default: None, what the metadata say, else "zero".
        comparison: When a neuron fires: ">" above the threshold, which is the equation of NIR, ">=" at it too.  Nodes
            that `to_nir` wrote for neurons that fire at their threshold do so with ">" as well.  Default: None, what
            the metadata say, else ">".
        dtype: Type of the parameters and of the runs.
            Default: None, the default type of torch.

    Returns:
        A module of one step with a layer for every node, of its name, and the metadata of the file as `metadata`.

    Raises:
        NetworkError: `source` is no graph of NIR, there is no equal of a node here, an edge is there twice, the graph
            contradicts itself, or tau is below dt with "euler".
        ConfigError: An argument is unknown or out of range, there is no such file, or nothing says dt.
        ImportError: `source` is a path, and h5py is not installed.

    >>> import numpy as np, torch, spikewright as sw
    >>> one = np.ones(1)
    >>> nodes = {
    ...     "input": {"type": "Input", "shape": np.array([1])},
    ...     "lif": {"type": "LIF", "tau": 2e-3 * one, "r": one, "v_leak": 0 * one, "v_threshold": 0.7 * one},
    ...     "output": {"type": "Output", "shape": np.array([1])},
    ... }
    >>> graph = {"type": "NIRGraph", "nodes": nodes, "edges": [("input", "lif"), ("lif", "output")]}
    >>> net = sw.Network(sw.interop.from_nir(graph, dt=1e-3))
    >>> net.run(torch.ones(4, 1, 1))[0].flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
    """
    graph = read_graph(source)
    check_choice("from_nir", "decay", decay, get_args(Decay))
    said = _said(graph)
    reading = Reading(
        _dt(dt, said),
        decay,
        _choice(graph, "reset", reset, "zero", get_args(Reset)),
        _choice(graph, "comparison", comparison, ">", get_args(Comparison)),
        dtype or torch.get_default_dtype(),
        said,
    )
    module = Builder(graph, reading).module()
    module.metadata = dict(graph.metadata)
    return module


def _said(graph: Graph) -> float | None:
    """Return the duration of a step that the metadata say."""
    found = graph.metadata.get("dt")
    if found is None:
        return None
    said = np.asarray(found)
    if said.size != 1 or said.dtype.kind not in "fiu" or not 0 < said.item() < np.inf:
        raise NetworkError(
            f"from_nir read a graph whose metadata have dt={shown(found)}, which is no duration of a step: one finite "
            "number above 0. What else of them is wrong is not known. Take dt out of the metadata, and give from_nir "
            "the dt that is meant."
        )
    return float(said.item())


def _dt(asked: float | None, said: float | None) -> float:
    """Return the duration of a step: what was asked for, else what the metadata say."""
    if asked is None and said is None:
        raise ConfigError(
            "from_nir(dt=None) read a graph without metadata about the duration of a step, and NIR has no field for "
            "it, so time constants in seconds cannot become steps. Give the dt of the simulation, such as dt=1e-4 for "
            "a file of snnTorch."
        )
    dt: Any = said if asked is None else asked
    check_numbers("from_nir", "(0, inf)", dt=dt)
    return float(dt)


def _choice(graph: Graph, name: str, asked: Any, usual: str, known: Any) -> Any:
    value = graph.metadata.get(name, usual) if asked is None else asked
    check_choice("from_nir", name, value, known)
    return value
