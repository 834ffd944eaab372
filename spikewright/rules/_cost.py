"""What learning costs, as far as a rule states it."""

import math
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property

from spikewright.metrics.operations import Operations, Work
from spikewright.network.wiring import Wiring
from spikewright.solvers import Report


@dataclass(frozen=True)
class Cost:
    """Cost of learning from one sequence, per sample, without the simulation of the network.

    Attributes:
        operations: Additions and multiplications of everything that finds gradients, an `Operations`.
        feedback_parameters: Number of parameters that carry errors back through layers, transported or stored.  At
            least 0.
    """

    operations: Operations
    feedback_parameters: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.operations + other.operations, max(self.feedback_parameters, other.feedback_parameters)
        )  # two passes of one rule carry errors back by the same numbers


@dataclass(frozen=True)
class Product:
    """A product of two tensors outside of layers, such as those of attention, in one step.

    Attributes:
        work: Its work, per sample.
        factors: For either factor, the neurons and the learning parameters that it is computed from, by name.
        weights: For either factor, its number of entries if it is a weight, computed from no data, and 0 otherwise.
    """

    work: Work
    factors: tuple[frozenset[str], frozenset[str]]
    weights: tuple[int, int]


@dataclass(frozen=True)
class Done:
    """What was done in one training step, from which a rule states its cost.

    Attributes:
        work: What each layer does in a step, by name of the layer.
        wiring: Wiring of the network.
        steps: Length of the sequence.  At least 1.
        report: Report of the update, by rules that solve an equation.  Default: None, for rules that solve none.
        frozen: Names of the parameters of the network that do not learn.  Default: frozenset(), none.
        products: Products outside of layers.  Default: (), none.
    """

    work: Mapping[str, Work]
    wiring: Wiring
    steps: int
    report: Report | None = None
    frozen: frozenset[str] = frozenset()
    products: tuple[Product, ...] = ()

    @property
    def simulation(self) -> Operations:
        """Operations of running the network over the sequence."""
        every = [*self.work.values(), *(product.work for product in self.products)]
        return sum((w.times * w.forward for w in every), Operations())

    @property
    def at_weights(self) -> float:
        """Multiplications of the weight gradients in one step, zeros included."""
        return sum(w.dense for site, w in self.work.items() if self.learns(site))

    @property
    def between_neurons(self) -> float:
        """Multiplications of errors in one step at layers between a learning layer and the next neurons.

        Products outside of layers are included: their factors need a gradient where something learns in front of them.
        """
        at_layers = sum(w.dense for site, w in self.work.items() if self._crossed_at_once(site))
        return at_layers + self._at_products(self._learned)

    @property
    def backward(self) -> Operations:
        """Operations of one dense backward pass: gradients at weights, and at inputs behind which something learns."""
        crossed = sum(w.dense for site, w in self.work.items() if self.crosses(site))
        return Operations(0, self.at_weights + crossed + self._at_products(self._sources))

    @property
    def weights_crossed(self) -> int:
        """Number of weights that errors cross if they go back by the forward weights."""
        crossed = {site: synapse for site, synapse in self.wiring.synapses.items() if self.crosses(site)}
        parts = {site: self.work[site].parts if site in self.work else 1 for site in crossed}
        at_layers = sum(parts[site] * math.prod(synapse.weight) for site, synapse in crossed.items())
        pairs = [pair for p in self.products for pair in zip(p.factors, reversed(p.weights))]
        return at_layers + sum(other for factor, other in pairs if not factor.isdisjoint(self._sources))

    def learns(self, site: str) -> bool:
        """Return True if the weight of a layer learns, or a parameter that it is computed from.

        Args:
            site: Name of the layer.
        """
        return any(not is_bias(name) for name in self._learning(site))

    def learns_bias(self, site: str) -> bool:
        """Return True if the bias of a layer learns.

        Args:
            site: Name of the layer.
        """
        return any(map(is_bias, self._learning(site)))

    def crosses(self, site: str) -> bool:
        """Return True if an error has to cross a layer because something in front of it learns.

        Args:
            site: Name of the layer.
        """
        return site in self._crossed

    @cached_property
    def taught(self) -> frozenset[str]:
        """Neurons whose error some parameter learns from directly, with no other neurons in between."""
        receivers = self.wiring.receivers.items()
        return frozenset().union(*(sites for name, sites in receivers if name not in self.frozen))

    @cached_property
    def behind(self) -> frozenset[str]:
        """Neurons behind something that learns, at any distance."""
        found, todo = set[str](), list(self.taught)
        while todo:
            site = todo.pop()
            if site not in found:
                found.add(site)
                todo.extend(self.wiring.successors[site])
        return frozenset(found)

    @cached_property
    def _crossed(self) -> frozenset[str]:
        synapses = self.wiring.synapses
        told = [site for site, synapse in synapses.items() if not self.behind.isdisjoint(synapse.senders)]
        found, todo = set[str](), [*told, *filter(self._crossed_at_once, synapses)]
        while todo:
            site = todo.pop()
            if site not in found:
                found.add(site)
                todo.extend(after for name in synapses[site].parameters for after in self.wiring.passes[name])
        return frozenset(found)

    @property
    def _learned(self) -> Set[str]:
        return self.wiring.receivers.keys() - self.frozen

    @property
    def _sources(self) -> Set[str]:
        """Parameters that learn, and neurons behind such: an error has to reach them."""
        return self._learned | self.behind

    def _at_products(self, sources: Set[str]) -> float:
        """Return the multiplications for gradients at factors that are computed from some neurons or parameters."""
        return sum(p.work.dense * (not factor.isdisjoint(sources)) for p in self.products for factor in p.factors)

    def _learning(self, site: str) -> Iterator[str]:
        return (name for name in self.wiring.synapses[site].parameters if name not in self.frozen)

    def _crossed_at_once(self, site: str) -> bool:
        """Return True if something learns in front of a layer, with no neurons in between."""
        return any(site in sites for name, sites in self.wiring.passes.items() if name not in self.frozen)


def is_bias(parameter: str) -> bool:
    """Return True if a parameter of a layer is its bias, or one that its bias is computed from."""
    return parameter.rpartition(".")[2] == "bias" or "parametrizations.bias." in parameter
