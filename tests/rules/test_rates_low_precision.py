"""Rules that learn from rates in networks of half precision and under autocast: right to the precision."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.layers import Feedback
from spikewright.neurons.dsr import DSRIF
from spikewright.rules import DSR, HLOP, IDE, SPIDE, Rule
from spikewright.solvers import Anderson, Broyden, FixedPoint, Iterative
from spikewright.solvers._base import Product
from tests.rules.support import loss_for

X = torch.randint(0, 3, (16, 4, 8), generator=torch.Generator().manual_seed(1)) / 2.0
Y = torch.tensor([0, 1, 2, 0])
EPS = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}


def loop() -> nn.Module:
    source = sw.IF()
    return nn.Sequential(nn.Linear(8, 8), Feedback(nn.Linear(8, 8), source), source, nn.Linear(8, 3))


NETS: dict[str, Callable[[], nn.Module]] = {
    "if": lambda: nn.Sequential(nn.Linear(8, 8), sw.IF(), nn.Linear(8, 8), sw.IF(), nn.Linear(8, 3)),
    "lif": lambda: nn.Sequential(nn.Linear(8, 8), sw.LIF(2.0), nn.Linear(8, 8), sw.LIF(2.0), nn.Linear(8, 3)),
    "trained threshold": lambda: nn.Sequential(nn.Linear(8, 8), DSRIF(1.0), nn.Linear(8, 3)),
    "norm": lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), sw.IF(0.85), nn.Linear(8, 3)),
    "dropout": lambda: nn.Sequential(nn.Linear(8, 8), sw.IF(), nn.Dropout(0.5), nn.Linear(8, 3)),
    "pooling": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 4, 3), sw.IF(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(12, 3)
    ),
    "feedback": loop,
}
RULES: dict[str, Callable[[], Rule]] = {
    "DSR": DSR,
    "DSR joint": lambda: DSR("joint"),
    "HLOP": lambda: HLOP(DSR()),
    "Broyden": lambda: IDE(Broyden(), strict=True),
    "Anderson": lambda: IDE(Anderson(), strict=True),
    "FixedPoint": lambda: IDE(FixedPoint(), strict=True),
    "SPIDE": lambda: SPIDE(loss_scale=0.5),
}
PAIRS = [(net, "DSR") for net in NETS if net != "feedback"] + [(net, "SPIDE") for net in ("if", "norm", "feedback")]
PAIRS += [("feedback", rule) for rule in ("Broyden", "Anderson", "FixedPoint")] + [
    ("norm", "DSR joint"),
    ("if", "HLOP"),
]


def built(name: str) -> nn.Module:
    """Weights and inputs of few digits, so that currents, and spikes, are the same in every precision."""
    module, source = NETS[name]().float(), torch.Generator().manual_seed(2)
    for p in module.parameters():
        if p.dim() > 1:
            p.data = torch.randint(-4, 8, p.shape, generator=source) / 8
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d) and layer.bias is not None:
            layer.bias.data = torch.randint(0, 4, layer.bias.shape, generator=source) / 8
        if isinstance(layer, Feedback):
            layer.transform.weight.data /= 8  # type: ignore[union-attr,operator]
    return module.float()


@cache
def in_full(name: str, rule: str) -> tuple[Tensor, Tensor]:
    return learned(RULES[rule](), name, None, "cast")


def learned(rule: Rule, name: str, dtype: torch.dtype | None, how: str) -> tuple[Tensor, Tensor]:
    """All gradients, and the output."""
    torch.manual_seed(3)
    module, x = built(name), X.float()
    if dtype is not None and how == "cast":
        module, x = module.to(dtype), x.to(dtype)
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None and how == "autocast"):
        (update,) = rule.updates(sw.Network(module), x, Y, loss_for(rule))
    grads = [p.grad for p in module.parameters() if p.grad is not None]
    assert all(g.dtype == p.dtype for p in module.parameters() if (g := p.grad) is not None)
    return torch.cat([g.flatten().double() for g in grads]), update.output.double()


@pytest.mark.parametrize("dtype, how", [(torch.float16, "cast"), (torch.bfloat16, "autocast")], ids=str)
@pytest.mark.parametrize("name, rule", PAIRS)
def test_gradients_are_those_of_full_precision_up_to_rounding(
    name: str, rule: str, dtype: torch.dtype, how: str
) -> None:
    full, output = in_full(name, rule)
    low, same = learned(RULES[rule](), name, dtype, how)
    assert (same - output).abs().max() <= 4 * EPS[dtype] * output.abs().max()  # the same spikes
    couple = 0.02 if rule == "SPIDE" else 0.0  # of the second phase, which fires a step earlier or later
    assert (low - full).norm() <= (4 * EPS[dtype] + couple) * full.norm()
    assert full.norm() > 0


@pytest.mark.long
def test_a_long_second_phase_adds_up_in_half_precision() -> None:
    """Sums of spikes in eight bits would end at 256."""

    def rule() -> Rule:
        return SPIDE(steps=600, loss_scale=0.5)

    full, _ = learned(rule(), "if", None, "cast")
    low, _ = learned(rule(), "if", torch.bfloat16, "cast")
    assert (low - full).norm() <= 0.02 * full.norm()


@pytest.mark.parametrize("dtype, how", [(torch.float16, "autocast"), (torch.bfloat16, "cast")], ids=str)
@pytest.mark.parametrize("solver", [Broyden, Anderson, FixedPoint])
def test_an_adjoint_through_half_precision_converges(solver: type[Iterative], dtype: torch.dtype, how: str) -> None:
    torch.manual_seed(0)
    module, low = loop().float(), how == "cast"
    module[1].transform.weight.data *= 0.5  # type: ignore[index,union-attr,operator]
    module[0].weight.data *= 2  # type: ignore[index,union-attr,operator]
    x, rule = X.to(dtype if low else torch.float32), IDE(solver(30, tolerance=None))
    with torch.autocast("cpu", dtype, enabled=not low):
        (update,) = rule.updates(sw.Network(module.to(x.dtype)), x, Y, loss_for(rule))
    assert update.report is not None and update.report.converged, update.report


@pytest.mark.parametrize("solver", [Broyden, Anderson, FixedPoint])
def test_what_products_do_not_resolve_is_good_enough_unless_more_is_asked_for(solver: type[Iterative]) -> None:
    source, g = torch.Generator().manual_seed(0), torch.randn(3, 20, dtype=torch.float32)
    rounding = EPS[torch.float16]

    def rounded(v: Tensor) -> Tensor:
        """Half of v, each time rounded otherwise."""
        return v / 2 * (1 + rounding / 2 * torch.randn(v.shape, generator=source, dtype=torch.float32))

    v, report = solver(30, tolerance=None).solve(Product(rounded, rounding), g)
    assert report.converged and (v - 2 * g).norm() <= 4 * rounding * (2 * g).norm()
    for asked, product in ((1e-5, Product(rounded, rounding)), (None, rounded)):
        assert not solver(30, tolerance=asked).solve(product, g)[1].converged
    assert solver(30, tolerance=1e-5).solve(lambda v: v / 2, g)[1].converged
