"""The autograd graph of a probe: what its nodes compute from, and whose backward passes they have."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.utils.checkpoint import CheckpointFunction

from spikewright._util.leaves import ancestors
from spikewright.network.probing.recorder import Recorder

_PRODUCTS = frozenset("Addmm Mm Bmm Baddbmm Addmv Mv Linear Convolution ConvolutionOverrideable".split())
_SHAPES = frozenset("T Transpose Permute View UnsafeView Reshape ReshapeAlias Unsqueeze Squeeze Expand ToCopy".split())
"""Nodes of the graph: linear operations with a weight, and what may stand between these and a parameter."""


class Graph:
    """The autograd graph of a probe.

    Args:
        recorder: What the probe saw.
        names: Names of parameters, by identity.
        x: The probe's input.
    """

    def __init__(self, recorder: Recorder, names: dict[int, str], x: Tensor) -> None:
        self._names, self._x = names, x
        self._marks: dict[Any, tuple[str, str, int]] = {
            node: (kind, seen.site, seen.step)
            for kind, found in (("synapse", recorder.synapses), ("neuron", recorder.neurons))
            for seen in found
            for node in seen.after
        }

    def walk(self, start: Any, across_synapses: bool = True) -> Iterator[tuple[str, str, int]]:
        """Yield (kind, name, step) of what a graph node computes from, stopping at neurons."""
        todo, seen = [start], set()
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            kind, name, step = self._marks.get(node, ("", "", 0))
            if kind:
                yield kind, name, step
            elif (variable := getattr(node, "variable", None)) is not None and variable is not self._x:
                yield "parameter", self._names.get(id(variable), ""), 0
            if kind == "neuron" or (kind == "synapse" and not across_synapses):
                continue
            todo.extend(parent for parent, _ in node.next_functions)

    def behind_code_of_others(self, starts: Iterable[Any], hooked: Iterable[Any]) -> Iterator[str]:
        """Yield the names of parameters whose gradients pass hooks, or a backward pass that torch has not derived."""
        written = filter(_is_of_others, list(ancestors(starts)))
        for node in ancestors([*written, *hooked]):
            if (variable := getattr(node, "variable", None)) is not None:
                yield self._names.get(id(variable), "")

    def weights(self, starts: Iterable[Any]) -> Iterator[str]:
        """Yield the names of parameters that a linear operation multiplies something by."""
        for node in ancestors(starts):
            parents = [parent for parent, _ in node.next_functions if parent is not None]
            while parents and _kind(node) in _PRODUCTS:
                parent = parents.pop()
                if (variable := getattr(parent, "variable", None)) is not None:
                    yield self._names.get(id(variable), "")
                elif _kind(parent) in _SHAPES:
                    parents.extend(p for p, _ in parent.next_functions if p is not None)


def _is_of_others(node: Any) -> bool:
    """Whether the backward pass of a node is written by others than torch and this library."""
    if not isinstance(node, BackwardCFunction):
        return "CppNode" in node.name()
    kind = getattr(type(node), "_forward_cls", type(node))
    package, _, module = kind.__module__.partition(".")
    if kind is CheckpointFunction:  # whose graph is made in the backward pass
        return True
    return package not in ("torch", __name__.partition(".")[0]) or module.startswith("_library")


def _kind(node: Any) -> str:
    return node.name().partition("Backward")[0].strip("_")
