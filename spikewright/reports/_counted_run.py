"""A simulation whose products are counted: those of layers, and every other product of tensors."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from spikewright.dataflow import Dataflow
from spikewright.metrics.operations import SynapseCounter, Work, averaged, real_products
from spikewright.network import Network
from spikewright.network.run import Run
from spikewright.network.wiring import module_name
from spikewright.neurons import Neuron
from spikewright.rules._cost import Product
from spikewright.synapses.operations import Convolution, Operation

_INPUT, _STATE = " input", " state"
"""Names of sources beside those of neurons and parameters."""
_MATRICES = {
    "mm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "bmm": ("self", "mat2"),
    "baddbmm": ("batch1", "batch2"),
    "addbmm": ("batch1", "batch2"),
    "mv": ("self", "vec"),
    "addmv": ("mat", "vec"),
    "dot": ("self", "tensor"),
    "vdot": ("self", "other"),
    "_sparse_addmm": ("mat1", "mat2"),
    "_sparse_mm": ("sparse", "dense"),
}
"""Operators that multiply matrices, and the arguments that they multiply; most functions of torch end in these."""
_KNOWN = ("aten", "prim", "prims", "spikewright")


@dataclass(frozen=True)
class Counted:
    """Operations and firing rates of a simulation.

    Attributes:
        work: Work of every layer with a weight, by name.
        products: Products of tensors outside of layers.
        rates: Firing rate of every neuron layer, in spikes per neuron and step, by name.
        uncounted: Operators that are not looked into, by name.
    """

    work: Mapping[str, Work]
    products: tuple[Product, ...]
    rates: dict[str, float]
    uncounted: tuple[str, ...]


def count_run(net: Network, x: Tensor, frozen: Collection[str]) -> Counted:
    """Run a network over a sequence step by step, and count its products.

    Args:
        net: Network.
        x: Input.  Tensor `[time, batch, *feature]`.
        frozen: Names of the parameters that do not learn.
    """
    learning = {name: p for name, p in net.module.named_parameters() if name not in frozen}
    meter = _Meter(x.shape[1])
    layers = SynapseCounter(x.shape[1], meter.of_spikes, meter.filled, meter.unit)
    fires = {name: m for name, m in net.sites.temporal.items() if isinstance(m, Neuron) and m.spiking}
    run = net.start(x, observers=(_Aside(meter, layers, fires),))
    # Attention by products of matrices.  (Nor does torch compute a whole layer at once where operations are followed.)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        for step in x.split(1):
            meter.start(run, learning)
            with meter.following(step):
                run.advance(step)
    return Counted(layers.work, meter.products(), run.rates(), tuple(sorted(meter.uncounted)))


class _Aside:
    """Observer that counts layers outside of what is followed, and declares what neurons emit."""

    def __init__(self, meter: "_Meter", layers: SynapseCounter, fires: Mapping[str, Neuron]) -> None:
        self._meter, self._layers, self._fires = meter, layers, fires

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        self._meter.emitted(site, spikes, self._fires.get(module_name(site)))

    def potential(self, site: str, potential: Tensor) -> None:
        self._meter.emitted(f"the potential of {site}", potential)

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        self._meter.flow.aside(self._layers.synapse, site, operation, x, weight, current)


class _Meter(TorchDispatchMode):
    """Counts products of tensors outside of layers, and knows where tensors come from."""

    supports_higher_order_operators = True

    def __init__(self, samples: int) -> None:
        super().__init__()
        self._samples = samples
        self._seen: dict[str, list[Product]] = {}
        self.uncounted: set[str] = set()

    def start(self, run: Run, learning: Mapping[str, Tensor]) -> None:
        """Begin a step of a run."""
        self.flow, self._run, self._calls = Dataflow(), run, 0
        self._neurons, self._potentials = {_STATE}, set[str]()
        self._padded: dict[int, tuple[Tensor, int, Tensor]] = {}
        self._spikes: dict[int, tuple[Tensor, int, float]] = {}
        for name, parameter in learning.items():
            self.flow.source(parameter, name, also=self.flow.depends(parameter))
        for state in run.state.values():
            for value in state.values():
                self.flow.source(value, _STATE)

    @contextmanager
    def following(self, step: Tensor) -> Iterator[None]:
        """Count what is computed from a step of the input."""
        self.flow.source(step, _INPUT)
        with self.flow, self:
            yield

    def emitted(self, site: str, values: Tensor, neuron: Neuron | None = None) -> None:
        """Declare a tensor to be what neurons emit: spikes of a neuron layer, or without one potentials."""
        (self._potentials if neuron is None else self._neurons).add(site)
        if neuron is not None:
            value = abs(float(neuron.spike_amplitude))
            counts = values.double() / value
            if torch.allclose(counts, counts.round(), rtol=4 * torch.finfo(values.dtype).eps, atol=0):
                self._spikes[_storage(values)] = values, values._version, value
        self.flow.source(values, site)

    def unit(self, x: Tensor) -> float | None:
        """Return the value of one spike in a tensor that neurons sent; `None` for what is computed from such ones."""
        spikes, version, value = self._spikes.get(_storage(x), (x, -1, 0.0))
        return value if spikes._version == version else None  # not written to since

    def of_spikes(self, x: Tensor) -> bool:
        """True if a tensor is computed from spikes, with no learning weight and no input in between."""
        return self._sources(x) <= self._neurons

    def filled(self, x: Tensor) -> Tensor | None:
        """Return which entries of a tensor are not zeros that padding put there; `None` for all."""
        found = self._padded.get(_storage(x))
        if found is None:
            return None
        padded, version, filled = found
        same = padded._version == version and x.shape[1:] == filled.shape[1:]  # not written to since
        return filled if same else None

    def products(self) -> tuple[Product, ...]:
        """Return the products of a step, averaged over the steps."""
        return tuple(replace(steps[0], work=averaged(p.work for p in steps)) for steps in self._seen.values())

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, OpOverload):  # takes functions
            self.uncounted.add(func.name())
            return func(*args, **kwargs)
        if func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        namespace, _, name = func._schema.name.partition("::")
        given = dict(zip((a.name for a in func._schema.arguments), args), **kwargs)
        if namespace not in _KNOWN:
            self.uncounted.add(func._schema.name)
        elif namespace == "aten" and not self._run.in_layer:
            self.flow.aside(self._count, name, given)
        result = func(*args, **kwargs)
        if name == "constant_pad_nd" and not given.get("value"):
            self.flow.aside(self._note_padding, given["self"], given["pad"], result)
        return result

    def _count(self, name: str, given: Mapping[str, Any]) -> None:
        if name in _MATRICES:
            first, second = (given[factor] for factor in _MATRICES[name])
            self._add(name, first, [second], partial(_times, _columns(second)))
        elif name == "convolution":
            weight = given["weight"]
            self._add(name, given["input"], [weight], partial(_convolution(given).meets, weight=weight))
        elif name == "_trilinear":  # of F.bilinear: the weight times the second input, and the first times that
            first, weight, second = (given[factor].squeeze() for factor in ("i1", "i2", "i3"))
            outputs, rows = given["i2"].shape[-3:-1]
            self._add(name, second, [weight], partial(_times, outputs * rows))
            self._add(name, first, [weight, second], partial(_times, outputs))

    def _add(
        self,
        name: str,
        first: Tensor,
        others: Sequence[Tensor],
        meets: Callable[[Tensor], float],
    ) -> None:
        """Add a product of a tensor and something that is computed from others.

        Args:
            name: Name of the operator.
            first: One factor.
            others: What the other factor is computed from.
            meets: Function that sums entries of the first factor, each times those of the other it meets.
        """
        sources = self._sources(first), set[str]().union(*map(self._sources, others))
        if not any(map(self._is_data, sources)):
            return  # weights computed from weights
        filled, entries = self.filled(first), _entries(first)
        ones = torch.ones_like(entries, dtype=torch.float64) if filled is None else filled.double().expand(first.shape)
        products = real_products(first, others[0]) / self._samples
        self._calls += 1
        active = float((entries != 0).double().mean()) if entries.numel() else 0.0
        work = Work(products * meets(ones), active, False)  # no synapse of a layer: dense, whatever the factors are
        weights = [0 if self._is_data(found) else x.numel() for x, found in zip((first, others[0]), sources)]
        product = Product(work, (frozenset(sources[0]), frozenset(sources[1])), (weights[0], weights[1]))
        self._seen.setdefault(f"{name}#{self._calls}", []).append(product)

    def _is_data(self, sources: Collection[str]) -> bool:
        return not (self._neurons | self._potentials).isdisjoint(sources) or _INPUT in sources

    def _sources(self, x: Tensor) -> set[str]:
        return set(self.flow.depends(x))

    def _note_padding(self, x: Tensor, pad: list[int], padded: Tensor) -> None:
        if len(pad) < 2 * x.dim() and min(pad, default=0) >= 0:
            before = self.filled(x)
            filled = torch.ones_like(x[:1], dtype=torch.uint8) if before is None else before
            self._padded[_storage(padded)] = padded, padded._version, torch.constant_pad_nd(filled, pad)


def _convolution(given: Mapping[str, Any]) -> Convolution:
    names = ("stride", "padding", "output_padding", "dilation")
    stride, padding, output_padding, dilation = (tuple(given[name]) for name in names)
    transposed, dimensions = given["transposed"], given["weight"].dim() - 2
    return Convolution(
        torch.convolution, dimensions, transposed, stride, padding, output_padding, dilation, given["groups"]
    )


def _columns(second: Tensor) -> int:
    return second.shape[-1] if second.dim() > 1 else 1


def _times(many: int, values: Tensor) -> float:
    return float(values.sum()) * many


def _entries(x: Tensor) -> Tensor:
    """Return the stored entries of a tensor, which for a sparse one are a list."""
    if x.layout == torch.strided:
        return x
    return x.coalesce().values() if x.layout == torch.sparse_coo else x.values()


def _storage(x: Tensor) -> int:
    return x.untyped_storage()._cdata if x.layout == torch.strided else 0
