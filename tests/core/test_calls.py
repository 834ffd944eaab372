"""What modules of a run may be called with, and named."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import NetworkError
from spikewright.layers import StepDropout
from spikewright.network import Network
from spikewright.neurons import LIF
from tests.core.support import Lambda


def between(forward: Callable[[Lambda, Tensor], Tensor], inner: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 6), Lambda(forward, inner=inner), LIF(), nn.Linear(6, 4)).double()


@pytest.mark.parametrize(
    "inner, name",
    [(LIF(), "current"), (nn.BatchNorm1d(6), "input"), (nn.Dropout(0.5), "input"), (StepDropout(0.5), "input")],
    ids=lambda value: type(value).__name__,
)
def test_by_name(inner: nn.Module, name: str) -> None:
    x = 3 * torch.rand(4, 3, 6, dtype=torch.float64)
    expected, found = (
        Network(between(forward, inner).eval())(x)
        for forward in (lambda m, x: m.inner(x), lambda m, x: m.inner(**{name: x}))
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("given", [(), (1.0,), (torch.ones(3, 6), torch.ones(3, 6))], ids=["none", "float", "two"])
def test_by_something_else(given: tuple[object, ...]) -> None:
    module = between(lambda m, x: m.inner(*given), LIF())
    with pytest.raises(NetworkError, match=r"'1\.inner' \(LIF\) was called with \(.*takes one tensor"):
        Network(module)(torch.rand(4, 3, 6, dtype=torch.float64))


def test_a_name_that_reads_as_a_repeated_call() -> None:
    layers = nn.ModuleDict({"o#1": nn.Linear(6, 6)})
    module = between(lambda m, x: m.inner["o#1"](x), layers)
    with pytest.raises(NetworkError, match=r"'1\.inner\.o#1' \(Linear\) has a '#' in its name"):
        Network(module)
