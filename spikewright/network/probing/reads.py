"""Reads of weights outside their layers, with or without a graph: copies, arrays, numbers, no_grad."""

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn

from spikewright._util.leaves import leaves
from spikewright.dataflow.storages import memory_of
from spikewright.network.wiring import module_name
from spikewright.synapses.operations import Operation

_Span = tuple[int, int]


class Reads:
    """Observer that separates reads of a weight by the operation of its layer from all other reads.

    Reads inside a layer that lead to the weight of its operation are left to the dataflow of operations: those of its
    own weight if the operation gets another one, and those of other layers whose weights gradients reach from there.

    Args:
        module: The network's module.
        layers: Names of its layers.
    """

    def __init__(self, module: nn.Module, layers: Collection[str]) -> None:
        self._owners: dict[str, set[str]] = {}
        self._places: dict[int, list[tuple[_Span, str]]] = {}
        parameters = dict(module.named_parameters())
        names = {id(p): name for name, p in parameters.items()}
        for owner in layers:
            for p in module.get_submodule(owner).parameters(recurse=False):
                self._owners.setdefault(names[id(p)], set()).add(owner)
        self._names = {id(p): name for name, p in module.named_parameters() if name in self._owners}
        for name in self._owners:
            for place, span in _where(parameters[name]):
                self._places.setdefault(place, []).append((span, name))
        self._layer: str | None = None
        self._read: set[tuple[str, str]] = set()  # names of weights, with the layer or module that read them
        self._left: set[tuple[str, str]] = set()
        self._learning: set[str] = set()
        self._resting: set[str] = set()

    @property
    def outside(self) -> frozenset[str]:
        """Weights that are trained at a layer and read outside their layers."""
        return frozenset((self._resting | {name for name, _ in self._read - self._left}) & self._learning)

    def begin(self, site: str, weight: Tensor) -> None:
        """Note that the operation of a layer comes next, with its weight."""
        self._layer = layer = module_name(site)
        own = {name for name in self._at(weight) if layer in self._owners[name]}
        if not own:
            self._left.update((name, layer) for name, owners in self._owners.items() if layer in owners)
        reached = {self._names[id(p)] for p in leaves(weight) if id(p) in self._names}
        self._left.update((name, layer) for name in reached - own)
        if torch.is_grad_enabled():
            self._learning |= reached
        else:  # a simulation, in which nothing is learned
            self._resting |= own

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None: ...

    def potential(self, site: str, potential: Tensor) -> None: ...

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        """Note that the operation of a layer is over."""
        self._layer = None

    def read(self, x: Tensor, module: str) -> None:
        """Note that values of a tensor are read while a module runs."""
        where = module.partition(".parametrizations.")[0] if self._layer is None else self._layer
        self._read.update((name, where) for name in self._at(x) if self._layer not in self._owners[name])

    def _at(self, x: Tensor) -> Iterator[str]:
        """Yield the parameters that a tensor shares memory with."""
        for place, (first, end) in _where(x):
            for (start, last), name in self._places.get(place, ()):
                if first < last and start < end:
                    yield name


def _where(x: Tensor) -> Iterator[tuple[int, _Span]]:
    """Yield the address of the memory of a tensor, and which bytes of it are used; nothing without memory."""
    memory = memory_of(x)
    if memory is not None and memory[1] and x.numel():
        first = int(x.storage_offset()) * x.element_size()
        reach = int(sum((size - 1) * step for size, step in zip(x.shape, x.stride()))) + 1
        yield memory[1], (first, first + reach * x.element_size())
