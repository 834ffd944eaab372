"""The converted model: a copy with neurons of this library, which shares the parameters."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop.attributes import RESTS, constants_of, is_state
from spikewright.interop.copies import copied
from spikewright.interop.frames import Converted, OverTime, Replaced, StateSequential, Step, joined, over_time
from spikewright.interop.mapping import Mapping as NeuronMapping
from spikewright.interop.mapping import Refused, Trained
from spikewright.interop.reading import Found, has_hooks, library_of, refusal
from spikewright.interop.reference import Trace
from spikewright.layers import Feedback, StepDropout
from spikewright.network import Network
from spikewright.synapses.operations import Operation

Made = TypeVar("Made")


def build(
    model: nn.Module,
    found: list[Found],
    mappings: Mapping[str, NeuronMapping],
    trace: Trace,
    step: Step | None,
    axis: int | None,
) -> nn.Module:
    """Return a copy of a model with neurons of this library in place of another's.

    Args:
        model: The model.
        found: Its neurons.
        mappings: What each is here, by name.
        trace: Its own run.
        step: The user's function for one step, if there is one.
        axis: Where its forward wants an axis of length 1 for time; `None` if nowhere.
    """
    replaced: dict[int, nn.Module] = {}
    for each in found:
        mapping = mappings[each.name]
        own_axis = axis if each.form() in _AXES else None
        asked = {name for name in trace.asked.get(each.name, ()) if _is_needed(each.module, name)}
        bare = not mapping.states and mapping.returns in ((), ("spikes",)) and own_axis is None and not asked
        told = mapping.returns, each.name, each.library.resting.get(each.kind, 1), each.dropped
        new = (
            mapping.placed
            if bare
            else Replaced(mapping.placed, mapping.states, own_axis, *told, *_attributes(each, mapping, asked))
        )
        _keep_mode(each.module, new, axis)
        replaced[id(each.module)] = new
    copy = copied(model, replaced, buffers=True)
    for name in trace.joint:
        norm = copy.get_submodule(name)
        try:
            joint = joined(norm, {"_step_mode"})
        except Refused as error:
            raise refusal(name, type(norm).__name__, "torch, called on a sequence", error) from error
        _put(copy, name, over_time(joint, axis if getattr(norm, "step_mode", "s") == "m" else None))
    if axis is not None:
        copy = _each(copy, "", lambda name, m: OverTime(m, axis) if name in trace.framed and _is_torch(m) else None)
    copy = _each(copy, "", _dropout)
    copy = _each(copy, "", lambda name, m: _plain(name, m, axis))
    if axis is None:
        for module in copy.modules():
            if "_step_mode" in vars(module):
                module._step_mode = "s"  # type: ignore[assignment]
    if isinstance(copy, StateSequential):
        copy = copy.bare()
    asked = step is not None or axis is not None
    return (
        Converted(copy, axis if step is None else None, step) if asked or _answers(copy) or _is_stacked(trace) else copy
    )


def _is_needed(neuron: nn.Module, name: str) -> bool:
    """True for what the forward reads of a neuron, or calls to put it to rest."""
    return name in RESTS or not callable(getattr(neuron, name, None))


def _attributes(
    each: Found, mapping: NeuronMapping, asked: set[str]
) -> tuple[dict[str, Any], dict[str, Trained], frozenset[str]]:
    """Return the constants of a neuron that the forward reads, the trained ones, and the states among what it reads."""
    states = frozenset(name for name in asked if is_state(each.module, name))
    trained = {constant.theirs: constant for constant in mapping.trained if constant.theirs in asked}
    return constants_of(each.module, asked - states - RESTS), trained, states


_AXES = {"time": 0, "batch": 1}
"""Where the axis of time is in what a neuron takes, by its form."""


def frames(found: list[Found], trace: Trace, step: Step | None) -> list[int | None]:
    """Return the forms in which the copy may be called, the simplest first: rows, or rows with an axis for time."""
    if step is not None:
        return [next((_AXES[each.form()] for each in found if each.form() in _AXES), None)]
    if trace.form == "step":
        return [None]
    return [None, 1] if trace.form in ("batch", "folded") else [None, 0]


def tried(module: nn.Module, x: Tensor, neurons: Mapping[int, str]) -> Network:
    """Return the converted model as a network, after a run of a few steps.

    Raises:
        ConversionError: It does not run, or a neuron is not called exactly once in a step.
    """
    net, seen = Network(module), _Calls()
    with torch.no_grad():
        output, _ = net.run(x[:2].clone(), observers=[seen])
    if isinstance(module, Converted) and isinstance(output, Tensor):
        module.dims = output.dim() - 1
    called = [neurons.get(id(net.sites.temporal.get(site.partition("#")[0]))) for site in seen.sites]
    steps = 2 if any(isinstance(m, Feedback) for m in module.modules()) else 1  # which run one by one then
    for name in neurons.values():
        if called.count(name) != (steps if len(x) > 1 else 1):
            raise ConversionError(
                f"convert: in the converted model '{name}' is called {called.count(name)} times in a step, and has to "
                "be called once, with its state from step to step. Give step=lambda model, x: ..., a function of the "
                "model and the input of one step."
            )
    return net


def in_first_form(axes: list[int | None], run: Callable[[int | None], Made]) -> Made:
    """Return what a function makes of the first form that it can make it of.

    Args:
        axes: Forms, as of `frames`; at least one.
        run: The function.

    Raises:
        Exception: What it raised for the last form, if it can make it of none.
    """
    last = Exception()
    for axis in axes:
        try:
            return run(axis)
        except Exception as error:  # the next form
            last = error
    raise last


class _Calls:
    def __init__(self) -> None:
        self.sites: list[str] = []

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
        self.sites.append(site)

    def potential(self, site: str, potential: Tensor) -> None:
        pass

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        pass


def _is_torch(module: nn.Module) -> bool:
    return all(library_of(base) is None for base in type(module).__mro__)


def _is_stacked(trace: Trace) -> bool:
    """True if the model returns an axis of length 1 for the one step that it does."""
    samples = next(iter(trace.spikes.values())).shape[1]
    first = trace.outputs[0] if trace.form == "step" else []
    return any(y.dim() > 2 and y.shape[:2] == (1, samples) for y in first)


def _answers(copy: nn.Module) -> bool:
    """True if the output may hold placeholders for states."""
    return any(isinstance(m, Replaced | StateSequential) for m in copy.modules())


def _each(root: nn.Module, name: str, change: Callable[[str, nn.Module], nn.Module | None]) -> nn.Module:
    """Return a module after `change` has had its say about it and about all of its parts."""
    done: dict[int, nn.Module] = {}

    def walk(name: str, module: nn.Module) -> nn.Module:
        if id(module) in done:
            return done[id(module)]
        new = change(name, module)
        result = module if new is None else new
        done[id(module)] = done[id(result)] = result
        inside(name, result, module)
        return result

    def inside(name: str, module: nn.Module, before: nn.Module) -> None:
        for key, child in list(module._modules.items()):
            if child is not None and child is before:  # which `change` has put into another module
                inside(name, child, child)
            elif child is not None:
                module._modules[key] = walk(f"{name}.{key}".lstrip("."), child)

    return walk(name, root)


def _dropout(name: str, module: nn.Module) -> nn.Module | None:
    kind = type(module)
    if isinstance(module, nn.Dropout) and kind is nn.Dropout:
        return StepDropout(module.p).train(module.training)
    if isinstance(module, nn.Dropout1d | nn.Dropout2d | nn.Dropout3d) and module.p > 0:
        raise refusal(
            name,
            kind.__name__,
            "torch, called anew at every step",
            Refused(
                "it drops other channels at every step, and here a mask of channels is kept for the sequence",
                "Use nn.Dropout, or p=0",
            ),
        )
    return None


def _plain(name: str, module: nn.Module, axis: int | None) -> nn.Module | None:
    for base in type(module).__mro__:
        library = library_of(base)
        if library is None:
            continue
        try:
            found = library.plain(module, axis)
            _check_hooks(module, found)
        except Refused as error:
            raise refusal(name, type(module).__name__, library.name, error) from error
        if found is not None:
            _keep_mode(module, found, axis)
        return found
    return None


def _keep_mode(module: Any, new: Any, axis: int | None) -> None:
    """Put the step mode of SpikingJelly on a module, for a forward that asks for it."""
    if hasattr(module, "step_mode"):
        new.step_mode = "s" if axis is None else module.step_mode


def _check_hooks(module: nn.Module, plain: nn.Module | None) -> None:
    kept = plain.inner if isinstance(plain, OverTime) else plain
    if kept is not None and has_hooks(module) and not has_hooks(kept):
        raise Refused(
            "hooks are registered on it, which would be lost with it",
            "Remove them; observers of Network.run see what layers and neurons receive and send",
        )


def _put(root: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, last = name.rpartition(".")
    root.get_submodule(owner)._modules[last] = module
