"""The learning rules and neurons under test, and what each claims: the only test file a new rule must touch."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from spikewright import rules
from spikewright.losses import Loss, OnRate, PerStep
from spikewright.neurons import DSRIF, DSRLIF, IF, LIF, AlphaLIF, Neuron
from spikewright.rules import (
    BPTT,
    DSR,
    EWC,
    GPM,
    HLOP,
    IDE,
    OTTT,
    SLTT,
    SPIDE,
    EProp,
    LwF,
    Naive,
    OnlineRule,
    Replay,
    Rule,
)
from spikewright.solvers import Anderson, FixedPoint
from spikewright.spatial import DFA, DKP, FA, OPZO, ZO, SignSymmetric, Spatial
from tests.nets import NETS
from tests.oracles import bptt, direct, eprop, ottt, rate, sltt, spide
from tests.oracles.draw import DELAYS, WEIGHTS
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
        oracle: The gradient by an explicit program, given a rule that is prepared.
        equal: Parameters whose gradient is that of BPTT; all others differ.
        promised: Those of `equal` for which the rule says so itself; `None` means all.
        constant_memory: What is saved for backward does not grow with the number of steps.
        resumes: A sequence that is learned in two pieces gives the gradient of the whole.
        traces: Keeps traces, and so needs one leak at every synapse.
        refuses: Networks of `tests/nets.py` and of `spikewright.testing` that it cannot learn in.
        rates: Learns from rates, not steps: needs a soft reset, and masks that do not change.
        noisy: Draws noise, which belongs to places in the batch.
    """

    make: Callable[..., Rule]
    oracle: Callable[[Rule, Case], Params]
    equal: Parameters
    promised: Parameters | None = None
    constant_memory: bool = True
    resumes: bool = True
    traces: bool = False
    refuses: frozenset[str] = frozenset()
    rates: bool = False
    noisy: bool = False

    @property
    def loss(self) -> Loss:
        """A loss it can learn from."""
        return (OnRate if self.rates else PerStep)(F.cross_entropy)

    def learns_in(self, name: str) -> bool:
        """Whether it has to learn in the network with a name; if not, it has to refuse it."""
        return name not in self.refuses

    def __str__(self) -> str:
        given = self.make.keywords if isinstance(self.make, partial) else {}
        name = self.make.func.__name__ if isinstance(self.make, partial) else self.make.__name__
        return f"{name}({', '.join(f'{key}={value}' for key, value in given.items())})"


def _of(*layers: str) -> set[str]:
    return {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


def everywhere(name: str) -> set[str]:
    return _of(*WEIGHTS[name]) | set(DELAYS.get(name, {}))


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
    "delayed": "3",
    "shared": "fc2",
    "if_net": "2",
}
"""The synapse onto the last neurons, where these have a soft, detached reset and feed no other neurons."""


def last_layer(name: str) -> set[str]:
    return readout(name) | (_of(LAST[name]) if name in LAST else set())


def own_states(name: str) -> set[str]:
    """The same whatever the reset of the last neurons."""
    return last_layer(name) | (_of("2") if name in ("hard_reset", "attached") else set())


def where_the_reference_is_equal(name: str) -> set[str]:
    """The bias of the readout; the last spiking layer's weight where senders and receivers have one leak."""
    one_leak = name in ("mlp", "conv", "deep", "shared", "if_net")
    return {f"{list(WEIGHTS[name])[-1]}.bias"} | ({f"{LAST[name]}.weight"} if one_leak else set())


def drawn_steps(rule: Rule, steps: int) -> list[int]:
    """Return the steps that the next sequence of a rule will be learned at; the rule itself draws nothing."""
    segments = deepcopy(rule).chunks(steps, 1)  # type: ignore[operator]
    return [t for segment in segments if segment.learn for t in range(segment.start, segment.stop)]


def where_rates_are_plain(name: str) -> set[str]:
    """The readout behind neurons without leak, whose mean output is all that the loss sees."""
    return readout(name) if name == "if_net" else set()


def _plain(gradients: Callable[..., Params], **options: Any) -> Callable[[Rule, Case], Params]:
    return lambda rule, case: gradients(*case, **options)


