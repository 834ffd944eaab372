"""The wiring of a network, read from the graph and the dataflow of a probe."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikewright.dataflow import Bend, Dataflow
from spikewright.network.probing.graph import Graph
from spikewright.network.probing.hooks_of_others import hooks_on_gradient
from spikewright.network.probing.recorder import INPUT, LAYER, NEURON, THROUGH, Recorder
from spikewright.network.sites import Sites
from spikewright.network.wiring import Curve, Synapse, Wiring, module_name
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
        hooked: Modules with hooks of somebody's, which a probe does not call: no claim is made near them.
        nodes: Graph nodes whose gradients go through hooks.
    """
    module = sites.module
    modules = dict(module.named_modules())
    names = {id(p): name for name, p in module.named_parameters()}
    neurons = {seen.site: modules[module_name(seen.site)] for seen in recorder.neurons}
    graph = Graph(recorder, names, x)
    receivers: dict[str, set[str]] = {name: set() for name in names.values()}
    successors: dict[str, set[str]] = {site: set() for site in neurons}
    fed: dict[str, set[str]] = {seen.site: set() for seen in recorder.synapses}
    bends: dict[str, set[Bend]] = {seen.site: {*left, *hooked} for seen in recorder.synapses}
    for seen in recorder.neurons:
        for p in _own(modules[module_name(seen.site)]):
            receivers[names[id(p)]].add(seen.site)
        for kind, name, step in graph.walk(seen.before):
            if kind == "neuron":
                successors[name].add(seen.site)
            elif kind == "synapse" and step == seen.step:
                fed[name].add(seen.site)
                bends[name].update(seen.depends.get(LAYER + name, _UNSEEN))
            elif kind == "parameter" and name:
                receivers[name].add(seen.site)
    direct = {name for kind, name, _ in graph.walk(output.grad_fn) if kind == "synapse"}
    kept = [value for site, values in state.items() if site not in neurons for value in values.values()]
    held = {name for value in kept for _, name, _ in graph.walk(value.grad_fn)}

    owned = {
        seen.site: tuple(names[id(p)] for p in _own(modules[module_name(seen.site)])) for seen in recorder.synapses
    }
    passes: dict[str, set[str]] = {name: set() for name in names.values()}
    for seen in recorder.synapses:
        for kind, name, _ in graph.walk(seen.before):
            for crossed in owned[name] if kind == "synapse" else (name,) if kind == "parameter" and name else ():
                passes[crossed].add(seen.site)
    own_hooks = {name for name, p in module.named_parameters() if any(hooks_on_gradient(p))}
    ends = [output.grad_fn, *(seen.before for seen in (*recorder.neurons, *recorder.synapses))]
    loose = {name for end in ends for kind, name, _ in graph.walk(end, False) if kind == "parameter"}
    inside = {name for parameters in owned.values() for name in parameters}
    synapses = {
        seen.site: Synapse(
            name=seen.site,
            parameters=owned[seen.site],
            weight=recorder.weights[seen.site],
            receivers={n: neurons[n] for n in sorted(fed[seen.site])},  # type: ignore[misc]
            senders={n: neurons[n] for n in sorted(_named(seen.depends, NEURON)) if n in neurons},  # type: ignore[misc]
            reads_input=INPUT in seen.depends,
            reads_currents=any(True for _ in _named(seen.depends, LAYER)),
            bends=frozenset(bends[seen.site]),
            direct=seen.site in direct,
        )
        for seen in recorder.synapses
    }
    return Wiring(
        sites=sites,
        neurons=neurons,  # type: ignore[arg-type]
        synapses=synapses,
        receivers={name: frozenset(sites) for name, sites in receivers.items()},
        successors={site: frozenset(sites) for site, sites in successors.items()},
        carried=frozenset(name for name, sites in receivers.items() if held & {name, *sites}),
        shapes={seen.site: seen.shape for seen in recorder.neurons},
        output=tuple(output.shape[2:]),
        overwritten=frozenset(seen.site for seen in recorder.neurons if seen.overwritten),
        rewritten=frozenset(seen.site for seen in recorder.neurons if seen.rewritten),
        passes={name: frozenset(sites) for name, sites in passes.items()},
        outside=frozenset(loose & inside),
        unseen=frozenset(graph.weights(ends)) - inside - {""},
        curves=tuple(_curves(recorder, flow.depends(output), left)),
        random=random,
        unvouched=frozenset(names.values() if hooked else graph.behind_code_of_others(ends, nodes)) | own_hooks,
        activations=recorder.numbers,
    )


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
