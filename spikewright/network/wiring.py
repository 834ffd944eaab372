"""The wiring of a network: which neurons each layer feeds, read from one probe, whatever the topology."""

from dataclasses import dataclass

from spikewright.dataflow import Bend
from spikewright.network.sites import Sites
from spikewright.neurons import Neuron

NORM = "statistics of a batch"
"""Operation of a `Bend` at batch norm in training mode."""


@dataclass(frozen=True)
class Synapse:
    """One linear operation of the network, and where it stands.

    Attributes:
        name: Site of the synapse.
        parameters: Names of the module's parameters.
        weight: Shape of the weight.
        receivers: Neurons its current reaches in the same step before any other neuron, by site.  Empty: a readout.
        senders: Neurons its input comes from, by site.
        reads_input: Part of its input comes straight from the network's input.
        reads_currents: Part of its input comes from another synapse without a neuron in between.
        bends: Where what its receivers get stops being linear in its current, with factors that neither depend on data
            nor are drawn.
        direct: Its current also reaches the output without crossing a neuron.
    """

    name: str
    parameters: tuple[str, ...]
    weight: tuple[int, ...]
    receivers: dict[str, Neuron]
    senders: dict[str, Neuron]
    reads_input: bool
    reads_currents: bool
    bends: frozenset[Bend]
    direct: bool

    @property
    def linear(self) -> bool:
        """Whether between it and its receivers lie only linear operations with constant factors."""
        return not self.bends


@dataclass(frozen=True)
class Curve:
    """A place where a neuron's current, or the output, is not linear in what neurons emit, or in the input.

    Attributes:
        source: Site of the neurons, or "" for the network's input.
        target: Site of the neurons it reaches, or "" for the output.
        bend: The place.
    """

    source: str
    target: str
    bend: Bend


@dataclass(frozen=True)
class Wiring:
    """The network's graph between neurons.

    Attributes:
        sites: The places of the module that a run answers for.
        neurons: Every neuron call, by site.
        synapses: Every synapse call, by site.
        receivers: For every parameter, the neurons it reaches before any other neuron.
        successors: For every neuron, the neurons its spikes reach before any other (feedback included).
        carried: Parameters whose signal a delay or a feedback connection (any module but a neuron) carries to later
            steps, on the way to the neurons they reach or right behind these.
        shapes: What every neuron call emits of a sample in a step, `[*feature]`, without batch; `[rows, *feature]`
            where the network has folded rows of a sample (patches, windows) into the batch.
        output: Shape of one step's output, `[*feature]`, without batch.
        overwritten: Neurons whose current the network writes to in place after they have seen it.
        rewritten: Neurons whose spikes the network writes to in place.
        writes_input: Whether the network writes to its input in place; a run hands it a copy then.
        passes: For every parameter, the layers that its signal crosses on the way to the output, without its own.
        outside: Parameters of layers that something else uses too, outside of the layer.
        unseen: Parameters of linear operations that belong to no recognised layer.
        curves: Where what neurons get, or the output, is not linear in what other neurons emit or in the input.
        random: Modules that draw random numbers by themselves.
        activations: Entries of what enters and leaves neurons and synapses, per sample and step.
        moving: Modules of torch that move their weight on at every use (power iteration in training mode), so that
            other chunks see other weights.
        recomputed: Layers that the backward pass calls again, by name; no hook of a rule is called there.
        unvouched: Parameters whose gradients pass code of others: hooks, or a backward pass that is no derivative that
            torch knows of.  It may do with them what it likes, and something else where steps are cut otherwise.
        coupled: Those of them whose gradients, of what a sample returns, change with the samples beside it.
        repeated: Neurons that one place of the code calls several times in a step, with currents of the same layers.
        read_outside: Parameters of layers of which something reads values outside of these, gradients or not: copies of
            them, arrays and numbers too, and other parameters in the same memory.
        disordered: Layers whose rows are not those of steps and samples in order: rows folded in another order, put
            side by side or reversed, or not of the input at all.
        notes: Attributes and buffers that a forward changes and that no output depends on: (module, attribute), where
            "*" stands for all.
    """

    sites: Sites
    neurons: dict[str, Neuron]
    synapses: dict[str, Synapse]
    receivers: dict[str, frozenset[str]]
    successors: dict[str, frozenset[str]]
    carried: frozenset[str]
    shapes: dict[str, tuple[int, ...]]
    output: tuple[int, ...]
    overwritten: frozenset[str]
    rewritten: frozenset[str]
    passes: dict[str, frozenset[str]]
    outside: frozenset[str]
    unseen: frozenset[str]
    curves: tuple[Curve, ...]
    random: frozenset[str]
    activations: int
    writes_input: bool = False
    moving: frozenset[str] = frozenset()
    recomputed: frozenset[str] = frozenset()
    unvouched: frozenset[str] = frozenset()
    coupled: frozenset[str] = frozenset()
    repeated: frozenset[str] = frozenset()
    read_outside: frozenset[str] = frozenset()
    disordered: frozenset[str] = frozenset()
    notes: frozenset[tuple[str, str]] = frozenset()

    def is_last(self, neuron: str) -> bool:
        """Whether no other neuron, nor itself, sees this neuron's spikes."""
        return not self.successors[neuron]

    def is_sender(self, neuron: str) -> bool:
        """Whether a synapse or neurons see what this neuron emits; if not, it is the output of the network."""
        return bool(self.successors[neuron]) or any(neuron in s.senders for s in self.synapses.values())

    @property
    def ordinary(self) -> list[str]:
        """Parameters outside every recognised synapse: whatever the rule, they get the gradient of their own step."""
        at_synapses = {name for synapse in self.synapses.values() for name in synapse.parameters}
        return [name for name in self.receivers if name not in at_synapses]

    def synapse_of(self, parameter: str) -> list[Synapse]:
        """Return the synapse calls that a parameter belongs to; empty for norms, gains, functional calls."""
        return [synapse for synapse in self.synapses.values() if parameter in synapse.parameters]


def module_name(site: str) -> str:
    """Return the module of a site: its name without the count of the call."""
    return site.partition("#")[0]
