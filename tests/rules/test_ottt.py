"""OTTT: its traces, its switches, and what they cost."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spikewright.network import Network
from spikewright.rules import OTTT, SLTT, Rule
from tests.catalogue import readout
from tests.nets import NETS, sample
from tests.oracles import hand, ottt
from tests.oracles.compare import assert_agree, case
from tests.rules.support import CE, gradients, started

SWITCHES: list[dict[str, Any]] = [
    {"trace_input": False},
    {"trace_bias": False},
    {"trace_readout": True},
    {"leak": 0.9},
    {"leak": 0.9, "trace_readout": True},
    {"reference": True, "trace_bias": True},
    {"reference": True, "trace_input": True},
    {"reference": True, "trace_readout": False},
    {"reference": True, "leak": 0.3},
]


@pytest.mark.parametrize("options", SWITCHES, ids=str)
@pytest.mark.parametrize("name", ["two_leaks", "conv", "residual", "branching", "feedback", "shared"])
def test_every_switch_does_what_it_says(name: str, options: dict[str, Any]) -> None:
    rule = OTTT(**options)
    found, expected = gradients(rule, NETS[name](0), *sample(name, 0)), ottt.gradients(*case(name), **options)
    if rule.trace_bias and rule.trace_readout:  # the program traces no bias of a readout; see the next test
        (bias,) = (key for key in readout(name) if key.endswith("bias"))
        del found[bias], expected[bias]
    assert_agree(found, expected, 1e-10)


def test_a_traced_readout_has_a_traced_bias() -> None:
    _, params, x, y, _ = case("two_leaks")
    leaks = (1 / 3, 0.8)
    by_hand = hand.chain(("0", "2", "4"), params, x, y, leaks, (*leaks, 0.8), (*leaks, 0.8))
    assert_agree(gradients(OTTT(trace_readout=True), NETS["two_leaks"](0), x, y), by_hand, 1e-10)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_the_trace_of_a_constant_is_a_geometric_sum(steps: int) -> None:
    net, frame = Network(NETS["two_leaks"](1)), sample("mlp", 1)[0][0]
    run = started(OTTT(), net, frame.expand(steps, *frame.shape))
    for _ in range(steps):
        run.advance(frame[None])
    leak = 1 - 1 / 1.5
    total = (1 - leak**steps) / (1 - leak)
    torch.testing.assert_close(run.state["0"]["trace"], frame * total, rtol=1e-14, atol=0)
    assert float(run.state["0"]["bias_trace"]) == pytest.approx(total, rel=1e-14)


def test_a_trace_has_the_leak_of_the_neuron_it_feeds_and_a_readout_has_none() -> None:
    (x, _), net = sample("two_leaks", 0), Network(NETS["two_leaks"](0))
    run = started(OTTT(), net, x)
    run.advance(x)
    expected = sum((1 - 1 / 1.5) ** (5 - t) * x[t] for t in range(6))
    torch.testing.assert_close(run.state["0"]["trace"], expected, rtol=1e-13, atol=1e-13)
    assert set(run.state) == {"0", "1", "2", "3"}
    assert set(run.state["2"]) == {"trace", "bias_trace"}


class Calls(TorchDispatchMode):
    """Counts the operations that reach the backend."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def calls(rule: Rule, name: str) -> Counter[str]:
    net, (x, y) = Network(NETS[name](0)), sample(name, 0)
    net.wiring(x)
    with Calls() as counted:
        list(rule.updates(net, x, y, CE))
    return counted.count


@pytest.mark.parametrize("name, layers", [("conv", 2), ("residual", 3)])
@pytest.mark.parametrize("rule", [OTTT(), OTTT(online=True), OTTT(reference=True)], ids=repr)
def test_a_trace_costs_no_convolution(rule: OTTT, name: str, layers: int) -> None:
    ours, theirs = calls(rule, name), calls(SLTT(), name)
    assert ours["convolution"] == theirs["convolution"] == 6 * layers
    assert ours["convolution_backward"] == theirs["convolution_backward"] == 6 * layers
