"""The gradient certificate: what it measures, what it says, and that it leaves no trace."""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import IncompatibleRule, InputError
from spikewright.losses import OnRate, PerStep
from spikewright.network import Network
from spikewright.network.wiring import Wiring
from spikewright.neurons import LIF
from spikewright.reports.gradient_check import certify
from spikewright.rules import BPTT, OTTT, SLTT, Naive, Rule
from spikewright.rules._base import random_parts
from spikewright.spatial import OPZO
from tests.catalogue import STEPWISE, Entry
from tests.core.support import CE, Lambda, certificate, lively, two_layers
from tests.nets import sample
from tests.oracles.compare import relative
from tests.rules.support import NOISY, gradients, names, unless_refused


class Boastful(SLTT):
    """Promises what it cannot keep."""

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        return True


class Doubled(BPTT):
    """The right direction, twice as far."""

    def updates(self, *args: Any, **kwargs: Any) -> Any:
        return super().updates(*args, **kwargs, backward=lambda value: (2 * value).backward())


@pytest.mark.parametrize("entry", STEPWISE, ids=names(STEPWISE))
@pytest.mark.parametrize("name", NOISY)
def test_leaves_no_trace(entry: Entry, name: str) -> None:
    unless_refused(entry, name)
    net, rule, (x, y) = Network(NOISY[name]()), entry.make(), sample(name, 0)
    for parameter in list(net.parameters())[:2]:
        parameter.grad = torch.ones_like(parameter)
    before = deepcopy(net.state_dict()), deepcopy(rule.state_dict()), torch.get_rng_state(), x.clone()
    grads = [p.grad if p.grad is None else p.grad.clone() for p in net.parameters()]
    certify(net, rule, x, y, CE)
    after = net.state_dict(), rule.state_dict(), torch.get_rng_state(), x
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    for parameter, grad in zip(net.parameters(), grads):
        assert (parameter.grad is None) if grad is None else torch.equal(parameter.grad, grad)  # type: ignore[arg-type]


def test_measures_the_distance_to_bptt() -> None:
    x, y = sample("mlp", 0)
    ours, theirs = (gradients(rule, two_layers(), x, y) for rule in (SLTT(), BPTT()))
    for row in certificate(two_layers(), SLTT()).rows:
        a, b = ours[row.site].flatten(), theirs[row.site].flatten()
        assert row.relative_error == pytest.approx(relative(ours, theirs)[row.site], abs=1e-14)
        assert row.cosine == pytest.approx(float(F.cosine_similarity(a, b, dim=0)), rel=1e-12)
        assert row.norm_ratio == pytest.approx(float(a.norm() / b.norm()), rel=1e-12)
        assert row.is_layer and not row.vanishing
        assert row.exact == row.site.startswith("4")


def test_a_multiple_of_the_gradient_has_its_direction_only() -> None:
    found = certificate(two_layers(), Doubled())
    assert not found.ok
    for row in found.rows:
        assert (row.cosine, row.norm_ratio, row.relative_error) == pytest.approx((1, 2, 1))


def test_a_broken_promise_is_shown() -> None:
    found = certificate(two_layers(), Boastful())
    assert not found.ok
    assert {row.site for row in found.rows if not row.match} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    lines = found.table().splitlines()
    assert lines[0] == f"{Boastful()!r} beside BPTT, 6 steps"
    assert lines[1].split() == ["parameter", "cosine", "norm", "ratio", "rel.", "error", "claim"]
    ends = {line.split()[0]: line.split("  ")[-1].strip() for line in lines[2:-2]}
    assert lines[-2] == "6 of 6 rows claim equality with BPTT: 2 match, 4 MISMATCH"
    worst = max((row for row in found.rows if not row.match), key=lambda row: row.relative_error)
    assert found.worst == worst and lines[-1].startswith(f"worst row: {worst.site}, relative error ")
    assert lines[-1].endswith("(exact, MISMATCH)")
    broken, kept = "exact, MISMATCH", "exact, match"
    assert ends == {row.site: broken if row.site[0] in "02" else kept for row in found.rows}


