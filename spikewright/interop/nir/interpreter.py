"""An interpreter of NIR graphs in numpy, written from the equations of NIR alone, to compare with.

It shares no neuron, layer or order of computation with the rest of the library.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikewright.interop.nir.convolution import convolved, pooled
from spikewright.interop.nir.graph import NEURONS, POTENTIALS, SPIKING, Graph, Node

Array = np.ndarray[Any, Any]


@dataclass
class Simulation:
    """Result of a simulation.

    Attributes:
        output: `[time, batch, *output]`.
        spikes: Spikes of every node that fires by its own equation, `[time, batch, *feature]`.
        margins: Potential less threshold, in units of the largest of both, of every node that fires, of the same shape.
        potentials: Of every node whose output is its potential, of the same shape.
    """

    output: Array
    spikes: dict[str, Array] = field(default_factory=dict)
    margins: dict[str, Array] = field(default_factory=dict)
    potentials: dict[str, Array] = field(default_factory=dict)


def simulate(
    graph: Graph,
    x: Array,
    dt: float,
    *,
    exact: bool = False,
    soft: bool = False,
    equality: bool = False,
    given: Mapping[str, Array] | None = None,
) -> Simulation:
    r"""Simulate a graph in steps of dt, in double precision.

    .. math::
        v \leftarrow v + \tfrac{dt}{\tau} (v_{leak} - v + r I), \qquad z = \Theta(v - v_{th}), \qquad
        v \leftarrow v_{reset}\ \text{where}\ z = 1.

    The current of CubaLIF and CubaLI, :math:`\tau_{syn} \dot c = -c + w_{in} I`, starts at 0 and takes its step first;
    the potential takes its own with the new current for I.  LI, CubaLI and I send their potential.

    Within a step, neurons are computed in an order in which every one comes behind those it receives spikes from; where
    there is none, in a loop, the one that is fewest neurons away from the input comes first, and the spikes that go
    back arrive at the next step.  An IF starts at `v_reset`, an I at 0, the others at `v_leak`.

    Args:
        graph: The graph, laid open.
        x: Input, `[time, batch, *feature]`.
        dt: Duration of a step, in the unit of the time constants.
        exact: True solves each equation over a step of constant input, in place of one step of Euler's method.
        soft: True takes `v_threshold - v_reset` off the potential after a spike.
        equality: True lets a neuron fire at the threshold, too; NIR says above.
        given: Spikes that neurons send on, and are reset by, in place of those of their own equation, by node,
            `[time, batch, *feature]`.
    """
    run = _Run(graph, dt, exact, soft, equality, given or {})
    outputs = [run.step(t, np.asarray(step, np.float64)) for t, step in enumerate(x)]
    kept = ({name: np.stack(steps) for name, steps in of.items()} for of in (run.fired, run.margins, run.potentials))
    return Simulation(np.stack(outputs), *kept)


class _Run:
    def __init__(
        self, graph: Graph, dt: float, exact: bool, soft: bool, equality: bool, given: Mapping[str, Array]
    ) -> None:
        self.graph, self.dt, self.exact, self.soft, self.equality, self.given = graph, dt, exact, soft, equality, given
        self.into: dict[str, list[str]] = {name: [] for name in graph.nodes}
        for source, target in graph.edges:
            self.into[target].append(source)
        self.order = self._ordered()
        self.v: dict[str, Any] = {}
        self.c: dict[str, Any] = {}
        self.sent: dict[str, Array] = {}
        self.past: dict[str, list[Array]] = {name: [] for name in graph.nodes}
        spiking = [name for name in self.order if graph.nodes[name].kind in SPIKING]
        self.fired: dict[str, list[Array]] = {name: [] for name in spiking}
        self.margins: dict[str, list[Array]] = {name: [] for name in spiking}
        self.potentials: dict[str, list[Array]] = {name: [] for name in self.order if name not in spiking}

    def step(self, t: int, x: Array) -> Array:
        self.x = x
        for name in self.order:
            if name not in self.sent:
                self.sent[name] = np.zeros((len(x), *_shape(self.graph.nodes[name])))
        for name in self.order:
            self._neuron(t, name)
        output = self._input(next(name for name, node in self.graph.nodes.items() if node.kind == "Output"))
        delayed = {name: self._input(name) for name, node in self.graph.nodes.items() if node.kind == "Delay"}
        for name, value in delayed.items():
            self.past[name].append(value)
        return output

    def _neuron(self, t: int, name: str) -> None:
        node, current = self.graph.nodes[name], self._input(name)
        if node.kind in POTENTIALS:
            self.v[name] = self.sent[name] = self._moved(name, node, current, np.zeros(()))
            self.potentials[name].append(self.sent[name])
            return
        if node.kind == "Threshold":
            v, threshold, low = current, node.array("threshold"), np.zeros(())
        else:
            threshold = node.array("v_threshold").astype(float)
            low = node.array("v_reset").astype(float) if "v_reset" in node.values else np.zeros_like(threshold)
            v = self._moved(name, node, current, low)
        z = v >= threshold if self.equality else v > threshold
        self.fired[name].append(z)
        self.margins[name].append((v - threshold) / np.maximum(np.abs(v), np.abs(threshold)))
        sent = np.asarray(self.given[name][t], float) if name in self.given else z.astype(float)
        self.v[name] = v - sent * (threshold - low) if self.soft else np.where(sent != 0, low, v)
        self.sent[name] = sent

    def _moved(self, name: str, node: Node, x: Array, low: Array) -> Array:
        """Return the potential after a step; `low` is where a neuron without leak starts."""
        start = node.array("v_leak").astype(float) if "v_leak" in node.values else low
        v = self.v.get(name, np.zeros_like(x) + start)
        if node.kind in ("IF", "I"):
            return v + self.dt * (node.array("r") * x)
        tau = node.array("tau" if node.kind in ("LIF", "LI") else "tau_mem").astype(float)
        if node.kind in ("CubaLIF", "CubaLI"):
            goal = node.array("w_in") * x if "w_in" in node.values else x
            x = self.c[name] = self._relaxed(self.c.get(name, np.zeros_like(x)), goal, node.array("tau_syn"))
        return self._relaxed(v, node.array("v_leak") + node.array("r") * x, tau)

    def _relaxed(self, v: Array, goal: Array, tau: Array) -> Array:
        """Return the solution of tau dv/dt = goal - v after a step, or one step of Euler's method."""
        share = self.dt / tau.astype(float)
        return goal + (v - goal) * np.exp(-share) if self.exact else v + share * (goal - v)

    def _input(self, name: str) -> Array:
        return sum((self._value(source) for source in self.into[name]), np.zeros(()))

    def _value(self, name: str) -> Array:
        node = self.graph.nodes[name]
        if node.kind == "Input":
            return self.x
        if name in self.order:
            return self.sent[name]
        if node.kind == "Delay":
            return self._delayed(name, np.round(node.array("delay") / self.dt).astype(int))
        return applied(name, node, self._input(name))

    def _delayed(self, name: str, steps: Array) -> Array:
        past = self.past[name]
        value = np.asarray(self._input(name) if (steps == 0).any() else np.zeros((len(self.x), *steps.shape)))
        value = np.array(value, float)
        for d in np.unique(steps[steps > 0]):
            value[:, steps == d] = past[len(past) - d][:, steps == d] if d <= len(past) else 0
        return value

    def _ordered(self) -> list[str]:
        neurons = [name for name, node in self.graph.nodes.items() if node.kind in NEURONS]
        depth = {name: self._depth(name) for name in neurons}
        waits = {name: {n for n in self._behind(name, set()) if n in depth} for name in neurons}
        for middle in neurons:  # the transitive closure
            for name in neurons:
                if middle in waits[name]:
                    waits[name] |= waits[middle]
        order: list[str] = []
        while len(order) < len(neurons):
            left = [name for name in neurons if name not in order]
            ready = [n for n in left if all(n in waits[m] for m in waits[n] - {n} if m in left)]
            order.append(min(ready, key=lambda name: depth[name]))
        return order

    def _behind(self, name: str, seen: set[str]) -> set[str]:
        """Return the neurons and inputs that a node is computed from within a step."""
        for source in self.into[name]:
            node = self.graph.nodes[source]
            if node.kind in NEURONS or node.kind == "Input":
                seen.add(source)
            elif node.kind != "Delay" or np.round(node.array("delay") / self.dt).min() < 1:
                self._behind(source, seen)
        return seen

    def _depth(self, name: str) -> int:
        """Return how many neurons lie between the input and a node, at least."""
        depth, reached, front = 0, set[str](), {name}
        while front and not any(self.graph.nodes[n].kind == "Input" for n in front):
            reached |= front
            front = {n for m in front for n in self._over_delays(m)} - reached
            depth += 1
        return depth

    def _over_delays(self, name: str) -> set[str]:
        found: set[str] = set()
        for source in self.into[name]:
            ends = self.graph.nodes[source].kind in (*NEURONS, "Input")
            found |= {source} if ends else self._over_delays(source)
        return found


def _shape(node: Node) -> tuple[int, ...]:
    return node.array("threshold" if node.kind == "Threshold" else "r").shape


def applied(name: str, node: Node, x: Array) -> Array:
    """Return what a node without memory makes of its input, `[batch, *feature]`."""
    if node.kind in ("Linear", "Affine"):
        y = x @ node.array("weight").astype(float).T
        return y + node.array("bias") if node.kind == "Affine" else y
    if node.kind == "Scale":
        return x * node.array("scale")
    if node.kind in ("Conv1d", "Conv2d"):
        return convolved(node, x)
    if node.kind in ("AvgPool2d", "SumPool2d"):
        return pooled(node, x)
    if node.kind == "Flatten":
        start, end = int(node.values.get("start_dim", 1)), int(node.values.get("end_dim", -1))
        shape = x.shape[1:]
        end = end % len(shape)
        return x.reshape(len(x), *shape[:start], -1, *shape[end + 1 :]) if start < end else x
    if node.kind in ("Output", "Identity"):
        return x
    raise ValueError(f"The interpreter has no equation for '{name}' of type {node.kind}.")
