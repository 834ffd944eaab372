"""The wiring of a network, read from the graph and the dataflow of a probe."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikewright.dataflow import Bend, Dataflow
from spikewright.network.probing.elementwise import elementwise
from spikewright.network.probing.graph import Graph
from spikewright.network.probing.hooks_of_others import hooks_on_gradient
from spikewright.network.probing.recorder import INPUT, LAYER, NEURON, THROUGH, Recorder
from spikewright.network.sites import Sites
from spikewright.network.wiring import NORM, Curve, Synapse, Wiring, module_name
from spikewright.temporal import State

_UNSEEN = (Bend("something past the dispatcher", ""),)


def read_wiring(
    sites: Sites,
    recorder: Recorder,
    x: Tensor,
    output: Tensor,
    state: State,
    flow: Dataflow,
    left: Iterable[Bend],
    random: frozenset[str],
    hooked: Collection[Bend] = (),
    nodes: Collection[Any] = (),
) -> Wiring:
    """Read who feeds whom.

    Args:
        sites: The sites of the network.
        recorder: What the probe saw.
        x: The probe's input, a leaf, `[time, batch, *feature]`.
        output: The probe's output, `[time, batch, *feature]`.
        state: Where the probe ended, with its graph.
        flow: Watched the operations.
        left: Where values that depend on data were given to Python: nothing behind can be vouched for.
        random: Modules that draw random numbers by themselves.
        hooked: Modules with hooks of the user, which a probe does not call: no claim is made near them.
        nodes: Graph nodes whose gradients go through hooks.
    """
    names = {id(p): name for name, p in sites.module.named_parameters()}
    modules = {seen.site: sites.module.get_submodule(module_name(seen.site)) for seen in recorder.calls}
    owned = {site: tuple(names[id(p)] for p in _own(module)) for site, module in modules.items()}
    graph = Graph(recorder, names, x)
    neurons: Any = {seen.site: modules[seen.site] for seen in recorder.neurons}
    ways = _ways(recorder, graph, owned, names.values(), {*left, *hooked})
    apart = frozenset[str]() if hooked or nodes else elementwise(recorder, ways.fed)
    synapses = _synapses(recorder, graph, output, neurons, owned, ways, apart)
    inside = {name for synapse in synapses.values() for name in synapse.parameters}
    ends = [output.grad_fn, *(seen.before for seen in recorder.calls)]
    loose = {name for end in ends for kind, name, _ in graph.walk(end, False) if kind == "parameter"}
    own_hooks = {name for name, p in sites.module.named_parameters() if any(hooks_on_gradient(p))}
    held = _held(graph, state, neurons)
    return Wiring(
        sites=sites,
        neurons=neurons,
        synapses=synapses,
        receivers=_frozen(ways.receivers),
        successors=_frozen(ways.successors),
        at_once=_frozen(ways.at_once),
        read_out=frozenset(name for kind, name, _ in graph.walk(output.grad_fn) if kind == "neuron"),
        carried=frozenset(name for name, reached in ways.receivers.items() if held & {name, *reached}),
        shapes={seen.site: seen.shape for seen in recorder.neurons},
        output=tuple(output.shape[2:]),
        overwritten=frozenset(seen.site for seen in recorder.neurons if seen.overwritten),
        rewritten=frozenset(seen.site for seen in recorder.neurons if seen.rewritten),
        passes=_frozen(_passes(recorder, graph, owned, names.values())),
        outside=frozenset(loose & inside),
        unseen=frozenset(graph.weights(ends)) - inside - {""},
        curves=tuple(_curves(recorder, flow.depends(output), left)),
        random=random,
        unvouched=frozenset(names.values() if hooked else graph.behind_code_of_others(ends, nodes)) | own_hooks,
        activations=recorder.numbers,
    )


@dataclass(frozen=True)
class _Ways:
    """Who reaches which neurons in the same step, before any other neuron.

    Attributes:
        receivers: Neurons that each parameter reaches.
        successors: Neurons that each neuron reaches, in a later step too.
        at_once: Neurons that it reaches in the same step.
        fed: Neurons that each layer feeds.
        bends: Where what these neurons get is not linear in the current of the layer.
    """

    receivers: dict[str, set[str]]
    successors: dict[str, set[str]]
    at_once: dict[str, set[str]]
    fed: dict[str, set[str]]
    bends: dict[str, set[Bend]]


def _ways(
    recorder: Recorder,
    graph: Graph,
    owned: Mapping[str, tuple[str, ...]],
    parameters: Iterable[str],
    everywhere: Collection[Bend],
) -> _Ways:
    """Walk back from the current of every neuron to what it comes from."""
    ways = _Ways(
        receivers={name: set() for name in parameters},
        successors={seen.site: set() for seen in recorder.neurons},
        at_once={seen.site: set() for seen in recorder.neurons},
        fed={seen.site: set() for seen in recorder.synapses},
        bends={seen.site: set(everywhere) for seen in recorder.synapses},
    )
    for seen in recorder.neurons:
        for name in owned[seen.site]:
            ways.receivers[name].add(seen.site)
        for kind, name, step in graph.walk(seen.before):
            if kind == "neuron":
                ways.successors[name].add(seen.site)
                if step == seen.step:
                    ways.at_once[name].add(seen.site)
            elif kind == "synapse" and step == seen.step:
                ways.fed[name].add(seen.site)
                ways.bends[name].update(seen.depends.get(LAYER + name, _UNSEEN))
            elif kind == "parameter" and name:
                ways.receivers[name].add(seen.site)
    return ways


def _synapses(
    recorder: Recorder,
    graph: Graph,
    output: Tensor,
    neurons: Mapping[str, Any],
    owned: Mapping[str, tuple[str, ...]],
    ways: _Ways,
    apart: Collection[str],
) -> dict[str, Synapse]:
    direct = {name for kind, name, _ in graph.walk(output.grad_fn) if kind == "synapse"}
    return {
        seen.site: Synapse(
            name=seen.site,
            parameters=owned[seen.site],
            weight=recorder.weights[seen.site],
            receivers={n: neurons[n] for n in sorted(ways.fed[seen.site])},
            senders={n: neurons[n] for n in sorted(_named(seen.depends, NEURON)) if n in neurons},
            reads_input=INPUT in seen.depends,
            reads_currents=any(True for _ in _named(seen.depends, LAYER)),
            bends=frozenset(ways.bends[seen.site]),
            direct=seen.site in direct,
            elementwise=seen.site in apart and all(bend.op != NORM for bend in ways.bends[seen.site]),
        )
        for seen in recorder.synapses
    }


def _passes(
    recorder: Recorder, graph: Graph, owned: Mapping[str, tuple[str, ...]], parameters: Iterable[str]
) -> dict[str, set[str]]:
    """Return the layers that the signal of each parameter crosses."""
    passes: dict[str, set[str]] = {name: set() for name in parameters}
    for seen in recorder.synapses:
        for kind, name, _ in graph.walk(seen.before):
            for crossed in owned[name] if kind == "synapse" else (name,) if kind == "parameter" and name else ():
                passes[crossed].add(seen.site)
    return passes


def _held(graph: Graph, state: State, neurons: Collection[str]) -> set[str]:
    """Return the names of what a delay or a feedback connection carries to later steps."""
    kept = [value for site, values in state.items() if site not in neurons for value in values.values()]
    return {name for value in kept for _, name, _ in graph.walk(value.grad_fn)}


def _frozen(sets: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    return {name: frozenset(found) for name, found in sets.items()}


def _curves(recorder: Recorder, output: Any, left: Iterable[Bend]) -> Iterator[Curve]:
    for target, depends in [*((seen.site, seen.depends) for seen in recorder.neurons), ("", output)]:
        for name, found in depends.items():
            source = name.removeprefix(THROUGH)
            if source == INPUT or source.startswith(NEURON):
                for bend in sorted(found | set(left), key=repr):
                    yield Curve("" if source == INPUT else source.removeprefix(NEURON), target, bend)


def _named(depends: Iterable[str], prefix: str) -> Iterator[str]:
    return (name.removeprefix(prefix) for name in depends if name.startswith(prefix))


def _own(module: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters of a layer, parametrised ones included, without those of layers and neurons inside it."""
    yield from module.parameters(recurse=False)
    if parametrize.is_parametrized(module):
        yield from module.get_submodule("parametrizations").parameters()
