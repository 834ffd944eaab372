"""Rounding is not taken for mixing: operations are cut up in another way where there are other rows."""

import pytest
import torch
from torch import Tensor, nn

from spikewright.neurons import LIF
from tests.core.support import Lambda
from tests.probing.mixing import of, statistics
from tests.probing.support import F, data, refused, wired


def deep(middle: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    wide = [m for _ in range(8) for m in (nn.Linear(300, 300), nn.Tanh(), nn.LayerNorm(300))]
    middle = nn.Identity() if middle is None else middle
    return nn.Sequential(nn.Linear(F, 300), *wide, middle, nn.Linear(300, F), LIF(), nn.Linear(F, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_of_every_precision(dtype: torch.dtype) -> None:
    wired(deep().to(dtype), data().to(dtype))
    refused(deep(of(statistics)).to(dtype), "it mixes the rows", data().to(dtype))


def test_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        wired(deep(), data().float())
        refused(deep(of(statistics)), "it mixes the rows", data().float())


def test_beside_a_mean_over_rows_that_nothing_reads() -> None:
    def forward(m: Lambda, x: Tensor) -> Tensor:
        m.penalty(x)
        return x

    wired(deep(Lambda(forward, penalty=Lambda(lambda m, x: x.mean()))), data().float())


def test_of_complex_numbers() -> None:
    fourier = of(lambda x: torch.fft.ifft(torch.fft.fft(x, dim=1) * 0.5, dim=1).real)
    inner = nn.Linear(F, F, dtype=torch.complex64)
    module = nn.Sequential(of(lambda x: x.to(torch.complex64)), inner, of(lambda x: x.real), LIF(), nn.Linear(F, 4))
    wired(module, data().float())
    wired(nn.Sequential(nn.Linear(F, F), fourier, LIF(), nn.Linear(F, 4)), data().float())
