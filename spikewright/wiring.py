"""Who feeds whom: read once from the autograd graph of a short probe, so any topology works without tracing code."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikewright.neurons import Neuron
from spikewright.operations import Operation
from spikewright.temporal import State


@dataclass(frozen=True)
class Synapse:
    """One linear operation of the network, and where it stands.

    Attributes:
        name: Site of the synapse.
        parameters: Names of the module's parameters.
        weight: Shape of the weight.
        receivers: Neurons its current reaches before any other neuron, by site.  Empty: a readout.
        senders: Neurons its input comes from, by site.
        reads_input: Part of its input comes straight from the network's input.
        reads_currents: Part of its input comes from another synapse without a neuron in between.
        linear: Between it and its receivers lie only linear operations.
        direct: Its current also reaches the output without crossing a neuron.
    """

    name: str
    parameters: tuple[str, ...]
    weight: tuple[int, ...]
    receivers: dict[str, Neuron]
    senders: dict[str, Neuron]
    reads_input: bool
    reads_currents: bool
    linear: bool
    direct: bool


@dataclass(frozen=True)
class Wiring:
    """The network's graph between neurons.

    Attributes:
        neurons: Every neuron call, by site.
        synapses: Every synapse call, by site.
        receivers: For every parameter, the neurons it reaches before any other neuron.
        successors: For every neuron, the neurons its spikes reach before any other (feedback included).
        carried: Parameters whose signal a delay or a feedback connection (any module but a neuron) carries to later
            steps, on the way to the neurons they reach or right behind these.
        shapes: What every neuron call emits in a step, `[*feature]`, without batch.
        output: Shape of one step's output, `[*feature]`, without batch.
        overwritten: Neurons whose current the network writes to in place after they have seen it.
        rewritten: Neurons whose spikes the network writes to in place.
        activations: Entries of what enters and leaves neurons and synapses, per sample and step.
        recomputed: Layers that the backward pass calls again, by name; no hook of a rule is called there.
    """

    neurons: dict[str, Neuron]
    synapses: dict[str, Synapse]
    receivers: dict[str, frozenset[str]]
    successors: dict[str, frozenset[str]]
    carried: frozenset[str]
    shapes: dict[str, tuple[int, ...]]
    output: tuple[int, ...]
    overwritten: frozenset[str]
    rewritten: frozenset[str]
    activations: int
    recomputed: frozenset[str] = frozenset()

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


class Seen:
    """What a probe saw at a site.  Graph nodes are noted at once: what is written in place later gets another one.

    Args:
        site: Of a neuron or synapse.
        entering: Its input, with its graph.
        leaving: Its output, with its graph.
    """

    def __init__(self, site: str, entering: Tensor, leaving: Tensor) -> None:
        self.site, self.entering, self._leaving = site, entering, leaving
        self.before = entering.grad_fn
        whole = leaving if leaving._base is None else leaving._base  # what is written to a view changes its base's node
        self.after = {leaving.grad_fn, whole.grad_fn} - {None}
        self.entries = entering.numel() + leaving.numel()
        self.shape = tuple(leaving.shape[1:])
        self._versions = entering._version, leaving._version

    @property
    def overwritten(self) -> bool:
        """Whether the input has been written to since."""
        return self.entering._version > self._versions[0]

    @property
    def rewritten(self) -> bool:
        """Whether the output has been written to since."""
        return self._leaving._version > self._versions[1]


@dataclass
class Recorder:
    """An observer that keeps what a probe needs."""

    neurons: list[Seen] = field(default_factory=list)
    synapses: list[Seen] = field(default_factory=list)
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        self.neurons.append(Seen(site, current, spikes))

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        self.synapses.append(Seen(site, x, current))
        self.weights[site] = tuple(weight.shape)


def read_wiring(module: nn.Module, recorder: Recorder, x: Tensor, output: Tensor, state: State) -> Wiring:
    """Read who feeds whom from a recorded probe.

    Args:
        module: The network's module.
        recorder: What the probe saw.
        x: The probe's input, a leaf.
        output: The probe's output, `[time, batch, *feature]`.
        state: Where the probe ended, with its graph.
    """
    modules = dict(module.named_modules())
    names = {id(p): name for name, p in module.named_parameters()}
    neurons = {seen.site: modules[module_name(seen.site)] for seen in recorder.neurons}
    marks: dict[Any, tuple[str, str]] = {
        node: (kind, seen.site)
        for kind, found in (("synapse", recorder.synapses), ("neuron", recorder.neurons))
        for seen in found
        for node in seen.after
    }

    def walk(start: Any, across_synapses: bool) -> Iterator[tuple[str, str, bool]]:
        """Yield (kind, name, reached linearly) of what a graph node computes from, stopping at neurons."""
        todo, seen = [(start, True)], set()
        while todo:
            node, linear = todo.pop()
            if node is None or (node, linear) in seen:
                continue
            seen.add((node, linear))
            kind, name = marks.get(node, ("", ""))
            if kind:
                yield kind, name, linear
            elif (variable := getattr(node, "variable", None)) is not None:
                yield ("input", "", linear) if variable is x else ("parameter", names.get(id(variable), ""), linear)
            if kind == "neuron" or (kind == "synapse" and not across_synapses):
                continue
            straight = linear and (kind == "synapse" or _is_linear(node))
            todo.extend((parent, straight) for parent, _ in node.next_functions)

    receivers: dict[str, set[str]] = {name: set() for name in names.values()}
    successors: dict[str, set[str]] = {site: set() for site in neurons}
    fed: dict[str, set[str]] = {seen.site: set() for seen in recorder.synapses}
    bent: set[str] = set()
    for site, current in ((seen.site, seen.before) for seen in recorder.neurons):
        for p in modules[module_name(site)].parameters():
            receivers[names[id(p)]].add(site)
        for kind, name, linear in walk(current, across_synapses=True):
            if kind == "neuron":
                successors[name].add(site)
            elif kind == "synapse":
                fed[name].add(site)
                if not linear:
                    bent.add(name)
            elif kind == "parameter" and name:
                receivers[name].add(site)
    direct = {name for kind, name, _ in walk(output.grad_fn, across_synapses=True) if kind == "synapse"}
    kept = [value for site, values in state.items() if site not in neurons for value in values.values()]
    held = {name for value in kept for _, name, _ in walk(value.grad_fn, across_synapses=True)}

    synapses = {}
    for site, arrived, before in ((seen.site, seen.entering, seen.before) for seen in recorder.synapses):
        sources = {(kind, name) for kind, name, _ in walk(before, across_synapses=False)}
        if arrived is x or before is None:
            sources.add(("input", ""))
        synapses[site] = Synapse(
            name=site,
            parameters=tuple(names[id(p)] for p in _own(modules[module_name(site)])),
            weight=recorder.weights[site],
            receivers={n: neurons[n] for n in sorted(fed[site])},  # type: ignore[misc]
            senders={name: neurons[name] for kind, name in sorted(sources) if kind == "neuron"},  # type: ignore[misc]
            reads_input=("input", "") in sources,
            reads_currents=any(kind == "synapse" for kind, _ in sources),
            linear=site not in bent,
            direct=site in direct,
        )
    return Wiring(
        neurons=neurons,  # type: ignore[arg-type]
        synapses=synapses,
        receivers={name: frozenset(sites) for name, sites in receivers.items()},
        successors={site: frozenset(sites) for site, sites in successors.items()},
        carried=frozenset(name for name, sites in receivers.items() if held & {name, *sites}),
        shapes={seen.site: seen.shape for seen in recorder.neurons},
        output=tuple(output.shape[2:]),
        overwritten=frozenset(seen.site for seen in recorder.neurons if seen.overwritten),
        rewritten=frozenset(seen.site for seen in recorder.neurons if seen.rewritten),
        activations=sum(s.entries for s in recorder.neurons + recorder.synapses) // (x.shape[0] * x.shape[1]),
    )


def module_name(site: str) -> str:
    """Return the module of a site: its name without the count of the call."""
    return site.partition("#")[0]


def _own(module: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters of a layer, parametrised ones included, without those of layers and neurons inside it."""
    yield from module.parameters(recurse=False)
    if parametrize.is_parametrized(module):
        yield from module.get_submodule("parametrizations").parameters()


_LINEAR = frozenset(
    (
        "Add Sub Neg Sum Mean Clone ToCopy Expand "
        "View UnsafeView Reshape ReshapeAlias Unflatten Flatten Squeeze Unsqueeze Permute Transpose T "
        "Slice Select Index Narrow Split Chunk Cat Stack Roll Flip ConstantPadNd "
        "AvgPool1D AvgPool2D AvgPool3D AdaptiveAvgPool2D AdaptiveAvgPool3D "
        "UpsampleNearest1D UpsampleNearest2D UpsampleNearest3D UpsampleBilinear2D"
    ).split()
)


def _is_linear(node: Any) -> bool:
    """Whether a graph node is linear in all it computes from; unknown ones, and products, count as not."""
    kind = node.name().partition("Backward")[0].strip("_")
    parents = [parent is not None for parent, _ in node.next_functions]
    if kind == "Mul":  # with a constant
        return sum(parents) == 1
    if kind == "Div":  # by a constant
        return parents[0] and sum(parents) == 1
    return kind in _LINEAR
