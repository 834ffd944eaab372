"""The gradient check in low precision and under autocast: what is kept is kept, and what is broken is broken."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor, nn

from spikewright.metrics.precision import Precisions
from spikewright.network import Network
from spikewright.network.wiring import Wiring
from spikewright.neurons import LIF
from spikewright.reports.gradient_check import Certificate, certify
from spikewright.rules import BPTT, OTTT, SLTT, Rule
from tests.core.support import CE

LOW = [torch.float16, torch.bfloat16]


class Boastful(SLTT):
    """Promises what it cannot keep."""

    def exact(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        return True


class Half(nn.Module):
    """Computes in half precision by itself."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.half()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.half()).float()


def network(normed: bool = False) -> nn.Module:
    torch.manual_seed(1)
    norm = [nn.BatchNorm1d(16)] if normed else []
    module = nn.Sequential(nn.Linear(8, 16), *norm, LIF(), nn.Linear(16, 16), LIF(), nn.Linear(16, 4)).float()
    for p in module.parameters():
        p.data *= 2 if p.dim() > 1 else 1
    return module


def autocast(dtype: torch.dtype) -> AbstractContextManager[object]:
    return torch.autocast("cpu", dtype)


def checked(rule: Rule, dtype: torch.dtype, how: str, normed: bool = False) -> Certificate:
    module = network(normed)
    if how == "in part":
        module[-1] = Half(module[-1])  # type: ignore[operator,index]
    x, y = torch.rand(6, 5, 8, generator=torch.Generator().manual_seed(0)).float(), torch.tensor([0, 1, 2, 3, 0])
    if how == "cast":
        module, x = module.to(dtype), x.to(dtype)
    with autocast(dtype) if how == "autocast" else nullcontext():
        return certify(Network(module), rule, x, y, CE)


HOW = [(dtype, how) for dtype in LOW for how in ("cast", "autocast")] + [(torch.float16, "in part")]


@pytest.mark.parametrize("dtype, how", HOW, ids=str)
@pytest.mark.parametrize("rule", [OTTT, SLTT, lambda: BPTT(chunk=2)])
def test_a_promise_is_kept_up_to_the_lowest_precision(rule: Callable[[], Rule], dtype: torch.dtype, how: str) -> None:
    found = checked(rule(), dtype, how)
    assert found.ok, found.table()
    assert not any(row.vanishing for row in found.rows)
    errors = [row.relative_error for row in found.rows if row.exact]
    assert errors and max(errors) > 1e-6  # which full precision would not allow for


@pytest.mark.parametrize("dtype, how", HOW, ids=str)
def test_a_broken_promise_is_still_found(dtype: torch.dtype, how: str) -> None:
    assert {row.site for row in checked(Boastful(), dtype, how).rows if not row.match} >= {"0.weight", "0.bias"}


@pytest.mark.parametrize("dtype, how", HOW, ids=str)
def test_rounding_alone_is_silent_and_nothing_else(dtype: torch.dtype, how: str) -> None:
    """A batch norm takes the mean away, and with it the gradient of the bias before it."""
    found = checked(BPTT(chunk=2), dtype, how, normed=True)
    assert found.ok, found.table()
    assert {row.site for row in found.rows if row.vanishing} == {"0.bias"}


def test_the_precision_is_measured() -> None:
    x = torch.ones(2, 8).float()
    cases = {
        torch.float32: (nn.Linear(8, 8).float(), nullcontext()),
        torch.float16: (nn.Sequential(nn.Linear(8, 8).float(), Half(nn.Linear(8, 8))), nullcontext()),
        torch.bfloat16: (nn.Linear(8, 8).float(), autocast(torch.bfloat16)),
    }
    for lowest, (module, context) in cases.items():
        with context, Precisions() as seen:
            module(x)
        assert seen.lowest(torch.float32) == lowest
    assert Precisions().lowest(torch.float64) == torch.float64
