"""The wiring of a network, read from the graph and the dataflow of a probe."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.nn.utils import parametrize

from spikewright.dataflow import Bend, Dataflow
from spikewright.probing.hooks_of_others import hooks_on_gradient
from spikewright.probing.recorder import INPUT, LAYER, NEURON, THROUGH, Recorder
from spikewright.temporal import State
from spikewright.wiring import Curve, Synapse, Wiring, module_name

_UNSEEN = (Bend("something past the dispatcher", ""),)
_PRODUCTS = frozenset("Addmm Mm Bmm Baddbmm Addmv Mv Linear Convolution ConvolutionOverrideable".split())
_SHAPES = frozenset("T Transpose Permute View UnsafeView Reshape ReshapeAlias Unsqueeze Squeeze Expand ToCopy".split())
"""Nodes of the graph: linear operations with a weight, and what may stand between these and a parameter."""


class _Graph:
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

    def behind_code_of_others(self, starts: Iterable[Any]) -> Iterator[str]:
        """Yield the names of parameters whose gradients pass a backward pass that torch has not derived."""
        nodes = list(_ancestors(starts))
        for node in _ancestors(node for node in nodes if _is_of_others(node)):
            if (variable := getattr(node, "variable", None)) is not None:
                yield self._names.get(id(variable), "")

    def weights(self, starts: Iterable[Any]) -> Iterator[str]:
        """Yield the names of parameters that a linear operation multiplies something by."""
        for node in _ancestors(starts):
            parents = [parent for parent, _ in node.next_functions if parent is not None]
            while parents and _kind(node) in _PRODUCTS:
                parent = parents.pop()
                if (variable := getattr(parent, "variable", None)) is not None:
                    yield self._names.get(id(variable), "")
                elif _kind(parent) in _SHAPES:
                    parents.extend(p for p, _ in parent.next_functions if p is not None)


def _ancestors(starts: Iterable[Any]) -> Iterator[Any]:
    """Yield graph nodes and all that they compute from."""
    todo, seen = list(starts), set()
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo.extend(parent for parent, _ in node.next_functions)
            yield node


def _is_of_others(node: Any) -> bool:
    """Whether the backward pass of a node is written by others than torch and this library."""
    if not isinstance(node, BackwardCFunction):
        return "CppNode" in node.name()
    kind = getattr(type(node), "_forward_cls", type(node))
    package, _, module = kind.__module__.partition(".")
    return package not in ("torch", __name__.partition(".")[0]) or module.startswith("_library")


def read_wiring(
    module: nn.Module,
    recorder: Recorder,
    x: Tensor,
    output: Tensor,
    state: State,
    flow: Dataflow,
    left: Iterable[Bend],
    random: frozenset[str],
    hooked: Collection[Bend] = (),
) -> Wiring:
    """Read who feeds whom.

    Args:
        module: The network's module.
        recorder: What the probe saw.
        x: The probe's input, a leaf, `[time, batch, *feature]`.
        output: The probe's output, `[time, batch, *feature]`.
        state: Where the probe ended, with its graph.
        flow: Watched the operations.
        left: Where values that depend on data were given to Python: nothing behind can be vouched for.
        random: Modules that draw random numbers by themselves.
        hooked: Modules with hooks of somebody's, which a probe does not call: no claim is made near them.
    """
    modules = dict(module.named_modules())
    names = {id(p): name for name, p in module.named_parameters()}
    neurons = {seen.site: modules[module_name(seen.site)] for seen in recorder.neurons}
    graph = _Graph(recorder, names, x)
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
        unvouched=frozenset(names.values() if hooked or flow.hooked else graph.behind_code_of_others(ends)) | own_hooks,
        activations=sum(s.entries for s in recorder.neurons + recorder.synapses) // (x.shape[0] * x.shape[1]),
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


def _kind(node: Any) -> str:
    return node.name().partition("Backward")[0].strip("_")


def _own(module: nn.Module) -> Iterator[nn.Parameter]:
    """Yield the parameters of a layer, parametrised ones included, without those of layers and neurons inside it."""
    yield from module.parameters(recurse=False)
    if parametrize.is_parametrized(module):
        yield from module.get_submodule("parametrizations").parameters()