def _of_samples(**options: Any) -> Callable[[Rule, Case], Params]:
    """The second phase with twice the gradient of each sample."""
    return lambda rule, case: spide.spide(*case, loss_scale=2.0 * len(case[3]), **options)


def _some_steps(rule: Rule, case: Case) -> Params:
    return sltt.gradients_of_steps(*case, drawn_steps(rule, len(case[2])))


SITES = {"once": "lif", "again": "lif#2"}
"""Where layers of a program are called otherwise than their sites."""


def _matrices(rule: OnlineRule) -> dict[str, Tensor]:
    """Return the feedback matrices that a rule begins with, by layer of the program."""
    layers = {site: layer for layer, site in SITES.items()}
    begun = {key.removeprefix("output "): rule.spatial.matrices[key] for key in rule.spatial.matrices}
    return {layers.get(site, site): matrix.clone() for site, matrix in begun.items()}


def _drawn_by(rule: OnlineRule) -> direct.Draw:
    """Return the noise of a rule's first sequence."""
    noise = rule.spatial.noise
    assert noise is not None
    return lambda layer, step, like: noise.draw(like, SITES.get(layer, layer), 1, step) / noise.alpha


def _back(rule: OnlineRule, case: Case) -> Params:
    def other(name: str, weight: Tensor) -> Tensor:
        if isinstance(rule.spatial, FA):
            return rule.spatial.weights[name] if name in rule.spatial.weights else weight
        return weight.sign() / weight[0].numel() ** 0.5

    return direct.backwards(*case, other)


def _direct(rule: OnlineRule, case: Case) -> Params:
    way, noise = rule.spatial, rule.spatial.noise
    options: dict[str, Any] = {"traced": isinstance(rule, OTTT)}
    if noise is not None:
        options |= {"draw": _drawn_by(rule), "alpha": noise.alpha, "post": noise.position == "post"}
    if isinstance(way, DKP):
        return direct.gradients(*case, direct.kolen_pollack(_matrices(rule), way.lr, way.decay), **options)
    if isinstance(way, DFA):
        return direct.gradients(*case, direct.fixed(_matrices(rule)), **options)
    if isinstance(way, ZO):
        return direct.gradients(*case, direct.zeroth_order(noise.alpha), **options)
    signal = direct.pseudo_zeroth_order(list(_matrices(rule)), way.momentum, noise.alpha)
    return direct.gradients(*case, signal, **options)


def _credit(rule: Callable[..., OnlineRule], way: Callable[..., Spatial], **options: Any) -> Entry:
    """A rule of time with a way through layers."""

    def make(**given: Any) -> OnlineRule:
        return rule(spatial=way(**options), **given)

    shown = ", ".join(f"{key}={value}" for key, value in options.items())
    make.__name__ = f"{rule.__name__}+{way.__name__}({shown})"
    noisy = way in (ZO, OPZO)
    return Entry(
        make,
        _back if way in (SignSymmetric, FA) else _direct,
        nowhere if noisy else readout,
        resumes=not noisy,
        traces=rule is OTTT,
        noisy=noisy,
    )


def _own(rule: OnlineRule, case: Case) -> Params:
    """Traces where all resets are soft and detached, and own states elsewhere."""
    feedback = _matrices(rule) if isinstance(rule.spatial, DFA) else None
    if eprop.resets_otherwise(*case[:3]):
        return eprop.gradients(*case, feedback=feedback)
    return ottt.gradients(*case) if feedback is None else direct.gradients(*case, direct.fixed(feedback))


def _around(outer: Callable[..., Rule], entry: Entry) -> Entry:
    """A rule around another, in its first task: it learns as that does."""

    def make(**given: Any) -> Rule:
        return outer(entry.make(**given))

    make.__name__ = f"{outer.__name__} of {entry}"
    return replace(entry, make=make, oracle=lambda rule, case: entry.oracle(rule.rule, case))


def _of_rates(make: Callable[..., Rule], oracle: Callable[[Rule, Case], Params], *refused: str) -> Entry:
    refuses = frozenset(("hard_reset", "delayed", "masked", *refused))
    return Entry(make, oracle, where_rates_are_plain, nowhere, resumes=False, refuses=refuses, rates=True)


