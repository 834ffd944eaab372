"""From a NIR graph to a module: the program of a step, with feedback where a loop closes."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from spikewright.errors import NetworkError
from spikewright.interop.nir.connected import check_connected
from spikewright.interop.nir.constants import Reading
from spikewright.interop.nir.graph import NEURONS, Graph
from spikewright.interop.nir.module import FeedbackFromStart, NIRModule, Step, zeros_through
from spikewright.interop.nir.nodes import build, delay_of, delay_steps
from spikewright.interop.nir.order import order_of_neurons
from spikewright.interop.nir.ways import Way
from spikewright.layers import Feedback

_EMPTY = NIRModule({}, ())
"""It has the attributes that no layer can be called by."""
Key = tuple[str, frozenset[str]]
"""A node, and the neurons whose spikes of the last step it is computed from."""


class Builder:
    """Builds the module of a graph.

    Args:
        graph: The graph.
        reading: How its equations become steps.
    """

    def __init__(self, graph: Graph, reading: Reading) -> None:
        self.graph, self.reading = graph, reading
        check_connected(graph)
        self.order = order_of_neurons(graph, self._spikes, self._waits)
        self._labels = {name: re.sub(r"[.#]", "_", name) or "_" for name in graph.nodes}
        if len(set(self._labels.values())) < len(self._labels):
            self._labels = {name: f"{label}_{k}" for k, (name, label) in enumerate(self._labels.items())}
        self._neurons = {name: build(name, graph.nodes[name], reading) for name in self.order}
        self._modules: dict[str, nn.Module] = {}
        self._names: dict[str, list[str]] = {}
        self._program: list[Step] = []
        self._made: dict[Key, int] = {}

    def module(self) -> NIRModule:
        """Return the module.

        Raises:
            NetworkError: There is no equal of a node here, or shapes do not fit.
        """
        for place, name in enumerate(self.order):
            self._value(name, frozenset(self.order[place:]))
        self._value(self.graph.only("Output"), frozenset())
        made = NIRModule(self._modules, self._program)
        shape = self._shape_of_input()
        wrong = zeros_through(made, shape, self._declared())
        if wrong:
            raise NetworkError(
                f"from_nir built the graph for input of shape {shape}, but {wrong[0]}. Sizes in the file contradict "
                "each other, so one of its nodes is not what was meant. Correct the file where it was written; some "
                "exporters count the batch of their sample as an axis of the input."
            )
        return made

    def _shape_of_input(self) -> list[int]:
        name = self.graph.only("Input")
        sizes = np.ravel(self.graph.nodes[name].array("shape"))
        if not bool(np.all((sizes >= 1) & (sizes == np.floor(sizes)) & (sizes < 2**31))):
            raise NetworkError(
                f"from_nir read '{name}' (Input) with the shape {sizes.tolist()}, but sizes are whole numbers of at "
                "least 1, and no network can be built for others. Correct the file where it was written."
            )
        return [int(size) for size in sizes]

    def _value(self, name: str, late: frozenset[str]) -> int:
        """Return the number of the value of a node, which is computed if it is not yet there.

        Args:
            name: The node.
            late: Neurons that are computed later in the step.
        """
        node = self.graph.nodes[name]
        if node.kind == "Input":
            return 0
        if self._spikes(name) and (name, frozenset[str]()) in self._made:
            return self._made[name, frozenset()]
        sources = self._leaves(name)
        key = name, frozenset() if self._spikes(name) else sources & late
        if key not in self._made:
            into = self.graph.into(name)
            stale = [source for source in into if self._is_late(source, late)]
            inputs = tuple(self._value(source, late) for source in into if source not in stale)
            for source in stale:
                inputs = (self._fed_back(source, name, late, inputs),)
            self._made[key] = self._through(name, inputs)
        return self._made[key]

    def _through(self, name: str, inputs: tuple[int, ...]) -> int:
        """Add the modules of a node to the program."""
        if name not in self._names:
            built = self._neurons.get(name) or build(name, self.graph.nodes[name], self.reading)
            for module in built:
                self._names.setdefault(name, []).append(self._registered(self._labels[name], module))
        names = self._names.get(name, [])
        for module in names:
            inputs = (self._add(module, inputs),)
        if len(inputs) == 1:
            return inputs[0]
        return self._add(None, inputs)

    def _registered(self, label: str, module: nn.Module) -> str:
        """Add a module under a name of its own; those of the nodes are kept for them."""
        taken = self._modules.keys() | (set(self._labels.values()) - {label})
        while label in taken or hasattr(_EMPTY, label):
            label += "_"
        self._modules[label] = module
        return label

    def _add(self, module: str | None, inputs: tuple[int, ...]) -> int:
        self._program.append(Step(module, inputs))
        return len(self._program)

    def _fed_back(self, last: str, target: str, late: frozenset[str], inputs: tuple[int, ...]) -> int:
        """Add the connection that brings spikes of the last step."""
        neurons = sorted(self._leaves_of(last) & late)
        if len(neurons) != 1:
            raise NetworkError(
                f"from_nir read a graph in which '{last}' joins spikes that '{', '.join(neurons)}' send back to "
                f"'{target}', but a feedback connection here has one source. Give each of them a node of its own."
            )
        way = Way(neurons[0], target, self._chain(neurons[0], last))
        label = self._labels[neurons[0]]
        modules = self._transform(way)
        transform = nn.Sequential(*modules) if len(modules) != 1 else modules[0]
        source = self._neurons[neurons[0]][-1]
        kept = Feedback(transform, source)
        if way.acts_at_start:
            kept = FeedbackFromStart(transform, source, _shape(self.graph.nodes[neurons[0]]))
        return self._add(self._registered(f"{self._labels[target]}_from_{label}", kept), inputs)

    def _chain(self, neuron: str, last: str) -> list[str]:
        """Return the nodes between a neuron and the place where its spikes arrive, which are a chain."""
        chain: list[str] = []
        while last != neuron:
            chain.insert(0, last)
            into = self.graph.into(last)
            if len(into) != 1:
                raise NetworkError(
                    f"from_nir read a loop in which '{last}' adds up several ways back from '{neuron}', but a "
                    "feedback connection here is one chain of layers. Give each way an edge of its own into the "
                    "node in front of the neuron."
                )
            last = into[0]
        return chain

    def _transform(self, way: Way) -> list[nn.Module]:
        """Return the modules of a way back, whose first delay is a step shorter: the connection takes that step."""
        modules: list[nn.Module] = []
        for name in way.chain:
            node = self.graph.nodes[name]
            if node.kind == "Delay":
                steps = delay_steps(name, node, self.reading)
                modules.extend(delay_of(steps if way.waits else steps - 1))
                way.waits = True
                continue
            built = build(name, node, self.reading)
            modules.extend(built)
            way.note(built)
        return modules

    def _is_late(self, name: str, late: frozenset[str]) -> bool:
        """True if all that a node is computed from is sent by neurons that come later in the step."""
        leaves = self._leaves_of(name)
        return bool(leaves) and leaves <= late

    def _leaves_of(self, name: str) -> frozenset[str]:
        return frozenset({name}) if self._spikes(name) else self._leaves(name)

    def _leaves(self, name: str) -> frozenset[str]:
        """Return the neurons, and the input, that a node is computed from within a step."""
        found: set[str] = set()
        for source in self.graph.into(name):
            ends = self._spikes(source) or self.graph.nodes[source].kind == "Input"
            found |= {source} if ends else self._leaves(source)
        return frozenset(found)

    def _spikes(self, name: str) -> bool:
        return self.graph.nodes[name].kind in NEURONS

    def _waits(self, name: str) -> bool:
        node = self.graph.nodes[name]
        return node.kind == "Delay" and bool((delay_steps(name, node, self.reading) >= 1).all())

    def _declared(self) -> dict[str, Sequence[int]]:
        named = ((names[0], self.graph.nodes[name]) for name, names in self._names.items())
        return {label: shape for label, node in named if (shape := _shape(node)) is not None}


def _shape(node: Any) -> Any:
    """Return the shape that a node declares by that of its parameters."""
    for key in ("r", "threshold", "scale", "delay"):
        if key in node.values:
            return list(node.array(key).shape)
    return None
