"""The learning rules and neurons under test, and what each claims: the only test file a new rule must touch."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from spikewright.neurons import IF, LIF, Neuron
from spikewright.rules import BPTT, OTTT, SLTT, Rule
from tests.oracles import bptt, ottt, sltt
from tests.oracles.draw import WEIGHTS
from tests.oracles.machine import Criterion, Params

Case = tuple[Callable, Params, Tensor, Tensor, Criterion]
"""What an oracle needs: step program, parameters, input, target, criterion."""

Parameters = Callable[[str], set[str]]
"""Some of the parameters of the network with a name."""


@dataclass(frozen=True)
class Entry:
    """A rule and its claims.

    Attributes:
        make: Builds the rule; takes `chunk`.
        oracle: The gradient by an explicit program.
        equal: Parameters whose gradient is that of BPTT; all others differ.
        promised: Those of `equal` for which the rule says so itself; `None` means all.
        constant_memory: What is saved for backward does not grow with the number of steps.
        resumes: A sequence that is learned in two pieces gives the gradient of the whole.
        traces: Keeps traces, and so needs one leak at every synapse.
    """

    make: Callable[..., Rule]
    oracle: Callable[[Rule, Case], Params]
    equal: Parameters
    promised: Parameters | None = None
    constant_memory: bool = True
    resumes: bool = True
    traces: bool = False

    def __str__(self) -> str:
        given = self.make.keywords if isinstance(self.make, partial) else {}
        name = self.make.func.__name__ if isinstance(self.make, partial) else self.make.__name__
        return f"{name}({', '.join(f'{key}={value}' for key, value in given.items())})"


def _of(*layers: str) -> set[str]:
    return {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def everywhere(name: str) -> set[str]:
    return _of(*WEIGHTS[name])


def nowhere(name: str) -> set[str]:
    return set()


def readout(name: str) -> set[str]:
    return _of(list(WEIGHTS[name])[-1])


LAST = {
    "mlp": "2",
    "two_leaks": "2",
    "conv": "3",
    "residual": "conv2",
    "branching": "left",
    "deep": "4",
    "shared": "fc2",
    "if_net": "2",
}
"""The synapse onto the last neurons, where these have a soft, detached reset and feed no other neurons."""


def last_layer(name: str) -> set[str]:
    return readout(name) | (_of(LAST[name]) if name in LAST else set())


def where_the_reference_is_equal(name: str) -> set[str]:
    """The bias of the readout; the last spiking layer's weight where senders and receivers have one leak."""
    one_leak = name in ("mlp", "conv", "deep", "shared", "if_net")
    return {f"{list(WEIGHTS[name])[-1]}.bias"} | ({f"{LAST[name]}.weight"} if one_leak else set())


def drawn_steps(rule: Rule, steps: int) -> list[int]:
    """Return the steps that the next sequence of a rule will be learned at; the rule itself draws nothing."""
    segments = deepcopy(rule).segments(steps, 1)  # type: ignore[operator]
    return [t for segment in segments if segment.learn for t in range(segment.start, segment.stop)]


def _plain(gradients: Callable[..., Params], **options: Any) -> Callable[[Rule, Case], Params]:
    return lambda rule, case: gradients(*case, **options)


def _some_steps(rule: Rule, case: Case) -> Params:
    return sltt.gradients_of_steps(*case, drawn_steps(rule, len(case[2])))


RULES = [
    Entry(BPTT, _plain(bptt.gradients), everywhere, constant_memory=False, resumes=False),
    Entry(partial(BPTT, chunk=2), _plain(bptt.gradients), everywhere, constant_memory=False, resumes=False),
    Entry(partial(BPTT, checkpoint=True), _plain(bptt.gradients), everywhere, constant_memory=False, resumes=False),
    Entry(SLTT, _plain(sltt.gradients), readout),
    Entry(partial(SLTT, k=2), _some_steps, nowhere, resumes=False),
    Entry(OTTT, _plain(ottt.gradients), last_layer, traces=True),
    Entry(partial(OTTT, online=True), _plain(ottt.gradients), last_layer, traces=True),
    Entry(
        partial(OTTT, reference=True),
        _plain(ottt.gradients, reference=True),
        where_the_reference_is_equal,
        promised=nowhere,
        traces=True,
    ),
]


@dataclass(frozen=True)
class Cell:
    """A neuron and its claims.

    Attributes:
        make: Builds it for 3 channels.
        leaks: What its channels retain per step.
        hard: It returns to zero after a spike.
        traceable: One trace serves all its channels.
    """

    make: Callable[[], Neuron]
    leaks: tuple[float, float, float]
    hard: bool = False
    traceable: bool = True


NEURONS = {
    "lif": Cell(LIF, (0.5, 0.5, 0.5)),
    "slow": Cell(partial(LIF, tau=5.0), (0.8, 0.8, 0.8)),
    "memoryless": Cell(partial(LIF, tau=1.0), (0.0, 0.0, 0.0)),
    "hard reset": Cell(partial(LIF, tau=4.0, reset="zero"), (0.75, 0.75, 0.75), hard=True),
    "attached": Cell(partial(LIF, detach_reset=False), (0.5, 0.5, 0.5)),
    "tau per channel": Cell(partial(LIF, tau=[1.0, 2.0, 4.0]), (0.0, 0.5, 0.75), traceable=False),
    "learned tau": Cell(partial(LIF, tau=4.0, learn_tau=True), (0.75, 0.75, 0.75)),
    "learned per channel": Cell(partial(LIF, tau=[2.0, 4.0, 5.0], learn_tau=True), (0.5, 0.75, 0.8), traceable=False),
    "if": Cell(IF, (1.0, 1.0, 1.0)),
    "if, hard reset": Cell(partial(IF, reset="zero"), (1.0, 1.0, 1.0), hard=True),
}
