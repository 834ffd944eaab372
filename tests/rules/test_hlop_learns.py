"""What lateral weights learn from: what the rule takes its gradients at, once per update, by the explicit program."""

import pytest
import torch
from torch import Tensor, nn

from spikewright.network import Network
from spikewright.rules import BPTT, DSR, HLOP, IDE, OTTT, SLTT, Rule
from spikewright.rules.continual.subspaces import Lateral
from tests.nets import sample
from tests.oracles.hlop import learned, patches
from tests.oracles.machine import Params
from tests.subspaces.wrapping import assert_near, end_task, inputs, net, new_rows, run

LEAKS = {"0": 1 / 3, "2": 0.8, "4": 0.0}
"""Of the traces in the network with two leaks: those of the receiving neurons."""


def fresh(rule: HLOP, module: nn.Module, x: Tensor) -> tuple[Params, Params]:
    """The settled and the new rows before the next update."""
    rule.prepare(Network(module), x)
    subspaces = rule.subspaces.by_name()
    return {n: s.old.clone() for n, s in subspaces.items()}, {n: s.new.clone() for n, s in subspaces.items()}


def traced(x: Tensor, leak: float) -> Tensor:
    """`p[t] = leak p[t-1] + x[t]`."""
    return torch.stack([sum((leak ** (t - k) * x[k] for k in range(t)), x[t]) for t in range(len(x))])


def assert_learned(rule: HLOP, module: nn.Module, x: Tensor, y: Tensor, *updates: Params) -> None:
    """After one call of the rule, new rows are what the program makes of these rows of every update."""
    old, new = fresh(rule, module, x)
    expected = dict(new)
    momentum = {name: torch.zeros_like(rows) for name, rows in new.items()}
    for rows in updates:
        for name, seen in rows.items():
            expected[name], momentum[name] = learned(old[name], expected[name], momentum[name], seen, rate=0.3)
    run(rule, module, x, y)
    found = {name: subspace.new for name, subspace in rule.subspaces.by_name().items()}
    assert_near(found, expected)
    assert_near({n: s.momentum for n, s in rule.subspaces.by_name().items()}, momentum)
    assert all((expected[name] - new[name]).abs().max() > 1e-3 for name in new)


def wrapped(rule: Rule, module: nn.Module, task: int = 1, **options: object) -> HLOP:
    """Around the rule, in that task, with an update behind it."""
    found = HLOP(rule, rows=2, rate=0.3, orthonormal=False, **options)  # type: ignore[arg-type]
    x, y = sample("mlp", 4)
    for _ in range(task - 1):
        run(found, module, x, y)
        module.zero_grad()
        end_task(found, module, x, y)
    return found


@pytest.mark.parametrize("task", [1, 2])
@pytest.mark.parametrize("rule", [BPTT(), BPTT(chunk=4), BPTT(checkpoint=True), SLTT(), SLTT(chunk=4)], ids=repr)
def test_the_mean_over_steps(rule: Rule, task: int) -> None:
    module, (x, y) = net("two_leaks"), sample("two_leaks", 0)
    around = wrapped(rule, module, task)
    assert_learned(around, module, x, y, {site: seen.mean(0) for site, seen in inputs(module, x).items()})


@pytest.mark.parametrize("rule", [BPTT(), BPTT(chunk=4), SLTT(chunk=4)], ids=repr)
def test_a_still_input_is_its_own_mean(rule: Rule) -> None:
    module, (x, y) = net("two_leaks"), sample("two_leaks", 0)
    x = x[:1].expand(6, *x.shape[1:])
    seen = {site: s.mean(0) for site, s in inputs(module, x).items()}
    assert_learned(wrapped(rule, module), module, x, y, {**seen, "0": x[0]})


@pytest.mark.parametrize("rule", [BPTT(), BPTT(chunk=4), SLTT()], ids=repr)
def test_every_step(rule: Rule) -> None:
    module, (x, y) = net("two_leaks"), sample("two_leaks", 0)
    around = wrapped(rule, module, observe="steps")
    assert_learned(around, module, x, y, {site: seen.flatten(0, 1) for site, seen in inputs(module, x).items()})


@pytest.mark.parametrize("chunk", [1, 4, None])
def test_the_mean_of_traces(chunk: int | None) -> None:
    module, (x, y) = net("two_leaks"), sample("two_leaks", 0)
    seen = {site: traced(s, LEAKS[site]).mean(0) for site, s in inputs(module, x).items()}
    assert_learned(wrapped(OTTT(chunk=chunk), module), module, x, y, seen)


def stacked(site: str, x: Tensor) -> Tensor:
    """What is transmitted, and the trace where there is one, `[time, row, feature]`."""
    return torch.cat([x, traced(x, LEAKS[site])], 1) if LEAKS[site] else x


def test_every_step_and_every_trace() -> None:
    module, (x, y) = net("two_leaks"), sample("two_leaks", 0)
    seen = {site: stacked(site, s).flatten(0, 1) for site, s in inputs(module, x).items()}
    assert_learned(wrapped(OTTT(), module, observe="steps"), module, x, y, seen)


