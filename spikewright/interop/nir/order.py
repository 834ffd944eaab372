"""In which order neurons are computed within a step, and which of their spikes arrive a step later.

NIR says nothing of a step.  Along a loop without a Delay node, spikes take one step, from the neurons that come later
in the order back to those that come earlier.  The order follows the edges; within a loop it begins with the neurons
that are nearest to the input.
"""

from collections.abc import Callable

from spikewright.errors import NetworkError
from spikewright.interop.nir.graph import Graph

Successors = dict[str, set[str]]


def order_of_neurons(graph: Graph, holds: Callable[[str], bool], waits: Callable[[str], bool]) -> list[str]:
    """Return the neurons of a graph in the order in which a step computes them.

    Args:
        graph: The graph.
        holds: True for the name of a node with a state, which ends a way without memory.
        waits: True for the name of a node whose output does not depend on its input of the same step: a delay.

    Raises:
        NetworkError: There is a loop without a neuron, or one in which two neurons are equally near to the input.
    """
    neurons = [name for name in graph.nodes if holds(name)]
    start = graph.only("Input")
    _check_stateless(graph, holds, waits)
    far = {name: _reached(graph, name, holds, lambda _: False) for name in [start, *neurons]}
    distance, front = {start: 0}, [start]
    while front:
        name = front.pop(0)
        for found in sorted(far.get(name, ())):
            if found not in distance:
                distance[found] = distance[name] + 1
                front.append(found)
    at_once = {name: _reached(graph, name, holds, waits) for name in neurons}
    order: list[str] = []
    left = sorted(neurons, key=lambda name: (distance.get(name, len(graph.nodes)), name))
    while left:
        chosen = _next(left, at_once, distance)
        order.append(chosen)
        left.remove(chosen)
    return order


def _next(left: list[str], at_once: Successors, distance: dict[str, int]) -> str:
    """Return the nearest neuron among those that wait for no other one outside a loop of theirs."""
    within = set(left)
    below = {name: _closure(name, at_once, within) for name in left}
    above = {name: {other for other in left if name in below[other]} for name in left}
    free = [name for name in left if above[name] <= below[name]]
    first = free[0]
    equal = [name for name in free[1:] if name in below[first] and distance.get(name) == distance.get(first)]
    if equal:
        raise NetworkError(
            f"The neurons '{first}' and '{equal[0]}' of the graph are in one loop and equally near to the input, so "
            "the graph does not say whose spikes arrive a step later. Put a Delay node of one step on the edges "
            "that go back."
        )
    return first


def _closure(start: str, successors: Successors, within: set[str]) -> set[str]:
    found: set[str] = set()
    front = [start]
    while front:
        new = (successors[front.pop()] & within) - found
        found |= new
        front.extend(new)
    return found


def _reached(graph: Graph, start: str, holds: Callable[[str], bool], waits: Callable[[str], bool]) -> set[str]:
    """Return the neurons that an output reaches without passing other neurons."""
    found: set[str] = set()
    seen: set[str] = set()
    front = graph.out_of(start)
    while front:
        name = front.pop()
        if holds(name):
            found.add(name)
        elif name not in seen and not waits(name):
            seen.add(name)
            front.extend(graph.out_of(name))
    return found


def _check_stateless(graph: Graph, holds: Callable[[str], bool], waits: Callable[[str], bool]) -> None:
    for name in graph.nodes:
        if holds(name):
            continue
        seen: set[str] = set()
        front = [name]
        while front:
            for following in graph.out_of(front.pop()):
                if following == name:
                    raise NetworkError(
                        f"'{name}' ({graph.nodes[name].kind}) is in a loop without a neuron, so its value at a step "
                        "would depend on itself. Take an edge out of the loop, or put a neuron into it."
                    )
                if not holds(following) and following not in seen:
                    seen.add(following)
                    front.append(following)
