"""What the tests of rules with subspaces share: rules to wrap, and a rule that is in its second task."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.network import Network
from spikewright.rules import BPTT, DSR, HLOP, IDE, OPZO, OTTT, SLTT, Rule, Update
from spikewright.spatial import DFA
from spikewright.synapses.operations import Operation
from tests.nets import NETS
from tests.oracles.machine import Params
from tests.rules.support import learn, loss_for
from tests.subspaces.support import drawn

WRAPPED: dict[str, Callable[[], Rule]] = {
    "BPTT": BPTT,
    "BPTT, chunks": partial(BPTT, chunk=2),
    "BPTT, checkpoints": partial(BPTT, checkpoint=True),
    "SLTT": SLTT,
    "OTTT": OTTT,
    "OTTT, online": partial(OTTT, online=True),
    "OTTT with DFA": lambda: OTTT(spatial=DFA()),
    "OPZO": partial(OPZO, alpha=0.5, momentum=0.8),
    "DSR": DSR,
    "IDE": IDE,
}
"""Fresh rules by name."""
NAMES = ["mlp", "conv", "branching", "shared", "feedback"]
CASES = [(rule, net) for rule in WRAPPED for net in NAMES if (rule, net) != ("DSR", "feedback")]
"""Every rule with every network it can learn in."""


def end_task(rule: HLOP, module: nn.Module, x: Tensor, y: Tensor) -> None:
    """Begin the next task, with all held still that has to be."""
    rule.next_task(Network(module), x, y, loss_for(rule))
    rule.freeze(Network(module))


def settled(module: nn.Module, x: Tensor, y: Tensor, rule: Rule, rows: float = 0.4, **options: Any) -> HLOP:
    """The rule in its second task, with rows of the first that were drawn."""
    wrapped = HLOP(rule, rows=rows, **{"orthonormal": False, **options})
    wrapped.prepare(Network(module), x)
    for i, subspace in enumerate(wrapped.subspaces.by_name().values()):
        subspace.new *= 0.9 + 0.05 * drawn(len(subspace.new), 1, seed=i)  # not quite orthonormal, as learned ones are
    end_task(wrapped, module, x, y)
    return wrapped


def old_rows(rule: HLOP) -> Params:
    """The settled rows of every weight, by the name of the weight."""
    return {f"{name}.weight": subspace.old for name, subspace in rule.subspaces.by_name().items()}


def new_rows(rule: HLOP) -> Params:
    """What the task under way has taught, by the name of the weight."""
    return {f"{name}.weight": subspace.new.clone() for name, subspace in rule.subspaces.by_name().items()}


def kept_out(gradient: Tensor, rows: Tensor) -> Tensor:
    """The gradient times `1 - H^T H`."""
    flat = gradient.flatten(1)
    return (flat - torch.einsum("oi,mi,mj->oj", flat, rows, rows)).view_as(gradient)


def weight_gradients(module: nn.Module, names: Mapping[str, Any]) -> Params:
    return {name: grad.clone() for name in names if (grad := module.get_parameter(name).grad) is not None}


def run(rule: Rule, module: nn.Module, x: Tensor, y: Tensor) -> list[Update]:
    """Learn from one batch, from the same random state each time."""
    torch.default_generator.manual_seed(3)
    return learn(rule, module, x, y)


def assert_near(found: Params, expected: Params, tolerance: float = 1e-12) -> None:
    """Equality up to rounding, relative to the largest entry."""
    assert found.keys() == expected.keys() and found
    for name, value in expected.items():
        scale = max(1.0, float(value.abs().max())) if value.numel() else 1.0
        assert (found[name] - value).abs().max() <= tolerance * scale, name


class Inputs:
    """An observer that keeps what enters every synapse, `[time * batch, *feature]`, by site."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Tensor]] = {}

    def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None: ...

    def synapse(self, site: str, operation: Operation, x: Tensor, weight: Tensor, current: Tensor) -> None:
        self.seen.setdefault(site, []).append(x.detach())


def inputs(module: nn.Module, x: Tensor) -> Params:
    """What enters every synapse, `[time, batch, *feature]`, by site."""
    observer = Inputs()
    with torch.no_grad():
        Network(deepcopy(module)).run(x, observers=(observer,))
    return {site: torch.cat(seen).unflatten(0, (-1, x.shape[1])) for site, seen in observer.seen.items()}


def net(name: str) -> nn.Module:
    return NETS[name](0)
