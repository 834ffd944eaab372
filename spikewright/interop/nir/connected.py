"""Whether every node of a graph is on a way from its input to its output."""

from collections.abc import Callable

from spikewright.errors import NetworkError
from spikewright.interop.nir.graph import Graph


def check_connected(graph: Graph) -> None:
    """Raise `NetworkError` if a node is not on a way from the input to the output."""
    start, end = graph.only("Input"), graph.only("Output")
    ahead, back = _reach(graph.out_of, start), _reach(graph.into, end)
    for name, node in graph.nodes.items():
        for reached, found in ((ahead, f"is not reached from '{start}'"), (back, f"does not lead to '{end}'")):
            if name not in reached:
                raise NetworkError(
                    f"from_nir read '{name}' ({node.kind}), which {found}. It would be left out, and exporters are "
                    "known to lose edges where a model adds or reshapes tensors outside of layers. Add the edge, or "
                    "remove the node from the file."
                )


def _reach(following: Callable[[str], list[str]], start: str) -> set[str]:
    found, front = {start}, [start]
    while front:
        new = set(following(front.pop())) - found
        found |= new
        front.extend(new)
    return found
