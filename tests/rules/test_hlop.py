"""HLOP around every rule: in the first task it is that rule; later gradients of weights are kept out of old rows."""

from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright.rules import HLOP, Rule
from tests.nets import sample
from tests.oracles.machine import Params
from tests.rules.support import assert_identical, collected
from tests.subspaces.wrapping import (
    CASES,
    WRAPPED,
    assert_near,
    kept_out,
    net,
    old_rows,
    run,
    settled,
    weight_gradients,
)

everywhere = pytest.mark.parametrize(("rule", "name"), CASES)


def later(rule: str, name: str, **options: Any) -> tuple[Params, Params, list[Tensor]]:
    """Gradients of the weights in a second task, its old rows, and all outputs and losses."""
    module, (x, y) = net(name), sample(name, 0)
    wrapped = settled(module, x, y, WRAPPED[rule](), **options)
    updates = run(wrapped, module, x, y)
    rows = old_rows(wrapped)
    return weight_gradients(module, rows), rows, [t for u in updates for t in (u.loss, u.output)]


def plain(rule: Rule, name: str) -> tuple[Params, list[Tensor]]:
    """Gradients of a rule, and all outputs and losses."""
    module = net(name)
    updates = run(rule, module, *sample(name, 0))
    return collected(module), [t for u in updates for t in (u.loss, u.output)]


@everywhere
def test_the_first_task_is_the_rule_itself(rule: str, name: str) -> None:
    expected, outputs = plain(WRAPPED[rule](), name)
    found, same = plain(HLOP(WRAPPED[rule](), rows=0.5, rate=0.1), name)
    assert_identical(found, expected)
    assert all(torch.equal(a, b) for a, b in zip(outputs, same, strict=True))
    assert all(grad.any() for grad in expected.values())


@everywhere
def test_later_gradients_of_weights_are_kept_out_of_old_rows(rule: str, name: str) -> None:
    gradients, outputs = plain(WRAPPED[rule](), name)
    for form in ("inputs", "gradient"):
        found, rows, same = later(rule, name, project=form)
        assert_near(found, {key: kept_out(gradients[key], rows[key]) for key in rows})
        assert all(torch.equal(a, b) for a, b in zip(outputs, same, strict=True)), form
        assert all(len(old) >= 2 and (found[key] - gradients[key]).abs().max() > 1e-4 for key, old in rows.items())


@pytest.mark.parametrize("form", ["inputs", "gradient"])
@pytest.mark.parametrize("rule", ["BPTT", "SLTT", "OTTT"])
def test_errors_go_back_as_ever(rule: str, form: str) -> None:
    arrived = []
    for wrap in (False, True):
        module, (x, y) = net("conv"), sample("conv", 0)
        inside = WRAPPED[rule]()
        used = settled(module, x, y, inside, project=form) if wrap else inside
        x.requires_grad_()
        run(used, module, x, y)
        assert x.grad is not None and x.grad.any()
        arrived.append(x.grad)
    torch.testing.assert_close(*arrived, rtol=1e-13, atol=1e-15)


def test_no_subspace_is_no_projection() -> None:
    module, (x, y) = net("conv"), sample("conv", 0)
    wrapped = settled(module, x, y, WRAPPED["OTTT"](), rows=0, project="inputs")
    run(wrapped, module, x, y)
    expected, _ = plain(WRAPPED["OTTT"](), "conv")
    assert_identical(weight_gradients(module, old_rows(wrapped)), {n: expected[n] for n in old_rows(wrapped)})


def test_free_layers_are_left_alone() -> None:
    module, (x, y) = net("conv"), sample("conv", 0)
    wrapped = settled(module, x, y, WRAPPED["OTTT"](), free=("6", "0"))
    run(wrapped, module, x, y)
    expected, _ = plain(WRAPPED["OTTT"](), "conv")
    found = collected(module)
    assert list(wrapped.subspaces.by_name()) == ["3"]
    for key in ("0.weight", "0.bias", "6.weight", "6.bias"):
        torch.testing.assert_close(found[key], expected[key], rtol=1e-13, atol=1e-15)
    assert_near({"3": found["3.weight"]}, {"3": kept_out(expected["3.weight"], wrapped.subspaces["3"].old)})
    assert not found["3.bias"].any()  # which is held still


@pytest.mark.parametrize("rule", ["OTTT", "OTTT, online", "DSR"])
@pytest.mark.parametrize("form", ["inputs", "gradient"])
def test_bursts_of_lateral_neurons_are_projected_by_inputs_unless_asked_otherwise(rule: str, form: str) -> None:
    gradients, _ = plain(WRAPPED[rule](), "mlp")
    bursts = {"lateral_steps": 2, "lateral_scale": 1.0}
    auto, rows, _ = later(rule, "mlp", **bursts)
    found, _, _ = later(rule, "mlp", project=form, **bursts)
    linear = {key: kept_out(gradients[key], rows[key]) for key in rows}
    assert max(float((found[key] - linear[key]).abs().max()) for key in rows) > 1e-3
    same = [torch.equal(auto[key], found[key]) for key in rows]
    assert all(same) if form == "inputs" else not any(same)