@pytest.mark.parametrize("task", [1, 2])
@pytest.mark.parametrize("observe", ["mean", "steps"])
def test_online_every_step_is_an_update(observe: str, task: int) -> None:
    module, (x, y) = net("two_leaks"), sample("two_leaks", 0)
    around = wrapped(OTTT(online=True), module, task, observe=observe)
    steps = {
        site: stacked(site, s) if observe == "steps" else traced(s, LEAKS[site])
        for site, s in inputs(module, x).items()
    }
    assert_learned(around, module, x, y, *({site: s[t] for site, s in steps.items()} for t in range(len(x))))


def rates(x: Tensor, leak: float) -> Tensor:
    """The mean that weighs a step by `leak**age`."""
    weights = torch.tensor([leak ** (len(x) - 1 - t) for t in range(len(x))], dtype=x.dtype)
    return torch.einsum("t,t...->...", weights / weights.sum(), x)


def test_rates() -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    seen = {site: rates(s, 0.5) for site, s in inputs(module, x).items()}
    assert_learned(wrapped(DSR(), module), module, x, y, seen)


def test_rates_through_feedback() -> None:
    module, (x, y) = net("feedback"), sample("feedback", 0)
    arrived = inputs(module, x)
    sent = arrived["5"]  # by the neurons with the leak 2/3, to the readout and back
    seen = {"0": rates(arrived["0"], 1 / 3), "3": rates(arrived["3"], 1 / 3)}
    seen |= {"1.transform": rates(sent, 2 / 3), "5": rates(sent, 2 / 3)}
    assert_learned(wrapped(IDE(), module), module, x, y, seen)


def test_patches() -> None:
    module, (x, y) = net("conv"), sample("conv", 0)
    seen = {site: s.mean(0) for site, s in inputs(module, x).items()}
    seen["0"] = patches(seen["0"], (3, 3), (1, 1), (1, 1), (1, 1), groups=1).flatten(0, 2)
    seen["3"] = patches(seen["3"], (3, 3), (2, 2), (1, 1), (1, 1), groups=2).flatten(0, 2)
    assert_learned(wrapped(SLTT(), module), module, x, y, seen)


def test_both_calls_of_a_shared_layer_teach_its_one_subspace() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.fc, self.out = nn.Linear(8, 12), nn.Linear(12, 12), nn.Linear(12, 4)
            self.neurons = net("shared").get_submodule("lif")

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.neurons(self.fc(self.neurons(self.fc(self.neurons(self.stem(x)))))))

    torch.manual_seed(2)
    module, (x, y) = Twice(), sample("mlp", 0)
    module.load_state_dict({name: 3 * p for name, p in module.state_dict().items()})
    seen = {site: s.mean(0) for site, s in inputs(module, x).items()}
    assert seen.keys() == {"stem", "fc", "fc#2", "out"} and not torch.equal(seen["fc"], seen["fc#2"])
    seen["fc"] = torch.cat([seen["fc"], seen.pop("fc#2")])
    assert_learned(wrapped(OTTT(leak=0.0), module), module, x, y, seen)


def test_bursts() -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    around = HLOP(SLTT(), rows=3, rate=0.3, observe="steps", lateral_steps=4, lateral_scale=2.0)
    old, new = fresh(around, module, x)
    run(around, module, x, y)
    for site, s in inputs(module, x).items():
        rest = torch.zeros_like(new[site])
        expected, _ = learned(old[site], new[site], rest, s.flatten(0, 1), rate=0.3, burst=Lateral(4, 2.0))
        assert_near({site: around.subspaces[site].new}, {site: expected})


def test_rates_and_steps_may_differ_by_layer() -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    around = HLOP(SLTT(), rows=2, rate={"2": 0.01, "*": 0.3}, iterations=2, momentum=0.0)
    old, new = fresh(around, module, x)
    run(around, module, x, y)
    seen = inputs(module, x)
    for site, rate in (("0", 0.3), ("2", 0.01), ("4", 0.3)):
        # No momentum is ten times the rate of the first step; the second step has none left over.
        expected = new[site]
        for _ in range(2):
            rest = torch.zeros_like(expected)
            expected, _ = learned(old[site], expected, rest, seen[site].mean(0), rate=10 * rate, iterations=1)
        assert_near({site: around.subspaces[site].new}, {site: expected})


def test_each_update_teaches_once_more() -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    around = HLOP(SLTT(), rows=2, rate=0.3)
    old, new = fresh(around, module, x)
    seen = {site: s.mean(0) for site, s in inputs(module, x).items()}
    for _ in range(3):
        run(around, module, x, y)
    for site, rows in seen.items():
        expected, _ = learned(old[site], new[site], torch.zeros_like(new[site]), rows, rate=0.3, iterations=15)
        assert_near({f"{site}.weight": expected}, {f"{site}.weight": new_rows(around)[f"{site}.weight"]})
