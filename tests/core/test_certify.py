"""The gradient certificate: what it measures, what it says, and that it leaves no trace."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import IncompatibleRule, InputError
from spikewright.losses import OnRate
from spikewright.network import Network
from spikewright.network.wiring import Wiring
from spikewright.neurons import LIF
from spikewright.reports.gradient_check import certify
from spikewright.rules import BPTT, OTTT, SLTT
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
    ends = {line.split()[0]: line.split("  ")[-1].strip() for line in lines[2:]}
    broken, kept = "exact, MISMATCH", "exact, match"
    assert ends == {row.site: broken if row.site[0] in "02" else kept for row in found.rows}


def test_the_table_says_where_there_is_no_promise_no_gradient_and_no_synapse() -> None:
    layers = {"fc": nn.Linear(8, 12), "norm": nn.LayerNorm(12), "out": nn.Linear(12, 4), "idle": nn.Linear(4, 4)}
    module = lively(Lambda(lambda m, x: m.out(m.lif(m.norm(m.fc(x)))), lif=LIF(), **layers))
    found = certificate(module)
    ends = {line.split()[0]: line.split("  ")[-1].strip() for line in found.table().splitlines()[2:]}
    assert ends["fc.weight"] == "-" and ends["norm.weight"] == "- (not a layer)"
    assert ends["out.weight"] == "exact, match" and ends["idle.weight"] == "no gradient arrives"
    assert {row.site for row in found.rows if row.vanishing} == {"idle.weight", "idle.bias"}


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
