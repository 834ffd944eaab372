"""Messages that name things are right for one and for several of them."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from spikewright._util.text import counted, kind_of
from spikewright.errors import InputError
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import OTTT
from tests.core.support import CE


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.kernel)


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


X, Y = torch.ones(2, 3, 8), torch.tensor([0, 1, 2])


@pytest.mark.parametrize("kind, named", [(Functional, "{}.kernel"), (Noisy, "{}")])
@pytest.mark.parametrize("count", [1, 2])
def test_warnings_that_name_parameters_or_modules(kind: type[nn.Module], named: str, count: int) -> None:
    layers = [layer for _ in range(count) for layer in (kind(), LIF())]
    net = Network(nn.Sequential(nn.Linear(8, 8), *layers)).double()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(OTTT().updates(net, X.double(), Y, CE))
    (text,) = [str(w.message) for w in caught]
    assert ", ".join(f"'{named.format(1 + 2 * k)}'" for k in range(count)) in text
    words = set(text.replace(",", " ").replace(".", " ").split())
    assert not words & {"it", "It", "its", "they", "They", "their"}


@pytest.mark.parametrize(
    "count, text", [(1, r"1 value that is not finite, at \[0, 0, 0\]"), (2, "2 values that are not")]
)
def test_values_that_are_not_finite(count: int, text: str) -> None:
    x = X.double().clone()
    x[0, 0, :count] = torch.nan
    with pytest.raises(InputError, match=text):
        list(OTTT().updates(Network(nn.Sequential(nn.Linear(8, 8), LIF())).double(), x, Y, CE))


def test_numbers_and_kinds() -> None:
    assert [counted(n, "step") for n in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]
    assert [kind_of(v) for v in (None, 1, 1.0, X)] == ["None", "an int", "a float", "a torch.Tensor"]
