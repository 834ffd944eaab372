"""The wiring of a network: which neurons each layer feeds, read from one probe, whatever the topology."""

from dataclasses import dataclass, field
from typing import Any

import torch

from spikewright.dataflow import Bend
from spikewright.network.form import Form
from spikewright.network.sites import Sites
from spikewright.neurons import Neuron

NORM = "statistics of a batch"
"""Operation of a `Bend` at batch norm in training mode."""


@dataclass(frozen=True)
class Synapse:
    """One call of a layer with a weight (linear or convolution), and its place in the network.

    Attributes:
        name: Name of the layer's call.
        parameters: Names of the layer's parameters.
        weight: Shape of the weight.
        receivers: Neurons that its current reaches in the same step before any other neuron, by name.  Empty for a
            readout.
        senders: Neurons that its input comes from, by name.
        reads_input: True if a part of its input comes directly from the network's input.
        reads_currents: True if a part of its input comes from another layer without a neuron in between.
        bends: Places where the input of its receivers is not linear in its current with constant factors.  Set of
            `Bend(op, module)`; factors that depend on data or are drawn count.
        direct: True if its current also reaches the output without crossing a neuron.
        elementwise: True if every entry of what its receivers get depends on one entry of its current, the one at the
            same place.  Default: False.
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
    elementwise: bool = False

    @property
    def linear(self) -> bool:
        """True if only linear operations with constant factors lie between the layer and its receivers."""
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
    """The graph of layers and neurons of a network, as one step shows it.  `Network.wiring` returns it.

    Names of neurons and layers are names of calls: a module that is called several times in one step appears as
    `name`, `name#2`, and so on.

    Attributes:
        sites: Modules of the network whose forward a run replaces.
        neurons: Neurons, by name of the call.
        synapses: Layers with weights, by name of the call.
        receivers: For every parameter, the neurons that it reaches before any other neuron.
        successors: For every neuron, the neurons that its spikes reach before any other, feedback included.
        carried: Parameters whose effect a delay or a feedback connection carries to later steps, on the way to the
            neurons they reach or right behind these.
        shapes: Output shape of every neuron, of one sample in one step, `[*feature]`; `[rows, *feature]` where the
            network has folded several rows of a sample (patches, windows) into the batch.
        output: Shape of the output of one sample in one step, `[*feature]`.
        overwritten: Neurons whose current the network writes to in place after the call.
        rewritten: Neurons whose spikes the network writes to in place.
        passes: For every parameter, the layers that its effect crosses on the way to the output, without its own.
        outside: Parameters of layers that something outside the layer uses too.
        unseen: Parameters of linear operations that belong to no recognised layer.
        curves: Places where the input of neurons, or the output, is not linear in the output of other neurons or in
            the input.
        random: Modules that draw random numbers themselves.
        activations: Number of entries that enter and leave neurons and layers, per sample and step.
        writes_input: True if the network writes to its input in place; a run then gives it a copy.
        moving: Modules that change their weight at every use (power iteration in training mode), so that results
            depend on the chunks.
        recomputed: Layers that the backward pass calls again; hooks of a rule are not called then.
        unvouched: Parameters whose gradients pass through foreign code: hooks, or a custom backward pass, about which
            nothing can be claimed.
        coupled: Parameters whose gradient of the output of one sample changes with the samples beside it.
        repeated: Neurons that one line of code calls several times in a step, with currents of the same layers.
        read_outside: Parameters of layers whose values something outside the layer reads, with or without gradient:
            copies, arrays, numbers, and parameters that share memory.
        disordered: Layers whose rows are not those of steps and samples in order: folded in another order, put side by
            side, reversed, or not rows of the input.
        notes: Attributes and buffers that a forward changes and that no output depends on.  Pairs (module, attribute),
            where "*" stands for all attributes.
        memory: What rules have measured of the memory of a training step, by what it depends on; it lasts as long as
            this wiring is up to date.
        outputs: Form of several outputs, which are packed as one, `[*number]`; `None` for one.
        at_once: For every neuron, those of its `successors` that its spikes reach in the same step.
        sent: Output of the source of every feedback connection: shape of one sample in one step, `[*feature]`, and
            type.  By name of the connection; without those whose source is not called.
        read_out: Neurons whose output reaches that of the network before any other neuron.
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
    memory: dict[Any, Any] = field(default_factory=dict[Any, Any], compare=False, repr=False)
    outputs: Form | None = None
    at_once: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    sent: dict[str, tuple[tuple[int, ...], torch.dtype]] = field(default_factory=dict[str, Any])
    read_out: frozenset[str] = frozenset()

    def is_last(self, neuron: str) -> bool:
        """True if the spikes of a neuron reach no neuron, itself included.

        Args:
            neuron: Name of the neuron's call.
        """
        return not self.successors[neuron]

    def is_sender(self, neuron: str) -> bool:
        """True if the spikes of a neuron reach a layer or a neuron; otherwise they are the output of the network.

        Args:
            neuron: Name of the neuron's call.
        """
        return bool(self.successors[neuron]) or any(neuron in s.senders for s in self.synapses.values())

    @property
    def ordinary(self) -> list[str]:
        """Parameters outside every recognised layer; under any rule they get the ordinary gradient of their step."""
        at_synapses = {name for synapse in self.synapses.values() for name in synapse.parameters}
        return [name for name in self.receivers if name not in at_synapses]

    def synapse_of(self, parameter: str) -> list[Synapse]:
        """Return the calls of layers that a parameter belongs to; empty for norms, gains and functional calls.

        Args:
            parameter: Name of the parameter.
        """
        return [synapse for synapse in self.synapses.values() if parameter in synapse.parameters]


def module_name(site: str) -> str:
    """Return the module of a site: its name without the count of the call."""
    return site.partition("#")[0]
