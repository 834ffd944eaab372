"""Rules of rates learn from rows of a sample that are folded into the batch as from rows on an axis."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.layers import Feedback
from spikewright.neurons import IF
from spikewright.rules import DSR, IDE, SPIDE, Rule
from spikewright.solvers import Anderson, Broyden, FixedPoint
from tests.core.support import Lambda
from tests.oracles.compare import assert_agree
from tests.rules.support import collected, learn

ROWS, SIZE, STEPS, BATCH = 3, 6, 5, 4
RULES: dict[str, Callable[[], Rule]] = {
    "DSR": DSR,
    "IDE, fixed point": lambda: IDE(FixedPoint(60)),
    "IDE, Broyden": lambda: IDE(Broyden(60), mask="output"),
    "IDE, Anderson": lambda: IDE(Anderson(60)),
    "SPIDE": SPIDE,
    "SPIDE, scaled": lambda: SPIDE(steps=40, loss_scale=3.0, leaky=True),
    "SPIDE, small": lambda: SPIDE(steps=60, loss_scale=0.3),
}


def folded(x: Tensor) -> Tensor:
    return x.flatten(0, 1)


def unfolded(x: Tensor) -> Tensor:
    return x.unflatten(0, (-1, ROWS))


def network(forward: Callable[[Any, Tensor], Tensor], loop: bool) -> nn.Module:
    """Layers a, b of rows and one of samples; neurons n, m, k; with feedback to n (of rows) and k (of samples)."""
    torch.manual_seed(0)
    layers: dict[str, nn.Module] = {"a": nn.Linear(SIZE, 8), "b": nn.Linear(8, 7), "whole": nn.Linear(ROWS * 7, 6)}
    neurons = {name: IF(threshold=1.0, rest=-1.0) for name in "nmk"}
    back = {"back": Feedback(nn.Linear(7, 8), "m"), "again": Feedback(nn.Linear(6, 6), "k")} if loop else {}
    module = Lambda(forward, **layers, **neurons, out=nn.Linear(6, 4), **back).double()
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.mul_(0.5 if "back" in name or "again" in name else 3.0)
    return module


def drawn(asleep: bool = False) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(1)
    x = 2 * torch.rand(STEPS, BATCH, ROWS, SIZE, generator=source, dtype=torch.float64)
    return x, torch.tensor([0, -100 if asleep else 2, 1, 3])


Pair = tuple[Callable[[Any, Tensor], Tensor], Callable[[Any, Tensor], Tensor]]
ALL: Pair = (
    lambda s, x: s.out(s.k(s.whole(unfolded(s.m(s.b(s.n(s.a(folded(x)))))).flatten(1)))),
    lambda s, x: s.out(s.k(s.whole(s.m(s.b(s.n(s.a(x)))).flatten(1)))),
)
MEAN: Pair = (
    lambda s, x: unfolded(s.m(s.b(s.n(s.a(folded(x)))))).mean(1)[:, :4],
    lambda s, x: s.m(s.b(s.n(s.a(x)))).mean(1)[:, :4],
)
LOOP: Pair = (
    lambda s, x: s.out(s.k(s.again(s.whole(unfolded(s.m(s.b(s.n(s.back(s.a(folded(x))))))).flatten(1))))),
    lambda s, x: s.out(s.k(s.again(s.whole(s.m(s.b(s.n(s.back(s.a(x))))).flatten(1))))),
)
PAIRS = {"to samples": ALL, "rows alone": MEAN, "with feedback": LOOP}


def found(rule: Rule, forward: Callable[[Any, Tensor], Tensor], loop: bool, asleep: bool) -> tuple[Any, Any]:
    module = network(forward, loop)
    updates = learn(rule, module, *drawn(asleep))
    return collected(module), updates[-1].report


@pytest.mark.parametrize("asleep", [False, True], ids=["", "a sample without a gradient"])
@pytest.mark.parametrize(("rule", "pair"), [(r, p) for r in RULES for p in PAIRS if (r, p) != ("DSR", "with feedback")])
def test_folded_or_not(rule: str, pair: str, asleep: bool) -> None:
    loop = "feedback" in pair
    (one, said), (other, expected) = (found(RULES[rule](), forward, loop, asleep) for forward in PAIRS[pair])
    assert_agree(one, other, 1e-10)
    assert sum(bool(grad.any()) for grad in one.values()) >= 3
    if said is not None:
        assert said.converged == expected.converged
        assert said.iterations == expected.iterations
        assert said.silent == pytest.approx(expected.silent)
        assert said.saturated == pytest.approx(expected.saturated)
        assert said.rates == pytest.approx(expected.rates)
