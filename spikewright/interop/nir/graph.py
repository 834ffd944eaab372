"""A NIR graph as plain data: nodes with arrays, and edges."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikewright.errors import NetworkError

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
                f"from_nir read a graph with {len(names)} {kind} nodes{listed(names)}, but a network here has one "
                "input and one output tensor. Split the graph, or join what it takes and returns, such as with a "
                "Linear node that selects."
            )
        return names[0]


def listed(names: Iterable[str]) -> str:
    """Return names in brackets, behind a blank; nothing if there are none."""
    names = sorted(names)
    return f" ({', '.join(names)})" if names else ""
