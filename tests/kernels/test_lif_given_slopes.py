"""Slopes that a user's surrogate computes, over more neurons than the kernel takes at a time."""

import pytest
import torch
from torch import Tensor

from spikewright.kernels.lif import lif_scan
from spikewright.surrogate import Surrogate
from tests.kernels.support import assert_identical, assert_twins, draw, needs_kernels, run, threads

pytestmark = needs_kernels


class Bell(Surrogate):
    def slope(self, x: Tensor) -> Tensor:
        return torch.exp(-x.square())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_every_neuron_gets_its_own(reset: str, dtype: torch.dtype) -> None:
    for size in [(1, 1025), (3, 1023), (9, 2049)]:
        x = draw(size[0], 1, size[1], dtype=dtype)
        one = assert_twins(x, case=size, reset=reset, detach_reset=False, surrogate=Bell())
        with threads(2):
            two = run(lif_scan, x, reset=reset, detach_reset=False, surrogate=Bell())
        assert_identical(two.grads["current"], one.grads["current"], size)
