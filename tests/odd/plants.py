"""Old mistakes in what claims rest on, each put back by one change to today's code."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
from torch import Tensor, nn

from spikewright.dataflow import RANDOM, Dataflow, Dependences
from spikewright.dataflow.schemas import Operator
from spikewright.network.probing.reading import read_wiring
from spikewright.network.probing.recorder import INPUT, NEURON, Recorder
from spikewright.network.wiring import Wiring
from spikewright.neurons import Neuron
from spikewright.rules.continual._around import ContinualRule
from spikewright.rules.continual._projected import ProjectedRule

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]

PROBE = import_module("spikewright.network.probing._probe")
"""The module: the package exports a function of that name."""


# --- what is measured of a network


def constant_without_graph(operation: str, source: str) -> Plant:
    """In an operation, what depends on a source counts as a constant if no gradient passes through it."""
    dependent = Dataflow._dependent

    def has_graph(value: Any) -> bool:
        return any(isinstance(x, Tensor) and x.requires_grad for x in (value if isinstance(value, list) else [value]))

    def found(self: Dataflow, op: Operator, given: Mapping[str, Any]) -> dict[str, Dependences]:
        depends = dependent(self, op, given)
        if op.name != operation:
            return depends
        return {n: d for n, d in depends.items() if has_graph(given[n]) or not any(s.startswith(source) for s in d)}

    return lambda patch: patch.setattr(Dataflow, "_dependent", found)


product_with_data = constant_without_graph("mul", INPUT)
product_with_spikes = constant_without_graph("mul", NEURON)
product_with_random_numbers = constant_without_graph("mul", RANDOM)
quotient_by_data = constant_without_graph("div", INPUT)
index_by_data = constant_without_graph("index", INPUT)


def values_that_leave(patch: Patch) -> None:
    """Nothing is noted where a number that depends on data is given to Python."""
    patch.setattr(Operator, "exits", lambda self, given, dependent: False)


def every_backward_is_known(patch: Patch) -> None:
    """No backward pass in a graph is taken for one of others."""
    patch.setattr(import_module("spikewright.network.probing.graph"), "_is_of_others", lambda node: False)


def no_hooks_on_gradients(patch: Patch) -> None:
    """Only hooks on forwards are looked for."""
    patch.setattr(Dataflow, "_hook", lambda self, x: None)
    patch.setattr(import_module("spikewright.network.probing.first_pass"), "BACKWARD", ())


def weights_are_given(patch: Patch) -> None:
    """A current is linear in its weight, whatever that is computed from."""
    bend = Dataflow.bend
    patch.setattr(Dataflow, "bend", lambda self, x, at: None if at.op.startswith("a weight") else bend(self, x, at))


def as_many_rows_in_their_places(patch: Patch) -> None:
    """What is beside a sample is changed, but neither its row nor the number of rows."""
    patch.setattr(PROBE, "moved_rows", lambda batch, numbers: PROBE.BESIDE)


def wired(change: Callable[[Wiring, Recorder, Tensor], Wiring]) -> Plant:
    """What a probe reads is changed; `change` is given that, what was recorded, and the input."""

    def read(module: nn.Module, recorder: Recorder, x: Tensor, *others: Any, **named: Any) -> Wiring:
        return change(read_wiring(module, recorder, x, *others, **named), recorder, x)

    return lambda patch: patch.setattr(PROBE, "read_wiring", read)


@wired
def nobody_draws(wiring: Wiring, recorder: Recorder, x: Tensor) -> Wiring:
    """No module is taken for one that draws."""
    return replace(wiring, random=frozenset())


def together(*plants: Plant) -> Plant:
    """Put several back, of which each alone would hide behind the other."""

    def plant(patch: Patch) -> None:
        for one in plants:
            one(patch)

    return plant


@wired
def weights_stay_inside(wiring: Wiring, recorder: Recorder, x: Tensor) -> Wiring:
    """Nothing but a layer uses its weight."""
    return replace(wiring, outside=frozenset())


@wired
def integers_have_no_graph(wiring: Wiring, recorder: Recorder, x: Tensor) -> Wiring:
    """A layer behind a trained operation does not read whole numbers, as no gradient goes back to these."""
    behind = {seen.site for seen in recorder.synapses if seen.before is not None and not x.is_floating_point()}
    layers = wiring.synapses.items()
    return replace(wiring, synapses={n: replace(s, reads_input=s.reads_input and n not in behind) for n, s in layers})


@wired
def feedback_feeds(wiring: Wiring, recorder: Recorder, x: Tensor) -> Wiring:
    """A layer feeds all neurons that its weights reach, in the same step or in a later one."""
    layers = wiring.synapses.items()
    fed = {n: {site: wiring.neurons[site] for p in s.parameters for site in wiring.receivers[p]} for n, s in layers}
    return replace(wiring, synapses={n: replace(s, receivers=fed[n]) for n, s in layers})


def nothing_behind(layers: bool) -> Plant:
    """The signal of weights, those of layers or those outside of all, crosses no layer on the way to the output."""

    def change(wiring: Wiring, recorder: Recorder, x: Tensor) -> Wiring:
        inside = {p for layer in wiring.synapses.values() for p in layer.parameters}
        passes = {p: frozenset() if (p in inside) == layers else sites for p, sites in wiring.passes.items()}
        return replace(wiring, passes=passes)

    return wired(change)


nothing_behind_layers = nothing_behind(layers=True)
nothing_behind_other_weights = nothing_behind(layers=False)


# --- what is declared


def any_scan(patch: Patch) -> None:
    """A neuron with a leak has the dynamics of the base class, whatever its scan does."""
    patch.setattr(Neuron, "_plain_scan", True)


def first_name_of_a_weight(patch: Patch) -> None:
    """A weight is protected under the name by which it is registered first."""

    def exact(self: ProjectedRule, parameter: str, wiring: Wiring, steps: int) -> bool:
        module = parameter.rpartition(".")[0]
        closed = module in self.subspaces and len(self.subspaces[module].old)
        return not closed and ContinualRule.exact(self, parameter, wiring, steps)

    patch.setattr(ProjectedRule, "exact", exact)


def as_inside(rule: type[ContinualRule]) -> Plant:
    """A rule around another claims what that claims, in all tasks."""
    return lambda patch: patch.setattr(rule, "exact", ContinualRule.exact)