_BPTT = Entry(BPTT, _plain(bptt.gradients), everywhere, constant_memory=False, resumes=False)
_OTTT = Entry(OTTT, _plain(ottt.gradients), last_layer, traces=True)
_EPROP = Entry(EProp, _own, own_states)

RULES = [
    _BPTT,
    Entry(partial(BPTT, chunk=2), _plain(bptt.gradients), everywhere, constant_memory=False, resumes=False),
    Entry(partial(BPTT, checkpoint=True), _plain(bptt.gradients), everywhere, constant_memory=False, resumes=False),
    Entry(SLTT, _plain(sltt.gradients), readout),
    Entry(partial(SLTT, k=2), _some_steps, nowhere, resumes=False),
    _OTTT,
    Entry(partial(OTTT, online=True), _plain(ottt.gradients), last_layer, traces=True),
    Entry(
        partial(OTTT, reference=True),
        _plain(ottt.gradients, reference=True),
        where_the_reference_is_equal,
        promised=nowhere,
        traces=True,
    ),
    _EPROP,
    Entry(partial(EProp, online=True), _own, own_states),
    Entry(partial(EProp, feedback="random"), _own, readout),
    _of_rates(DSR, _plain(rate.gradients), "feedback"),
    _of_rates(IDE, _plain(rate.gradients)),
    _of_rates(partial(IDE, mask="output", solver=Anderson()), _plain(rate.gradients, mask="output")),
    _of_rates(partial(IDE, solver=FixedPoint(200, damping=0.5)), _plain(rate.gradients)),
    _of_rates(partial(SPIDE, steps=40, loss_scale=2.0), _of_samples(steps=40, threshold=0.5)),
    _of_rates(
        partial(SPIDE, steps=40, threshold=0.25, loss_scale=2.0, leaky=True),
        _of_samples(steps=40, threshold=0.25, leaky=True),
    ),
    _credit(OTTT, SignSymmetric),
    _credit(OTTT, FA),
    _credit(OTTT, DFA),
    _credit(SLTT, DFA),
    _credit(OTTT, DKP, lr=5.0, decay=0.1),
    _credit(OTTT, ZO, alpha=0.5),
    _credit(SLTT, ZO, alpha=0.5, position="pre", antithetic=True),
    _credit(OTTT, OPZO, alpha=0.5, momentum=0.8),
    _credit(OTTT, OPZO, alpha=1.0, momentum=0.8, position="pre", antithetic=False),
    _credit(SLTT, OPZO, alpha=0.5, momentum=0.8, distribution="rademacher"),
    Entry(
        partial(rules.OPZO, alpha=0.5, momentum=0.8),
        _direct,
        nowhere,
        resumes=False,
        traces=True,
        noisy=True,
    ),
    _around(HLOP, _BPTT),
    _around(HLOP, _OTTT),
    _around(GPM, _of_rates(DSR, _plain(rate.gradients), "feedback")),
    _around(GPM, _EPROP),
    _around(EWC, _OTTT),
    _around(LwF, _BPTT),
    _around(Naive, _OTTT),
    _around(Replay, Entry(SLTT, _plain(sltt.gradients), readout)),
]

STEPWISE = [entry for entry in RULES if not entry.rates]
"""The rules that see every step."""

CASES = [(entry, name) for entry in RULES for name in NETS if entry.learns_in(name)]
"""Every rule with every network it can learn in."""


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

FURTHER_NEURONS: dict[str, Callable[[], Neuron]] = {
    "low rest": partial(IF, threshold=0.7, rest=-0.7, gain=0.6, amplitude=1.5),
    "noisy": partial(LIF, noise=0.1),
    "alpha": AlphaLIF,
    "alpha, soft reset": partial(AlphaLIF, reset="subtract", detach_reset=True),
    "dsr if": DSRIF,
    "dsr if, fixed": partial(DSRIF, learn_threshold=False),
    "dsr lif": DSRLIF,
}
"""Neurons that have no cell: other dynamics, or constants other than a threshold of 1 and spikes of 1."""
