"""Feedback connections as edges of a graph: without a Delay node where NIR means the same, and with one elsewhere."""

from typing import Any

import torch
from torch import Tensor

from spikewright.errors import NetworkError
from spikewright.interop.nir.graph import NEURONS, Edge, Graph
from spikewright.interop.nir.module import FeedbackFromStart
from spikewright.interop.nir.order import order_of_neurons
from spikewright.interop.nir.tracing import Sources, Trace
from spikewright.layers import Feedback, SynapticDelay
from spikewright.network.sites import Sites


class Feedbacks:
    """The feedback connections of a module, whose ways back are traced when all sources have run.

    Args:
        trace: What is recorded.
        sites: Sites of the module.
    """

    def __init__(self, trace: Trace, sites: Sites) -> None:
        self._trace, self._sites = trace, sites
        self._sent: dict[int, tuple[Tensor, Sources]] = {}
        self._arrived: dict[str, tuple[Feedback, str]] = {}

    def left(self, module: object, output: Any) -> None:
        """Note the output of a module, in case that it is sent back."""
        sources = self._trace.sources(output)
        if sources is not None:
            self._sent[id(module)] = output, sources

    def arrive(self, name: str, module: Feedback, x: Tensor) -> Tensor:
        """Return the sum with what is sent back, of which nothing is known yet but its place."""
        if name in self._arrived:
            raise self._trace.refuse(
                f"'{name}' ({type(module).__name__}), which is called twice in a step",
                "a loop closes at one place",
                f"Use a {type(module).__name__} module for each place.",
            )
        with self._trace.paused():
            y = self._trace.output("Identity", {}, x, x.clone())
        sources = self._trace.sources(y)
        assert sources is not None
        self._arrived[name] = module, sources[0]
        return y

    def close(self) -> None:
        """Trace the ways back, and put edges in the place of the connections."""
        ways = [self._way(name, module, place) for name, (module, place) in self._arrived.items()]
        graph = self._trace.graph
        while ways and (unclear := _unclear(graph, ways)) is not None:
            with self._trace.paused():
                unclear.wait(self._trace)
        for _, place in self._arrived.values():
            remove(graph, place)
        repeated = sorted({edge for edge in graph.edges if graph.edges.count(edge) > 1})
        if repeated:
            raise self._trace.refuse(
                f"two connections from '{repeated[0][0]}' to '{repeated[0][1]}'",
                "a graph has at most one edge between two nodes",
                "Join them, or put a layer into one of them.",
            )

    def _way(self, name: str, module: Feedback, place: str) -> "_Way":
        trace, shown = self._trace, f"'{name}' ({type(module).__name__})"
        source = self._sites.sources[name]
        if id(source) not in self._sent:
            raise trace.refuse(
                f"{shown}, whose source ({type(source).__name__}) made no tensor from the input in this step",
                "an edge of a graph comes from a node that is computed at every step",
                "Call the source in forward, or take the connection out.",
            )
        output, sent = self._sent[id(source)]
        with trace.paused():
            given = trace.mark(output.clone(), sent)
            delayed = _delays(module)
            biased = not delayed and bool(module.transform(torch.zeros_like(output)).count_nonzero())
        before = set(trace.graph.nodes)
        trace.inside.append(f"{name}.transform")
        result = module.transform(given)
        trace.inside.pop()
        back = trace.sources(result)
        if back is None:
            raise trace.refuse(
                f"{shown}, whose transform made {type(result).__name__} that does not depend on what is sent back",
                "an edge of a graph carries the output of a node",
                "Put a constant into the bias of the layer in front.",
            )
        new = frozenset(trace.graph.nodes.keys() - before)
        from_start = module.first == "bias" or isinstance(module, FeedbackFromStart)
        way = _Way(name, place, sent, back, new, from_start, list(result.shape[1:]), list(output.shape[1:]))
        trace.graph.edges.extend((source, place) for source in back)
        if delayed or (biased and not from_start):
            with trace.paused():
                way.wait(trace)
        return way


class _Way:
    """A way back from the source of a feedback connection to the place where it arrives."""

    def __init__(
        self,
        name: str,
        place: str,
        sent: Sources,
        back: Sources,
        new: frozenset[str],
        from_start: bool,
        arriving: list[int],
        leaving: list[int],
    ) -> None:
        self.name, self.place, self.sent, self.back, self.new = name, place, sent, back, new
        self.from_start, self.arriving, self.leaving = from_start, arriving, leaving
        self.waits = False

    def wait(self, trace: Trace) -> None:
        """Put a Delay node of one step into the way: behind the transform, or in front of it if it acts at once."""
        graph, self.waits = trace.graph, True
        if self.from_start and self.new:
            cut = [edge for edge in graph.edges if edge[0] in self.sent and edge[1] in self.new]
            sources, targets, shape = self.sent, [edge[1] for edge in cut], self.leaving
        else:
            cut = [(source, self.place) for source in self.back]
            sources, targets, shape = self.back, [self.place], self.arriving
        for edge in cut:
            graph.edges.remove(edge)
        name = trace.node("Delay", {"steps": torch.ones(shape).numpy()}, sources, f"{self.name}_step")
        graph.nodes[name].metadata["shape"] = shape
        graph.edges.extend((name, target) for target in dict.fromkeys(targets))

    def edges(self) -> set[Edge]:
        return {(source, self.place) for source in self.back}


def _unclear(graph: Graph, ways: list[_Way]) -> _Way | None:
    """Return a way back that a reader of the graph would not take for one step, if there is one."""
    implicit = [way for way in ways if not way.waits]
    try:
        order = order_of_neurons(graph, lambda name: graph.nodes[name].kind in NEURONS, lambda name: waits(graph, name))
    except NetworkError:
        if not implicit:
            raise
        return implicit[-1]
    for way in implicit:
        rest = Graph(graph.nodes, [edge for edge in graph.edges if edge not in way.edges()])
        reached, other = _ends(graph, way.place)
        if other or any(graph.nodes[name].kind not in NEURONS for name in way.sent):
            return way
        for source in way.sent:
            early = any(order.index(source) < order.index(name) for name in reached)
            if early or _ends(rest, source)[0] & reached:
                return way
    return None


def waits(graph: Graph, name: str) -> bool:
    """True for a traced Delay node none of whose delays is 0."""
    node = graph.nodes[name]
    return node.kind == "Delay" and bool((node.values["steps"] >= 1).all())


def _ends(graph: Graph, start: str) -> tuple[set[str], set[str]]:
    """Return the neurons, and the other nodes without a following one within the step, that a node leads to."""
    neurons: set[str] = set()
    others: set[str] = set()
    seen: set[str] = set()
    front = graph.out_of(start)
    while front:
        name = front.pop()
        if graph.nodes[name].kind in NEURONS:
            neurons.add(name)
        elif name not in seen:
            seen.add(name)
            following = [] if waits(graph, name) else graph.out_of(name)
            others |= set() if following else {name}
            front.extend(following)
    return neurons, others


def remove(graph: Graph, name: str) -> None:
    """Take a node that changes nothing out of a graph, and join its edges."""
    into, out_of = graph.into(name), graph.out_of(name)
    graph.edges = [edge for edge in graph.edges if name not in edge]
    graph.edges.extend((source, target) for source in into for target in out_of)
    del graph.nodes[name]


def _delays(module: Feedback) -> bool:
    return any(isinstance(m, SynapticDelay) for m in module.transform.modules())