def test_the_table_says_where_there_is_no_promise_no_gradient_and_no_synapse() -> None:
    layers = {"fc": nn.Linear(8, 12), "norm": nn.LayerNorm(12), "out": nn.Linear(12, 4), "idle": nn.Linear(4, 4)}
    module = lively(Lambda(lambda m, x: m.out(m.lif(m.norm(m.fc(x)))), lif=LIF(), **layers))
    found = certificate(module)
    ends = {line.split()[0]: line.split("  ")[-1].strip() for line in found.table().splitlines()[2:-2]}
    *_, counts, worst = found.table().splitlines()
    told = "2 match, 0 MISMATCH, 2 cannot be told, as no gradient arrives"
    assert counts == f"4 of 8 rows claim equality with BPTT: {told}; 4 claim nothing"
    assert found.worst is not None and found.worst.site in worst and not found.worst.vanishing
    assert ends["fc.weight"] == "-" and ends["norm.weight"] == "- (not a layer)"
    assert ends["out.weight"] == "exact, match" and ends["idle.weight"] == "no gradient arrives"
    assert {row.site for row in found.rows if row.vanishing} == {"idle.weight", "idle.bias"}


def still(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.data.zero_()
    return module


class Lost(SLTT):
    """Learns nothing at layers that feed neurons, and claims it all."""

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        return True

    def updates(self, net: Network, *args: Any, **kwargs: Any) -> Any:
        for update in super().updates(net, *args, **kwargs):
            net.module[0].weight.grad.zero_()
            net.module[2].weight.grad += 1
            yield update


def test_gradients_of_nothing_have_no_angle_and_no_ratio() -> None:
    """A readout of zeros sends no error down."""
    module = two_layers()
    still(module[4])
    rows = {row.site: row for row in certificate(module, Lost()).rows}
    lost, made, alive = rows["0.weight"], rows["2.weight"], rows["4.weight"]
    assert (lost.cosine, lost.norm_ratio, lost.relative_error, lost.match) == (None, None, 0.0, True)
    assert (made.cosine, made.norm_ratio, made.relative_error, made.match) == (None, None, math.inf, False)
    assert alive.cosine == pytest.approx(1) and alive.norm_ratio == pytest.approx(1)
    found = certificate(module, Lost())
    *_, counts, worst = found.table().splitlines()
    assert (
        counts == "6 of 6 rows claim equality with BPTT: 2 match, 1 MISMATCH, 3 cannot be told, as no gradient arrives"
    )
    assert worst == "worst row: 2.weight, relative error inf, cosine -, norm ratio - (exact, MISMATCH)"
    assert "no gradient" not in next(line for line in found.table().splitlines() if line.startswith("2.weight"))


def test_where_no_gradient_arrives_at_all_there_is_no_worst_row() -> None:
    x, y = sample("mlp", 0)
    silent = certify(Network(two_layers()), BPTT(), x, y, PerStep(lambda output, y: 0 * output.sum()))
    assert silent.worst is None
    assert silent.table().endswith("worst row: none, as no gradient arrives at any parameter")


RANDOM: dict[str, tuple[Callable[[], nn.Module], Rule, tuple[str, ...]]] = {
    "nothing": (lambda: nn.Identity(), SLTT(), ()),
    "dropout": (lambda: nn.Dropout(0.3), SLTT(), ("by '4' (Dropout)",)),
    "dropout that is off": (lambda: nn.Dropout(0.3).eval(), SLTT(), ()),
    "steps": (lambda: nn.Identity(), SLTT(k=2), ("for the 2 of 6 steps that SLTT learns from",)),
    "all steps": (lambda: nn.Identity(), SLTT(k=6), ()),
    "noise of a rule": (lambda: nn.Identity(), OTTT(spatial=OPZO()), ("for the noise of OPZO",)),
    "noise of neurons": (lambda: LIF(noise=0.1), BPTT(), ("by '4' (LIF)",)),
    "a function": (
        lambda: Lambda(lambda m, x: F.dropout(x, 0.3)),
        Naive(SLTT(k=2)),
        ("by '4' (Lambda)", "for the 2 of 6 steps that SLTT learns from"),
    ),
}


@pytest.mark.parametrize("case", RANDOM)
def test_random_masks_are_named_as_a_cause_of_differences(case: str) -> None:
    make, rule, expected = RANDOM[case]
    module = nn.Sequential(nn.Linear(8, 12), LIF(), nn.Linear(12, 12), LIF(), make(), nn.Linear(12, 4))
    found = certify(Network(lively(module), known=["4"] if case == "a function" else []), rule, *sample("mlp", 0), CE)
    assert found.random == list(expected)
    lines = [line for line in found.table().splitlines() if line.startswith("random numbers are drawn ")]
    assert len(lines) == bool(expected) and all(part in lines[0] for part in expected)


@pytest.mark.parametrize("entry", STEPWISE, ids=names(STEPWISE))
def test_rules_say_whether_they_draw(entry: Entry) -> None:
    unless_refused(entry, "mlp")
    x, y = sample("mlp", 0)
    rule, net = entry.make(), Network(two_layers())
    if "DKP" in repr(rule):  # learns its feedback from one sequence to the next
        return
    rule.prepare(net, x)
    first, second = (
        [
            g.clone()
            for _ in rule.updates(net, x, y, CE)
            for g in [p.grad for p in net.parameters() if p.grad is not None]
        ]
        for _ in range(2)
        if net.zero_grad() is None
    )
    same = all(torch.equal(a, b) for a, b in zip(first, second))
    assert same != bool(random_parts(rule, len(x)))


@pytest.mark.parametrize("rule", [BPTT(), BPTT(chunk=2), SLTT(), OTTT()], ids=repr)
def test_a_gradient_that_is_nothing_but_rounding_breaks_no_promise(rule: BPTT) -> None:
    """A batch norm takes the mean away, and with it the gradient of every bias before it."""
    layers = [nn.Linear(8, 12), nn.BatchNorm1d(12), LIF(), nn.Linear(12, 4)]
    found = certificate(lively(nn.Sequential(*layers)), rule)
    assert found.ok, found.table()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_tolerance_is_that_of_the_dtype(dtype: torch.dtype) -> None:
    x, y = sample("mlp", 0)
    found = certify(Network(two_layers().to(dtype)), OTTT(), x.to(dtype), y, CE)
    assert found.ok, found.table()
    assert {row.site for row in found.rows if row.exact} == {"2.weight", "2.bias", "4.weight", "4.bias"}


def test_needs_something_to_compare() -> None:
    with pytest.raises(InputError, match="no parameter of the network requires one"):
        certificate(two_layers().requires_grad_(False))
    module = two_layers()
    module[0].requires_grad_(False)
    assert {row.site for row in certificate(module).rows} == {"2.weight", "2.bias", "4.weight", "4.bias"}


def test_refuses_what_the_rule_refuses() -> None:
    x, y = sample("mlp", 0)
    with pytest.raises(IncompatibleRule, match="SLTT learns at every step"):
        certify(Network(two_layers()), SLTT(), x, y, OnRate(F.cross_entropy))
    assert certify(Network(two_layers()), BPTT(chunk=4), x, y, OnRate(F.cross_entropy)).ok


def test_puts_everything_back_when_the_rule_fails() -> None:
    class Failing(SLTT):
        def updates(self, *args: Any, **kwargs: Any) -> Any:
            yield from super().updates(*args, **kwargs)
            raise ZeroDivisionError

    net, (x, y) = Network(NOISY["mlp"]()), sample("mlp", 0)
    before: dict[str, Tensor] = deepcopy(net.state_dict())
    with pytest.raises(ZeroDivisionError):
        certify(net, Failing(k=2), x, y, CE)
    torch.testing.assert_close(net.state_dict(), before, rtol=0, atol=0)
    assert all(p.grad is None for p in net.parameters())
