"""What a probe sees at every layer and neuron: graph nodes, and what everything depends on."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikewright.dataflow import Dataflow, Dependences
from spikewright.operations import Operation
from spikewright.probing.complaints import loops
from spikewright.probing.trace import Trace
from spikewright.wiring import module_name

INPUT, LAYER, NEURON = "input", "layer:", "neuron:"
"""Names of sources: the network's input, and prefixes of the names of layers and neurons."""
THROUGH = "through:"
"""Prefix of a source that is seen through a layer."""


class Seen:
    """What a probe saw at one call.  Graph nodes are noted at once: what is written in place later gets another one.

    Args:
        site: Name of the call.
        step: Number of the step it belongs to.
        entering: Its input, with its graph.
        leaving: Its output, with its graph.
        depends: What its input depends on.
    """

    def __init__(self, site: str, step: int, entering: Tensor, leaving: Tensor, depends: Dependences) -> None:
        self.site, self.step, self.depends = site, step, depends
        self.entering, self._leaving = entering, leaving
        self.before = entering.grad_fn
        whole = leaving if leaving._base is None else leaving._base  # what is written to a view changes its base's node
        self.after = {leaving.grad_fn, whole.grad_fn} - {None}
        self.entries = entering.numel() + leaving.numel()
        self.shape = tuple(leaving.shape[1:])
        self._versions = entering._version, leaving._version

    @property
    def overwritten(self) -> bool:
        """Whether the input has been written to since."""
        return self.entering._version > self._versions[0]

    @property
    def rewritten(self) -> bool:
        """Whether the output has been written to since."""
        return self._leaving._version > self._versions[1]


@dataclass
class _Earlier:
    """Currents of a neuron module in the pass under way."""

    step: int
    currents: list[Tensor]


class Recorder:
    """An observer that keeps what is needed to read the wiring, and declares sources of the dataflow.

    Args:
        modules: Of the network, by name.
        rows: Rows of a pass: samples of a step.
        flow: Watches the operations.
        trace: Of the pass.
    """

    def __init__(self, modules: dict[str, nn.Module], rows: int, flow: Dataflow, trace: Trace) -> None:
        self.neurons: list[Seen] = []
        self.synapses: list[Seen] = []
        self.weights: dict[str, tuple[int, ...]] = {}
        self._modules, self._rows, self._flow, self._trace = modules, rows, flow, trace
        self._earlier: dict[str, _Earlier] = {}

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        seen = Seen(site, self._trace.steps, current, spikes, self._flow.depends(current))
        self.neurons.append(seen)
        self._flow.source(spikes, NEURON + site)
        self._check_loop(site, seen.step, current.detach())

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        self.synapses.append(Seen(site, self._trace.steps, x, current, self._flow.depends(x)))
        self.weights[site] = tuple(weight.shape)
        depends = self._flow.depends(current).items()
        also = {n if n.startswith((LAYER, THROUGH)) else THROUGH + n: bends for n, bends in depends}
        self._flow.source(current, LAYER + site, also=also)

    def _check_loop(self, site: str, step: int, current: Tensor) -> None:
        name = module_name(site)
        module = self._modules[name]
        if len(current) % self._rows:
            raise loops(name, module, f"was called with {len(current)} of {self._rows} rows")
        earlier = self._earlier.get(name)
        if earlier is None or earlier.step != step:
            earlier = self._earlier[name] = _Earlier(step, [])
        if bool(current.any()) and any(torch.equal(current, other) for other in earlier.currents):
            raise loops(name, module, f"was called {len(earlier.currents) + 1} times with the same current")
        earlier.currents.append(current.clone())
