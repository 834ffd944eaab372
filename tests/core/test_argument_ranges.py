"""What the documentation says of an argument, its range or its class, is checked where it is given."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright import rules, solvers, spatial
from spikewright.errors import ConfigError, ExtensionError, IncompatibleRule
from spikewright.graph.models import GRSNN
from spikewright.network.hooks import Hooks
from spikewright.synapses.synapse import SynapticInput

CRITERION = nn.CrossEntropyLoss()


def around(rule: Callable[..., Any]) -> Callable[..., Any]:
    """Return a continual rule around BPTT as a function of its other arguments."""
    return lambda **arguments: rule(rules.BPTT(), **arguments)


def per_step(**arguments: Any) -> sw.losses.PerStep:
    return sw.losses.PerStep(CRITERION, **arguments)


def delay(shape: Any = 2, **arguments: Any) -> sw.SynapticDelay:
    return sw.SynapticDelay(shape, **arguments)


def grsnn(**arguments: Any) -> GRSNN:
    return GRSNN(2, width=4, **arguments)


def network() -> sw.Network:
    return sw.Network(nn.Sequential(nn.Linear(4, 8), sw.LIF(), nn.Linear(8, 3)))


def plan(**arguments: Any) -> sw.reports.Plan:
    return sw.plan(network(), rules.SLTT(), (4, 2, 4), **arguments)


NUMBERS: list[tuple[Callable[..., Any], str, list[Any], list[Any]]] = [
    (rules.OTTT, "leak", [1.1, -0.5, math.nan, "0.5", True], [0, 1, 0.5, torch.tensor(0.5), None]),
    (per_step, "steps", [0, -1, 2.5, True, "3"], [1, np.int64(4), None]),
    *((rule, "chunk", [0, 2.5, True, "0MiB", "much"], [1, np.int64(2), None, "auto", "root", "1 B"])
      for rule in (rules.BPTT, rules.SLTT, rules.OTTT)),
    (rules.SLTT, "k", [1.5, 0, True, "2"], [1, None]),
    *((rule, "seed", [1.5, -1, "1", None], [0, np.int64(3)])
      for rule in (rules.SLTT, rules.OPZO, spatial.OPZO, spatial.ZO, spatial.FA, spatial.DFA, spatial.DKP,
                   around(rules.Replay), around(rules.HLOP))),
    (spatial.DFA, "scale", [0, math.inf, math.nan, "1"], [0.5]),
    (spatial.OPZO, "momentum", [-0.1, 1, 1.1, math.nan], [0, 0.5]),
    (around(rules.Replay), "new_share", [0, 1, math.nan], [0.25]),
    (around(rules.GPM), "increase", [math.inf, math.nan, "1"], [0.0, 0.01]),
    (around(rules.GPM), "samples_per_class", [0, 1.5], [1]),
    (around(rules.LwF), "temperature", [0, math.inf], [1]),
    (around(rules.EWC), "strength", [0, math.nan], [1]),
    (sw.losses.CrossEntropyMSE, "target", [math.inf, math.nan, True, None], [0, -1.5, "onehot"]),
    (solvers.Broyden, "iterations", [0, 2.5], [1]),
    (solvers.Broyden, "tolerance", [0, math.nan], [1e-3, None]),
    (solvers.Spiking, "saturation", [-0.1, 1.1], [0, 1]),
    (delay, "shape", [0, 2.0, (2, 0), (1.5,)], [1, (2, 1), [3], torch.Size([2])]),
    (delay, "max_delay", [0, 1.5, True], [1]),
    (grsnn, "scale", [math.inf, math.nan], [0.0, -1.0]),
    (grsnn, "max_delay", [1.5, -1], [0]),
    (plan, "budget", [-1, 2.5, "plenty", True], [0, 10**6, "8GB", "64KiB"]),
    (plan, "measure", [(2.5, 4), (0, 4)], [(1, 2), [np.int64(2), 4]]),
    (plan, "report", [(0,), (2.5,)], [(1,), ()]),
]  # fmt: skip
FLAGS: list[tuple[Callable[..., Any], str]] = [
    *((rules.OTTT, name) for name in ("online", "trace_input", "trace_bias", "trace_readout", "reference")),
    (rules.SLTT, "rescale"),
    (rules.BPTT, "checkpoint"),
    (rules.IDE, "strict"),
    (rules.DSR, "reference"),
    (spatial.OPZO, "antithetic"),
    (spatial.OPZO, "debias"),
    (spatial.ZO, "antithetic"),
    (sw.LIF, "learn_tau"),
    (sw.LIF, "detach_reset"),
    (sw.IF, "detach_reset"),
    (per_step, "timed"),
    (delay, "rounding"),
    (around(rules.EWC), "hold"),
    (around(rules.HLOP), "orthonormal"),
]
OBJECTS: list[tuple[Callable[..., Any], str, Any, str]] = [
    (rules.SLTT, "spatial", "BP", r"this is a str. Give an instance of Spatial, such as sw.spatial.BP\(\)"),
    (rules.SLTT, "spatial", spatial.BP, r"this is the class BP. Give an instance, such as BP\(\)"),
    (rules.OTTT, "local", 3, r"object of the class Local. Give an instance of Local, such as sw.spatial.Local\(\)"),
    (rules.IDE, "solver", "broyden", r"Give an instance of Solver, such as sw.solvers.Broyden\(\)"),
    (rules.HLOP, "rule", "bptt", r"Give an instance of Rule, such as sw.rules.BPTT\(\)"),
    (rules.HLOP, "rule", rules.BPTT, r"Give an instance, such as BPTT\(\)"),
    (rules.EWC, "rule", None, "this is None. Give an instance of Rule"),
    (sw.Network, "module", "x", "Give an instance of Module"),
    (sw.Network, "module", sw.LIF, r"this is the class LIF. Give an instance, such as LIF\(\)"),
    (sw.LIF, "reset", None, r"None\) is unknown. Known: late, subtract, zero"),
    (sw.LIF, "reset", 1, r"1\) is unknown. Known: late, subtract, zero"),
    (sw.LIF, "reset", {}, r"{}\) is unknown"),
    (rules.DSR, "batch_norm", {"a": 1}, r"is unknown. Known: joint, rate, running"),
    (rules.SPIDE, "batch_norm", ["rate"], r"is unknown"),
    (rules.IDE, "mask", [10**5000], r"\[about 2\*\*16610\]\) is unknown"),
    (around(rules.HLOP), "observe", [1], r"is unknown"),
    (around(rules.HLOP), "project", {}, r"is unknown"),
    (spatial.OPZO, "init", ["zero"], r"is unknown"),
    (spatial.OPZO, "distribution", {}, r"is unknown"),
    (spatial.DFA, "route", [10**5000], r"is unknown"),
    (spatial.Local, "below", torch.ones(2), r"<Tensor \[2\]>\) is unknown"),
    (delay, "delay_grad", [], r"is unknown"),
]


@pytest.mark.parametrize("make, name, bad", [(make, name, v) for make, name, values, _ in NUMBERS for v in values])
def test_a_number_out_of_its_range_is_refused(make: Callable[..., Any], name: str, bad: Any) -> None:
    shown = next((part for part in bad if part in (0, 1.5, 2.5)), "") if isinstance(bad, tuple) else bad
    with pytest.raises(ConfigError, match=rf"\w\({name}={re.escape(repr(shown))}\).* [Gg]ive "):
        make(**{name: bad})


@pytest.mark.parametrize("make, name, good", [(make, name, v) for make, name, _, values in NUMBERS for v in values])
def test_the_ends_of_a_range_are_accepted(make: Callable[..., Any], name: str, good: Any) -> None:
    make(**{name: good})


@pytest.mark.parametrize("make, name", FLAGS)
def test_a_flag_is_true_or_false(make: Callable[..., Any], name: str) -> None:
    for bad in ("false", "no", "yes", 1, torch.tensor(True)):
        with pytest.raises(ConfigError, match=rf"\({name}=.*on or off.* Give True or False"):
            make(**{name: bad})
    for good in (True, False, np.True_):
        make(**{name: good})


@pytest.mark.parametrize("make, name, bad, message", OBJECTS)
def test_a_wrong_object_is_refused(make: Callable[..., Any], name: str, bad: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"\({name}=.*{message}"):
        make(**{name: bad})


def test_a_trace_has_one_decay() -> None:
    for leak in (torch.tensor([0.5, 0.5]), torch.tensor(1.5)):
        with pytest.raises(ConfigError, match=r"OTTT\(leak="):
            rules.OTTT(leak=leak)  # type: ignore[arg-type]


def reports() -> dict[str, Callable[[Any, Any], Any]]:
    x, y, loss = torch.rand(4, 2, 4), torch.tensor([0, 1]), per_step()
    return {
        "certify": lambda net, rule: sw.certify(net, rule, x, y, loss),
        "energy": lambda net, rule: sw.energy(net, rule, x, y, loss),
        "plan": lambda net, rule: sw.plan(net, rule, x),
    }


@pytest.mark.parametrize("name", reports())
def test_reports_take_a_network_and_a_rule(name: str) -> None:
    report = reports()[name]
    with pytest.raises(ConfigError, match=rf"{name} was given Sequential .* spikewright.Network\(module\)"):
        report(network().module, rules.OTTT())
    with pytest.raises(
        ConfigError, match=rf"{name}\(rule=OTTT\): .*the class OTTT. Give an instance, such as OTTT\(\)"
    ):
        report(network(), rules.OTTT)
    report(network(), rules.OTTT())


@pytest.mark.parametrize("rule", [rules.LwF, rules.Replay])
def test_a_rule_that_updates_at_every_step_is_refused_before_the_first_task(rule: Callable[..., Any]) -> None:
    with pytest.raises(IncompatibleRule, match=r"updates at every step of a sequence.*online=False"):
        rule(rules.OTTT(online=True))
    rule(rules.OTTT())


class Answering(Hooks):
    """Hooks that return one value, and carry one state on."""

    def __init__(self, value: Callable[[Tensor], Tensor], state: Any) -> None:
        self.value, self.state = value, state

    def on_weight(
        self, site: Any, operation: Any, x: Tensor, weight: Tensor, carried: Any
    ) -> tuple[SynapticInput, Any]:
        return SynapticInput(self.value(x)), self.state


@pytest.mark.parametrize("state", [None, {1: torch.zeros(2)}])
def test_a_hook_carries_tensors_by_name(state: Any) -> None:
    with pytest.raises(ExtensionError, match=r"what it carries on, a dictionary \{name: tensor \[batch=2, ...\]\}"):
        network().start(torch.rand(3, 2, 4), hooks=Answering(lambda x: x, state)).advance(torch.rand(3, 2, 4))


def test_a_hook_transmits_in_the_dtype_of_its_input() -> None:
    with pytest.raises(ExtensionError, match=r"a value of the dtype of its input, torch\.float"):
        network().start(torch.rand(3, 2, 4), hooks=Answering(Tensor.half, {})).advance(torch.rand(3, 2, 4))
    network().start(torch.rand(3, 2, 4), hooks=Answering(Tensor.clone, {})).advance(torch.rand(3, 2, 4))


BEYOND: list[Callable[[float], Any]] = [
    lambda large: sw.neurons.DSRIF(threshold_grad=large),
    lambda large: rules.EWC(rules.OTTT(), strength=large),
    lambda large: sw.surrogate.Sigmoid(large),
    lambda large: sw.neurons.DSRIF(threshold=2 * large, floor=large),
    lambda large: spatial.ZO(alpha=large),
]


@pytest.mark.parametrize("make", BEYOND)
def test_numbers_too_large_for_single_precision_are_refused(make: Callable[[float], Any]) -> None:
    """As float32 they are infinite, and gradients NaN."""
    make(1e30)
    with pytest.raises(ConfigError, match=r"[12]e\+300"):
        make(1e300)
