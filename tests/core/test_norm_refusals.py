"""Batch norm that cannot normalise: one value per channel, another number of axes, a wrong place for its parameters."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import ConfigError, InputError, ShapeError
from spikewright.layers import JointBatchNorm1d, JointBatchNorm2d, PerStepBatchNorm1d, PerStepBatchNorm2d
from spikewright.losses import Loss, OnRate, PerStep
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, DSR, SLTT, Rule
from tests.probing.support import around

ONE_DIMENSIONAL = [nn.BatchNorm1d, PerStepBatchNorm1d, JointBatchNorm1d]
TWO_DIMENSIONAL = [nn.BatchNorm2d, PerStepBatchNorm2d, JointBatchNorm2d]
CRITERION = nn.CrossEntropyLoss()


class Activated(nn.BatchNorm1d):
    """A batch norm with a forward of its own, which holds neurons."""

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.neurons = LIF()

    def forward(self, input: Tensor) -> Tensor:
        return self.neurons(super().forward(input))


class Fixed(nn.BatchNorm1d):
    """A batch norm that never uses the statistics of the batch."""

    def forward(self, input: Tensor) -> Tensor:
        return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def network(norm: nn.Module) -> Network:
    return Network(nn.Sequential(nn.Linear(6, 5), norm, LIF(), nn.Linear(5, 3)))


@pytest.mark.parametrize("kind", [*ONE_DIMENSIONAL, Activated])
def test_one_value_per_channel_has_no_statistics(kind: Callable[[int], nn.Module]) -> None:
    net = network(kind(5))
    with pytest.raises(InputError, match=r"'1' \(\w+\) was given 1 sample of shape \[5\].*one value per channel"):
        net.run(torch.rand(1, 1, 6))
    net.eval()
    net.run(torch.rand(1, 1, 6))


@pytest.mark.parametrize("kind", [JointBatchNorm1d, Fixed])
def test_what_has_more_values_or_needs_none_is_not_refused(kind: Callable[[int], nn.Module]) -> None:
    network(kind(5)).run(torch.rand(3, 1, 6))


@pytest.mark.parametrize(
    ("rule", "loss"), [(BPTT(), PerStep(CRITERION)), (SLTT(), PerStep(CRITERION)), (DSR(), OnRate(CRITERION))]
)
def test_rules_say_so_too(rule: Rule, loss: Loss) -> None:
    with pytest.raises(InputError, match=r"'1' \(BatchNorm1d\).*Give more samples"):
        next(rule.updates(network(nn.BatchNorm1d(5)), torch.rand(3, 1, 6), torch.tensor([1]), loss))


@pytest.mark.parametrize("kind", TWO_DIMENSIONAL)
def test_another_number_of_axes(kind: Callable[[int], nn.Module]) -> None:
    with pytest.raises(ShapeError, match=r"'1' \(\w+\) was given 4 samples of shape \[5\].*expected 4D input"):
        network(kind(5)).run(torch.rand(3, 4, 6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_the_fault_that_comes_first_is_told_where_there_are_two(dtype: torch.dtype) -> None:
    net = Network(around(nn.BatchNorm2d(12)))
    with pytest.raises(ShapeError, match=r"give it x.to\(torch.float64\)"):
        net.run(torch.zeros(3, 4, 12, dtype=dtype))


@pytest.mark.parametrize("kind", [*ONE_DIMENSIONAL[1:], *TWO_DIMENSIONAL[1:]])
@pytest.mark.parametrize(
    ("place", "bad"),
    [
        ("dtype", "float32"),
        ("dtype", 1),
        ("dtype", torch.int64),
        ("dtype", torch.complex64),
        ("device", "word"),
        ("device", 3),
        ("device", ("cpu",)),
    ],
)
def test_parameters_have_a_dtype_and_a_device(kind: Callable[..., nn.Module], place: str, bad: Any) -> None:
    with pytest.raises(ConfigError, match=rf"\w+BatchNorm\dd\({place}="):
        kind(5, **{place: bad})
    made = kind(5, device="cpu", dtype=torch.float64)
    assert all(p.dtype == torch.float64 for p in made.parameters())
