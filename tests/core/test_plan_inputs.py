"""What `plan` is told of the input: a shape or an example, of any type."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError, InputError, ShapeError
from spikewright.metrics import SavedBytes
from spikewright.network import Network
from spikewright.neurons import IF, LIF
from spikewright.reports.memory_profile import plan
from spikewright.rules import BPTT, OTTT, SLTT, Rule
from spikewright.rules._base import fresh_copy
from tests.core.support import two_layers
from tests.rules.support import loss_for


class Bytes(nn.Module):
    """Takes frames as they are stored."""

    def forward(self, x: Tensor) -> Tensor:
        return x.double() / 255


def of_bytes() -> nn.Module:
    return nn.Sequential(Bytes(), nn.Linear(8, 12), LIF(), nn.Linear(12, 4))


def of_indices() -> nn.Module:
    return nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(24, 12), LIF(), nn.Linear(12, 4))


NETS: dict[str, tuple[Any, Tensor]] = {
    "bytes": (of_bytes, torch.randint(0, 256, (6, 3, 8)).byte()),
    "indices": (of_indices, torch.randint(0, 20, (6, 3, 3))),
    "real": (two_layers, torch.rand(6, 3, 8)),
}


def needed(net: Network, rule: Rule, x: Tensor) -> int:
    """The bytes of one step of training on `x`."""
    y = torch.zeros(x.shape[1], dtype=torch.int64)
    loss = loss_for(rule).by(lambda output, y: output.square().mean())
    net.wiring(x)
    with SavedBytes() as saved:
        list(fresh_copy(rule, net, x).updates(net, x, y, loss))
    return saved.peak


@pytest.mark.parametrize("rule", [BPTT(), OTTT(), BPTT(chunk=2, checkpoint=True)], ids=repr)
@pytest.mark.parametrize("name", NETS)
def test_an_example_is_repeated(name: str, rule: Rule) -> None:
    """Every row is what training on a sequence of that length keeps."""
    build, x = NETS[name]
    net, x = Network(build()), x.double() if name == "real" else x
    found = plan(net, rule, x, measure=(2, 15), report=())
    assert found.shape == tuple(x.shape)
    for row in found.rows:
        if row.measured:
            longer = torch.cat([x] * 3)[: row.steps]
            assert row.saved_bytes == needed(net, rule, longer)


def test_a_static_example_stays_one() -> None:
    net, x = Network(two_layers()), torch.rand(1, 3, 8).expand(6, 3, 8)
    moving, static = (plan(net, SLTT(chunk=None), v, measure=(4, 8), report=()) for v in (x.clone(), x))
    assert static.bytes_per_step < moving.bytes_per_step
    assert static.rows[-1].saved_bytes == needed(net, SLTT(chunk=None), x[:1].expand(8, 3, 8))


@pytest.mark.parametrize("measure", [None, (2, 4)])
def test_a_shape_of_a_network_that_takes_another_type(measure: tuple[int, int] | None) -> None:
    with pytest.raises(ShapeError, match=r"an input of torch.float64.*give an example .*plan\(net, rule, x\)"):
        plan(Network(of_indices()), BPTT(), (6, 3, 3), measure=measure)


def test_an_example_that_does_not_fit_is_not_blamed_on_its_type() -> None:
    with pytest.raises(ShapeError) as caught:
        plan(Network(two_layers()), BPTT(), torch.rand(6, 3, 7))
    assert "'0' expects" in str(caught.value) and "plan" not in str(caught.value)


NO_SHAPES: list[Any] = [
    5,
    (5,),
    (),
    (5.0, 2, 4),
    "abc",
    (0, 2, 8),
    (4, -1, 8),
    None,
    np.ones((6, 3, 8)),
    torch.tensor(1.0),
]


@pytest.mark.parametrize("shape", NO_SHAPES, ids=lambda s: type(s).__name__)
def test_what_is_no_shape(shape: Any) -> None:
    with pytest.raises(ConfigError, match=r"plan was given .* whole numbers from 1 to .*Give x.shape"):
        plan(Network(two_layers()), BPTT(), shape)


def test_shapes_of_other_kinds() -> None:
    net = Network(two_layers())
    expected = plan(net, BPTT(), (6, 3, 8)).rows
    for shape in ([6, 3, 8], torch.Size((6, 3, 8)), np.array([6, 3, 8])):
        assert plan(net, BPTT(), shape).rows == expected  # type: ignore[arg-type]


def test_nothing_to_learn() -> None:
    with pytest.raises(InputError, match="no parameter of the network requires one"):
        plan(Network(nn.Sequential(IF())), BPTT(), (6, 3, 8))
