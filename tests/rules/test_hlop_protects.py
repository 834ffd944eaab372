"""What old tasks have learned stays, whatever a new task teaches, if the optimizer lets it."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from spikewright.errors import IncompatibleRule
from spikewright.layers.weight_standardization import ScaledWSConv2d, ScaledWSLinear
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, DSR, HLOP, OTTT, Rule
from tests.nets import NETS, sample
from tests.oracles.hlop import patches
from tests.subspaces.wrapping import end_task, inputs, run

RULES: dict[str, Callable[[], Rule]] = {"BPTT": BPTT, "OTTT": OTTT, "DSR": DSR}
CONVOLUTIONS = {"0": ((1, 1), (1, 1), 1), "3": ((2, 2), (1, 1), 2)}
"""Stride, padding and groups of those of the network."""


def old_inputs(name: str) -> Tensor:
    """One sample that takes up few directions: it does not change, and most of its pixels are dark."""
    x = sample(name, 16, steps=3, batch=1)[0][:1]
    if name == "conv":
        x[..., 1, :, :] = 0
        x[..., 2:, :] = 0
    return x.expand(3, *x.shape[1:])


def seen(site: str, x: Tensor, weight: Tensor) -> Tensor:
    """The rows that a weight saw of its input `[time, batch, *feature]`."""
    if weight.dim() == 2:
        return x.flatten(0, 1)
    stride, padding, groups = CONVOLUTIONS[site]
    return patches(x.flatten(0, 1), weight.shape[2:], stride, padding, (1, 1), groups).flatten(0, 2)


def protecting(rule: Rule, module: nn.Module, old: Tensor, **options: object) -> HLOP:
    """The rule in its first task, with all directions of old inputs as rows."""
    wrapped = HLOP(rule, rows=0, **options)  # type: ignore[arg-type]
    wrapped.prepare(Network(module), old)
    for site, x in inputs(module, old).items():
        rows = seen(site, x, module.get_parameter(f"{site}.weight"))
        _, sizes, directions = torch.linalg.svd(rows, full_matrices=False)
        wrapped.subspaces[site].add(directions[sizes > 1e-10 * sizes[0]])
        assert 0 < len(wrapped.subspaces[site].old) < rows.shape[1], site
    return wrapped


def moved(rule: HLOP, module: nn.Module, optimizer: Optimizer, name: str, old: Tensor, steps: int) -> float:
    """How far outputs for old inputs move in some updates on other inputs, in which every weight moves."""
    before = Network(module)(old).detach()
    weights = {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}
    for step in range(steps):
        x, y = sample(name, 10 + step)
        optimizer.zero_grad()
        run(rule, module, x, y)
        optimizer.step()
    assert all((module.get_parameter(n) - w).abs().max() > 1e-4 for n, w in weights.items())
    return float((Network(module)(old) - before).detach().abs().max())


@pytest.mark.parametrize("name", ["mlp", "conv"])
@pytest.mark.parametrize("form", ["inputs", "gradient"])
@pytest.mark.parametrize("rule", RULES)
def test_outputs_for_old_inputs_stay(rule: str, form: str, name: str) -> None:
    module, old = NETS[name](0), old_inputs(name)
    wrapped = protecting(RULES[rule](), module, old, project=form)
    end_task(wrapped, module, old, torch.tensor([0]))
    optimizer = SGD(module.parameters(), lr=0.5, momentum=0.9)
    assert moved(wrapped, module, optimizer, name, old, steps=6) < 1e-10


def test_without_projection_they_move() -> None:
    module, old = NETS["mlp"](0), old_inputs("mlp")
    wrapped = HLOP(BPTT(), rows=0)
    end_task(wrapped, module, old, torch.tensor([0]))
    optimizer = SGD(module.parameters(), lr=0.5, momentum=0.9)
    assert moved(wrapped, module, optimizer, "mlp", old, steps=10) > 1e-2


def carried(parameters: list[nn.Parameter], momentum: float = 0.0) -> Optimizer:
    """One that has made a step of an earlier task."""
    optimizer = SGD(parameters, lr=0.1, momentum=momentum)
    for parameter in parameters:
        parameter.grad = 0.01 * torch.ones_like(parameter)
    optimizer.step()
    return optimizer


OPTIMIZERS: dict[str, tuple[Callable[[list[nn.Parameter]], Optimizer], str]] = {
    "SGD": (partial(SGD, lr=0.1), ""),
    "SGD, momentum": (partial(SGD, lr=0.1, momentum=0.9), ""),
    "SGD, Nesterov": (partial(SGD, lr=0.1, momentum=0.9, nesterov=True), ""),
    "SGD, used without momentum": (carried, ""),
    "SGD, carried momentum": (partial(carried, momentum=0.9), "SGD carries momentum of an earlier task"),
    "SGD, weight decay": (partial(SGD, lr=0.1, weight_decay=0.1), "SGD shrinks weights in all directions"),
    "Adam": (partial(Adam, lr=0.01), "Adam scales the entries"),
    "AdamW": (partial(AdamW, lr=0.01), "AdamW scales the entries"),
    "RMSprop": (partial(RMSprop, lr=0.01), "RMSprop scales the entries"),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_that_leak_are_refused_and_no_others(name: str) -> None:
    make, reason = OPTIMIZERS[name]
    module, old = NETS["mlp"](0), old_inputs("mlp")
    optimizer = make(list(module.parameters()))
    wrapped = protecting(OTTT(), module, old)
    wrapped.check_optimizer(optimizer)  # in the first task, none can
    end_task(wrapped, module, old, torch.tensor([0]))
    change = moved(wrapped, module, optimizer, "mlp", old, steps=1)
    assert change > 0.01 if reason else change < 1e-10
    optimizer = make(list(module.parameters()))
    for rule, task in ((wrapped, None), (HLOP(OTTT()), 2)):  # in its second task, or asked about it beforehand
        if not reason:
            rule.check_optimizer(optimizer, task)
            continue
        with pytest.raises(IncompatibleRule, match=f"but {reason}.*Make a new torch.optim.SGD"):
            rule.check_optimizer(optimizer, task)


@pytest.mark.parametrize("rule", ["BPTT", "OTTT", "DSR"])
@pytest.mark.parametrize("kind", [ScaledWSLinear, ScaledWSConv2d])
def test_weights_that_are_standardised_are_refused_unless_free(kind: type[nn.Module], rule: str) -> None:
    linear = kind is ScaledWSLinear
    first = ScaledWSLinear(8, 12) if linear else ScaledWSConv2d(2, 4, 3)
    module = nn.Sequential(first, LIF(), nn.Flatten(), nn.Linear(12 if linear else 144, 4))
    x, y = sample("mlp" if linear else "conv", 0)
    with pytest.raises(IncompatibleRule, match=r"'0' computes its weight .*free=\('0',\)"):
        run(HLOP(RULES[rule]()), module, x, y)
    wrapped = HLOP(RULES[rule](), free=("0",))
    run(wrapped, module, x, y)
    assert list(wrapped.subspaces.by_name()) == ["3"]


@pytest.mark.parametrize("rule", ["BPTT", "OTTT"])
@pytest.mark.long
def test_rows_that_were_learned_hold_too(rule: str) -> None:
    changes = []
    for learns in (True, False):
        module, old = NETS["mlp"](0), old_inputs("mlp")
        wrapped = HLOP(RULES[rule](), rows=6 if learns else 0, rate=0.1, iterations=50, observe="steps")
        for _ in range(10):
            run(wrapped, module, old, torch.tensor([0]))
        module.zero_grad()
        end_task(wrapped, module, old, torch.tensor([0]))
        changes.append(moved(wrapped, module, SGD(module.parameters(), lr=0.1), "mlp", old, steps=5))
    assert changes[0] < 1e-4 * changes[1]
