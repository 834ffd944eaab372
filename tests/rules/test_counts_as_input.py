"""Counts that are kept as bytes or bools, and cast by the network, are learned from like real numbers."""

import pytest
import torch
from torch import Tensor, nn

from spikewright.network import Network
from spikewright.neurons import LIF
from tests.catalogue import RULES, Entry
from tests.core.support import Lambda

STEPS, BATCH = 8, 3


def network() -> Network:
    torch.manual_seed(3)
    cast = Lambda(lambda m, x: x.to(torch.get_default_dtype()))
    first = nn.Linear(6, 8)
    with torch.no_grad():
        first.weight.abs_().mul_(2)  # so that all neurons fire
    return Network(nn.Sequential(cast, first, LIF(), nn.Linear(8, 3)))


def gradients(entry: Entry, x: Tensor, lengths: Tensor | None) -> list[Tensor]:
    net, rule = network(), entry.make()
    torch.manual_seed(1)
    rule.prepare(net, x)
    net.wiring(x)
    torch.manual_seed(1)
    for _ in rule.updates(net, x, torch.tensor([0, 1, 2]), entry.loss, lengths=lengths):
        pass
    return [p.grad for p in net.parameters() if p.grad is not None]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool])
@pytest.mark.parametrize("entry", RULES, ids=str)
def test_gradients_are_those_of_real_numbers(entry: Entry, dtype: torch.dtype, padded: bool) -> None:
    counts = (torch.rand(STEPS, BATCH, 6) < 0.4).to(dtype)
    counts[0] = 0  # the first step tells nothing of the others
    if padded and not entry.make().traits.ragged:
        pytest.skip("takes no lengths")
    lengths = torch.tensor([STEPS, 5, 3]) if padded else None
    found, expected = (gradients(entry, x, lengths) for x in (counts, counts.to(torch.float64)))
    assert found and expected[0].any()
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
