"""Calls of layers and neurons in a probe, with graph nodes and dependences."""

import sys
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.dataflow import Bend, Dataflow, Dependences
from spikewright.network.complaints import AGAIN, loops
from spikewright.network.probing.inputs import FIRST
from spikewright.network.probing.trace import Trace
from spikewright.network.wiring import module_name
from spikewright.synapses.operations import Operation

INPUT, LAYER, NEURON = "input", "layer:", "neuron:"
"""Names of sources: the network's input, and prefixes of the names of layers and neurons."""
THROUGH = "through:"
"""Prefix of the name of a source behind a layer."""


class Seen:
    """One call of a layer or neuron in a probe.

    Graph nodes are kept at once, because a write in place gives a tensor another node.

    Args:
        site: Name of the call.
        step: Number of the step.
        entering: Input, with its graph.
        leaving: Output, with its graph.
        depends: Dependences of the input.
    """

    def __init__(self, site: str, step: int, entering: Tensor, leaving: Tensor, depends: Dependences) -> None:
        self.site, self.step, self.depends = site, step, depends
        self.entering, self.leaving = entering, leaving
        self.before = entering.grad_fn
        self.after = _nodes(leaving)
        self.entries = sum(x.numel() * (1 + x.is_complex()) for x in (entering, leaving))
        rows = len(leaving) // FIRST.count
        self.shape = (*((rows,) if rows > 1 else ()), *leaving.shape[1:])
        self._versions = entering._version, leaving._version

    def sends(self, potential: Tensor) -> None:
        """Note another output."""
        self.after |= _nodes(potential)

    @property
    def overwritten(self) -> bool:
        """True if the input has been written to since."""
        return self.entering._version > self._versions[0]

    @property
    def rewritten(self) -> bool:
        """True if the output has been written to since."""
        return self.leaving._version > self._versions[1]


def _nodes(leaving: Tensor) -> set[Any]:
    whole = leaving if leaving._base is None else leaving._base  # a write to a view changes the node of its base
    return {leaving.grad_fn, whole.grad_fn} - {None}


@dataclass(frozen=True)
class _Current:
    """A current of a neuron module: its value, its sources, and the places in the code from which it was called.

    A loop comes back to the same place; two places in the code are two places in the network.
    """

    step: int
    value: Tensor
    sources: frozenset[str]
    places: frozenset[tuple[int, int]]

    def is_repeated(self, earlier: "_Current") -> bool:
        return self.step == earlier.step and self.sources == earlier.sources and self.places == earlier.places

    def is_again(self, earlier: "_Current") -> bool:
        same = self.value.shape == earlier.value.shape and torch.equal(self.value, earlier.value)
        return same and self.is_repeated(earlier)


class Recorder:
    """Observer that keeps the calls of layers and neurons, and declares them as sources of the dataflow.

    Args:
        modules: Modules of the network, by name.
        flow: Dataflow of the operations.
        trace: Trace of the pass.
    """

    def __init__(self, modules: dict[str, nn.Module], flow: Dataflow, trace: Trace) -> None:
        self.neurons: list[Seen] = []
        self.synapses: list[Seen] = []
        self.repeated: set[str] = set()
        self.weights: dict[str, tuple[int, ...]] = {}
        self._modules, self._flow, self._trace = modules, flow, trace
        self._currents: dict[str, list[_Current]] = {}

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        """Note a call of a neuron."""
        self._flow.aside(self._neuron, site, current, spikes)

    def _neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        seen = Seen(site, self._trace.steps, current, spikes, self._flow.depends(current))
        self.neurons.append(seen)
        self._flow.source(spikes, NEURON + site)
        sources = frozenset(module_name(name) for name in seen.depends)
        self._check_loop(module_name(site), _Current(seen.step, current.detach().clone(), sources, _places()))

    def potential(self, site: str, potential: Tensor) -> None:
        """Note the potential that neurons return beside their spikes: it comes out of the neuron, as these do."""
        self._flow.aside(self._potential, site, potential)

    def _potential(self, site: str, potential: Tensor) -> None:
        self.neurons[-1].sends(potential)
        self._flow.source(potential, NEURON + site)

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        """Note a call of a layer."""
        self._flow.aside(self._synapse, site, x, weight, current)

    def _synapse(self, site: str, x: Tensor, weight: Tensor, current: Tensor) -> None:
        given, depends = self._flow.depends(x), self._flow.depends(current)
        self.synapses.append(Seen(site, self._trace.steps, x, current, given))
        self.weights[site] = tuple(weight.shape)
        also = {n if n.startswith((LAYER, THROUGH)) else THROUGH + n: bends for n, bends in depends.items()}
        self._flow.source(current, LAYER + site, also=also)
        if self._flow.depends(weight) or depends.keys() - given.keys():  # the latter through its bias
            self._flow.bend(current, Bend("a weight that is drawn, or computed from data", site))

    @property
    def calls(self) -> list[Seen]:
        """All calls of neurons and layers."""
        return self.neurons + self.synapses

    @property
    def numbers(self) -> int:
        """Number of entries that enter and leave neurons and layers, per sample and step."""
        return sum(seen.entries for seen in self.calls) // (FIRST.count * max(1, self._trace.steps))

    def _check_loop(self, name: str, current: _Current) -> None:
        earlier = self._currents.setdefault(name, [])
        behind_itself = any(source.endswith(NEURON + name) for source in current.sources)  # depth, not time
        if not behind_itself and any(map(current.is_repeated, earlier)):
            self.repeated.add(name)
        if bool(current.value.any()) and any(map(current.is_again, earlier)):
            raise loops(name, self._modules[name], f"was called {len(earlier) + 1} times with the same current", AGAIN)
        earlier.append(current)


def _places() -> frozenset[tuple[int, int]]:
    """Return the places in the code that are being executed."""
    frame: FrameType | None = sys._getframe()
    places = set()
    while frame is not None:
        places.add((id(frame.f_code), frame.f_lasti))
        frame = frame.f_back
    return frozenset(places)
