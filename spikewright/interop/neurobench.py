"""A network as a model of NeuroBench, which is imported when one is made."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from spikewright._util.arguments import check_tensor
from spikewright.errors import ConfigError
from spikewright.network import Network
from spikewright.neurons import Neuron
from spikewright.rules._check import check_network
from spikewright.synapses.operations import Operation


@dataclass(frozen=True)
class CountedLayer:
    """Operations of one layer on an input: products of an entry and a weight that are both not 0.

    Attributes:
        name: Name of the layer in the network.
        here: Number counted here, in float64. At least 0.
        neurobench: Number that NeuroBench counts; any number, 0 for a layer that it does not see.
    """

    name: str
    here: float
    neurobench: float

    @property
    def agree(self) -> bool:
        """True if the numbers are the same, to rounding in float32."""
        return abs(self.here - self.neurobench) <= 1e-4 * max(1.0, self.here)


def neurobench_model(net: Network, x: Tensor) -> Any:
    """Return a network as a `NeuroBenchModel`, whose batches are `[batch, time, *feature]`, and compare its counters.

    The model returns outputs `[batch, time, *output]`, in evaluation mode and without gradients. Neurons of this
    library are its activation modules. What the network is looked at with, before its first run on inputs of a new
    shape, is not seen by the hooks of NeuroBench. The attribute `counted` holds the comparison by layer.

    NeuroBench 2.3 counts operations by running a copy of a layer whose weights are set to 0 and 1. Weights that are
    computed, by `nn.utils.parametrize`, pruning, weight norm or a forward of its own, are computed again in the copy,
    and transposed convolutions are left out; counts are then wrong, 0 or negative, without an error. So they are
    compared here, on `x`.

    Args:
        net: The network.
        x: Some inputs of the benchmark, `[batch, time, *feature]`.

    Returns:
        An instance of a subclass of `neurobench.models.NeuroBenchModel`.

    Raises:
        ConfigError: `net` is no `Network`, or the package neurobench is not installed.

    Warns:
        UserWarning: NeuroBench counts something else in some layers.
    """
    check_network("neurobench_model", net)
    check_tensor("x", x, "[batch, time, *feature]")
    model = _model_class()(net)
    model.counted = _counted(net, model, x.transpose(0, 1))
    wrong = [each for each in model.counted if not each.agree]
    if wrong:
        shown = ", ".join(f"{each.neurobench:g} for {each.here:g} in '{each.name}'" for each in wrong)
        warnings.warn(
            f"NeuroBench counts operations that are not those of the network: {shown}. Their weights are computed, or "
            "it does not know the layer. Make weights plain before (nn.utils.parametrize.remove_parametrizations, "
            "nn.utils.prune.remove), or take the numbers in model.counted.",
            UserWarning,
            stacklevel=2,
        )
    return model


def _model_class() -> type[Any]:
    try:
        base: Any = import_module("neurobench.models").NeuroBenchModel
    except ImportError as error:
        raise ConfigError(
            f"neurobench_model needs the package neurobench, which cannot be imported: {error}. Install it, and what "
            "of its dependencies is used: pip install --no-deps neurobench snntorch tqdm."
        ) from error

    class Model(base):
        """A network of this library."""

        counted: tuple[CountedLayer, ...] = ()

        def __init__(self, net: Network) -> None:
            super().__init__()
            self.net = net
            self.add_activation_module(Neuron)

        def __call__(self, batch: Tensor) -> Tensor:
            """Return the outputs of a batch `[batch, time, *feature]`, `[batch, time, *output]`."""
            self.net.eval()
            with torch.no_grad():
                with _unseen([*self.activation_hooks, *self.connection_hooks]):
                    self.net.wiring(batch.transpose(0, 1))
                output, _ = self.net.run(batch, batch_first=True)
            return output

        def __net__(self) -> nn.Module:
            """Return the network, a module around the one it was made of."""
            return self.net

    return Model


@contextmanager
def _unseen(hooks: list[Any]) -> Iterator[None]:
    """Take from hooks of NeuroBench what they collect within."""
    before = [{name: list(kept) for name, kept in vars(hook).items() if isinstance(kept, list)} for hook in hooks]
    try:
        yield
    finally:
        for hook, lists in zip(hooks, before, strict=True):
            for name, kept in lists.items():
                getattr(hook, name)[:] = kept


class _Counter:
    """Observer that counts the products of each layer, by both ways."""

    def __init__(self, layers: dict[str, nn.Module], seen: set[int]) -> None:
        self._layers, self._seen = layers, seen
        self._macs: Any = import_module("neurobench.metrics.utils.layers").single_layer_MACs
        self.numbers: dict[str, float] = {}
        self.inputs: dict[str, list[Tensor]] = {}

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        """Count nothing."""

    def potential(self, site: str, potential: Tensor) -> None:
        """Count nothing."""

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        """Count the products of one call."""
        name = site.partition("#")[0]
        here = float(operation((x != 0).double(), (weight != 0).double(), None).sum())
        self.numbers[name] = self.numbers.get(name, 0.0) + here
        self.inputs.setdefault(name, []).append(x.detach().clone())

    def rows(self) -> tuple[CountedLayer, ...]:
        """Return the numbers; NeuroBench counts here, when forwards are no longer replaced."""
        return tuple(
            CountedLayer(name, here, sum(self._theirs(name, x) for x in self.inputs[name]))
            for name, here in self.numbers.items()
        )

    def _theirs(self, name: str, x: Tensor) -> float:
        layer = self._layers[name]
        return float(self._macs(x, layer)[0]) if id(layer) in self._seen else 0.0


@torch.no_grad()
def _counted(net: Network, model: Any, x: Tensor) -> tuple[CountedLayer, ...]:
    layers = {name: part for name, part in net.module.named_modules()}
    counter = _Counter(layers, {id(layer) for layer in model.connection_layers()})
    training = {part: part.training for part in net.modules()}
    try:
        net.eval().run(x, observers=(counter,))
        return counter.rows()
    finally:
        for part, was in training.items():
            part.training = was
