"""Networks of unusual make: frozen, shared and tied weights, names that collide, spikes that are written to."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError
from spikewright.losses import PerStep
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, DSR, HLOP, OTTT, SLTT, Rule
from tests.nets import sample
from tests.rules.support import collected
from tests.subspaces.support import drawn
from tests.subspaces.wrapping import assert_near, end_task, kept_out, net, new_rows, run, settled

PIECE = PerStep(nn.functional.cross_entropy, steps=6)


class Twice(nn.Module):
    """One layer called on two numbers of vectors: on four of each sample, then on their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif, self.out = nn.Linear(8, 8, bias=False), LIF(), nn.Linear(8, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        views = torch.stack([x, x.flip(1), 0.5 * x, x.roll(1, 1)], 1)
        return self.out(self.lif(self.fc(self.lif(self.fc(views)).mean(1))))


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = (nn.Linear(8, n, bias=False) for n in (8, 8, 4))
        self.second.weight = self.first.weight
        self.near, self.far = LIF(), LIF()

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.far(self.second(self.near(self.first(x)))))


class Faded(nn.Module):
    """Spikes that are scaled after a layer has read them, in place or not."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place, self.lif = in_place, LIF()
        self.stem, self.left, self.right = nn.Linear(8, 12), nn.Linear(12, 4), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.lif(self.stem(x))
        left = self.left(spikes)
        return left + self.right(spikes.mul_(0.5) if self.in_place else 0.5 * spikes)


class Values(nn.Module):
    """A layer called as a method of dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.values, self.lif, self.out = nn.Linear(8, 12), LIF(), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lif(self.values(x)))


def lively(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(drawn(*parameter.shape, seed=i) * (2.5 / parameter.shape[-1] ** 0.5))
    return module


@pytest.mark.parametrize("rule", [BPTT(), OTTT(), DSR()], ids=repr)
def test_a_weight_that_is_frozen_is_left_alone(rule: Rule) -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    module.get_parameter("2.weight").requires_grad_(False)
    around = HLOP(rule, rows=0.4, rate=0.3)
    for _ in range(2):
        run(around, module, x, y)
        assert module.get_parameter("2.weight").grad is None
        assert collected(module)["0.weight"].any() and collected(module)["4.weight"].any()
        end_task(around, module, x, y)


def test_a_layer_may_have_any_name() -> None:
    module, (x, y) = lively(Values()), sample("mlp", 0)
    around = HLOP(SLTT(), rows=2)
    run(around, module, x, y)
    assert list(around.subspaces.by_name()) == ["values", "out"]


@pytest.mark.parametrize(
    "form",
    [
        "inputs",
        "gradient",
        "auto",
    ],
)
def test_calls_of_one_layer_are_projected_alike(form: str) -> None:
    x, y = sample("mlp", 0)  # of three samples: 12 vectors, then 3
    plain = lively(Twice())
    run(DSR(), plain, x, y)
    module = lively(Twice())
    around = settled(module, x, y, DSR(), project=form)
    run(around, module, x, y)
    whole = collected(plain)["fc.weight"]
    assert_near({"fc": collected(module)["fc.weight"]}, {"fc": kept_out(whole, around.subspaces["fc"].old)})


def test_tied_weights_learn_as_ever_in_the_first_task() -> None:
    found = []
    for wrap in (False, True):
        module, (x, y) = lively(Tied()), sample("mlp", 0)
        for p in module.parameters():
            p.grad = torch.ones_like(p)
        run(HLOP(SLTT(), rows=2) if wrap else SLTT(), module, x, y)
        found.append(collected(module))
    assert_near(found[1], found[0])


@pytest.mark.parametrize("observe", ["mean", "steps"])
def test_rows_are_what_arrived_whatever_is_written_there_later(observe: Any) -> None:
    found = []
    for in_place in (False, True):
        module, (x, y) = lively(Faded(in_place)), sample("mlp", 0)
        around = HLOP(BPTT(), rows=3, rate=0.3, observe=observe)
        run(around, module, x, y)
        found.append(new_rows(around))
    assert_near(found[0], found[1])


@pytest.mark.parametrize("observe", ["mean", "steps"])
def test_a_still_input_teaches_the_same_whatever_the_chunk(observe: Any) -> None:
    found = []
    for chunk in (1, 4, None):
        module, (x, y) = net("mlp"), sample("mlp", 0)
        around = HLOP(OTTT(chunk=chunk), rows=3, rate=0.3, observe=observe)
        run(around, module, x[:1].expand(6, *x.shape[1:]), y)
        found.append(new_rows(around))
    assert_near(found[1], found[0])
    assert_near(found[2], found[0])


@pytest.mark.parametrize("form", ["inputs", "gradient"])
@pytest.mark.parametrize("rule", [BPTT(), OTTT(chunk=None), DSR()], ids=repr)
def test_a_still_input_is_projected_as_its_repetition(rule: Rule, form: str) -> None:
    found = []
    for still in (True, False):
        module, (x, y) = net("conv"), sample("conv", 0)
        x = x[:1].expand(6, *x.shape[1:])
        x = x if still else x.clone()
        run(settled(module, x, y, rule, project=form), module, x, y)
        found.append(collected(module))
    assert_near(found[0], found[1])


def test_a_stream_in_two_pieces_is_the_stream() -> None:
    x, y = sample("mlp", 0)
    found = []
    for cuts in ((6,), (2, 4)):
        module, state = net("mlp"), None
        around = settled(module, x, y, OTTT(online=True))
        for piece in x.split(cuts):
            for update in around.updates(Network(module), piece, y, PIECE, state):
                state = update.state
        found.append({**collected(module), **new_rows(around)})
    assert_near(found[0], found[1])


WRONG = ["0.1", [3, -1], float("nan"), {"*": "all"}]


@pytest.mark.parametrize("rows", WRONG, ids=str)
def test_rows_that_mean_nothing_are_refused_at_once(rows: Any) -> None:
    with pytest.raises(ConfigError, match="give a share"):
        HLOP(OTTT(), rows=rows)
