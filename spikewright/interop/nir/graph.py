"""A NIR graph as plain data: nodes with arrays, and edges; nested graphs are laid open."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikewright.errors import NetworkError
from spikewright.interop.nir.library import optional

Edge = tuple[str, str]
SPIKING = ("CubaLIF", "IF", "LIF", "Threshold")
"""Types of nodes whose output is spikes."""
POTENTIALS = ("CubaLI", "I", "LI")
"""Types of nodes whose output is a potential."""
NEURONS = (*SPIKING, *POTENTIALS)


@dataclass
class Node:
    """One node.

    Attributes:
        kind: Type of the node in NIR, such as "LIF".
        values: Its parameters, by name: arrays, whole numbers, texts.
        metadata: What the file says beside the parameters.
        site: Name of the neuron layer that an exported node stands for; empty for others.
    """

    kind: str
    values: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    site: str = ""

    def array(self, name: str) -> np.ndarray[Any, Any]:
        """Return a parameter as an array; one of torch is copied from its device."""
        value = self.values[name]
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)


@dataclass
class Graph:
    """Nodes by name, edges from name to name, and the metadata of the file.

    Two edges into one node are a sum; no edge is there twice.
    """

    nodes: dict[str, Node]
    edges: list[Edge]
    metadata: dict[str, Any] = field(default_factory=dict)

    def into(self, name: str) -> list[str]:
        """Return the nodes with an edge into this one."""
        return [source for source, target in self.edges if target == name]

    def out_of(self, name: str) -> list[str]:
        """Return the nodes with an edge from this one."""
        return [target for source, target in self.edges if source == name]

    def only(self, kind: str) -> str:
        """Return the name of the only node of a kind that a graph has one of: "Input" or "Output"."""
        names = [name for name, node in self.nodes.items() if node.kind == kind]
        if len(names) != 1:
            raise NetworkError(
                f"from_nir read a graph with {len(names)} {kind} nodes{_listed(names)}, but a network here has one "
                "input and one output tensor. Split the graph, or join what it takes and returns, such as with a "
                "Linear node that selects."
            )
        return names[0]


def read_graph(source: Any) -> Graph:
    """Return a NIR file, or a `nir.NIRGraph` in memory, as a graph without nested graphs.

    Args:
        source: Path of an HDF5 file that `nir.write` made, an instance of `nir.NIRGraph`, or what its `to_dict`
            returns.

    Raises:
        NetworkError: An edge names a node that is not there, or a nested graph has several inputs or outputs.
    """
    if isinstance(source, str | Path):
        content = _read_file(Path(source))
    elif isinstance(source, Mapping):
        content = dict(source)
    elif callable(getattr(source, "to_dict", None)):
        content = source.to_dict()
    else:
        raise NetworkError(
            f"from_nir was given {type(source).__name__}, which is neither the path of a NIR file nor a nir.NIRGraph. "
            "Give a path such as 'net.nir', or the graph that nir.read returns."
        )
    if content.get("type") != "NIRGraph":
        raise NetworkError(
            f"from_nir was given a node of type {content.get('type')}, but a network is a graph with an input and an "
            "output. Give nir.NIRGraph.from_list(node)."
        )
    return _laid_open(content, "")


def _laid_open(content: Mapping[str, Any], where: str) -> Graph:
    graph = Graph({}, [], dict(content.get("metadata") or {}))
    ends: dict[str, Edge] = {}  # where edges to and from a nested graph go
    for name, found in content["nodes"].items():
        full = where + name
        if found["type"] == "NIRGraph":
            inner = _laid_open(found, f"{full}.")
            ends[full] = inner.only("Input"), inner.only("Output")
            for end in ends[full]:
                inner.nodes[end].kind = "Identity"
            graph.nodes.update(inner.nodes)
            graph.edges.extend(inner.edges)
        else:
            values = {key: value for key, value in found.items() if key not in ("type", "metadata")}
            graph.nodes[full] = Node(str(found["type"]), values, dict(found.get("metadata") or {}))
    known = graph.nodes.keys() | ends.keys()
    for edge in _edges(content["edges"]):
        source, target = (where + name for name in edge)
        for name in (source, target):
            if name not in known:
                raise NetworkError(
                    f"from_nir read an edge {edge[0]} -> {edge[1]}, but there is no node '{name}'{_listed(known)}, "
                    "so what it connects is not known. Correct the edges of the file."
                )
        joined = ends[source][1] if source in ends else source, ends[target][0] if target in ends else target
        if joined in graph.edges:
            raise NetworkError(
                f"from_nir read the edge {source} -> {target} twice, but the edges of NIR are a set: the package nir "
                "refuses such a file, and readers that do not check count the edge once, where a sum has it twice. "
                "Leave one of them out; for twice the value, put a Scale node with 2 between them."
            )
        graph.edges.append(joined)
    return graph


def _edges(edges: Iterable[Any]) -> list[Edge]:
    return [(_text(source), _text(target)) for source, target in edges]


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _read_file(path: Path) -> dict[str, Any]:
    """Return the content of a file; `nir.read` refuses valid grouped convolutions and kernels that are not square."""
    h5py = optional("h5py", "from_nir")

    def content(group: Any) -> dict[str, Any]:
        return {
            _text(key): content(item) if isinstance(item, h5py.Group) else _text(item[()])
            for key, item in group.items()
        }

    with h5py.File(path, "r") as file:
        if "node" not in file:
            raise NetworkError(
                f"from_nir read {path}, an HDF5 file without the group 'node', which holds the graph in files of NIR. "
                "Give a file that nir.write made."
            )
        return content(file["node"])


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    return f" ({', '.join(names)})" if names else ""
