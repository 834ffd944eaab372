"""A forward of one's own on a module that a run scans would never be called, and is refused by name."""

import copy
import functools
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikewright.errors import NetworkError
from spikewright.layers import Feedback, JointBatchNorm1d, PerStepBatchNorm1d, Recurrent, StepDropout, SynapticDelay
from spikewright.losses import PerStep
from spikewright.network import Network
from spikewright.neurons import IF, LIF, AlphaLIF
from spikewright.rules import BPTT
from spikewright.temporal import SiteState, Temporal
from tests.core.running import WAIT
from tests.core.support import Lambda


class Doubled(LIF):
    def forward(self, current: Tensor) -> Tensor:
        return super().forward(2 * current)


class Further(Doubled):
    """Inherits it."""


class DoubledAlpha(AlphaLIF):
    def forward(self, current: Tensor) -> Tensor:
        return super().forward(2 * current)


class Memory(Temporal):
    """Has no forward at all."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return x, state


class LoudMemory(Memory):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class LaterDelay(SynapticDelay):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 1)


class LoudFeedback(Feedback):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class OwnScanDropout(StepDropout):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return x, state


class OwnScanNorm(PerStepBatchNorm1d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        return x, state


def built(middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), middle, IF(), nn.Linear(6, 2))


def data() -> Tensor:
    return torch.rand(3, 2, 4)


OWN: dict[str, Callable[[], nn.Module]] = {
    "Doubled": Doubled,
    "Further": Further,
    "DoubledAlpha": DoubledAlpha,
    "LoudMemory": LoudMemory,
    "LaterDelay": lambda: LaterDelay(6),
    "LoudFeedback": lambda: LoudFeedback(nn.Linear(6, 6), "2"),
    "OwnScanDropout": lambda: OwnScanDropout(0.5),
    "OwnScanNorm": lambda: OwnScanNorm(6),
}


@pytest.mark.parametrize("name", OWN)
def test_a_class_with_a_forward_that_no_run_calls(name: str) -> None:
    with pytest.raises(NetworkError, match=rf"^'1' is {name}, .* has a forward of its own\. .* Put .* into scan"):
        Network(built(OWN[name]()))


KINDS: dict[str, Callable[[], nn.Module]] = {
    "LIF": LIF,
    "LIF, learned": lambda: LIF(learn_tau=True),
    "AlphaLIF": AlphaLIF,
    "Memory": Memory,
    "SynapticDelay": lambda: SynapticDelay(6),
    "Feedback": lambda: Feedback(nn.Linear(6, 6), "2"),
    "Recurrent": lambda: Recurrent(LIF(), nn.Linear(6, 6)),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("forward", [lambda x: 2 * x, functools.partial(torch.mul, 2)], ids=["function", "partial"])
def test_a_forward_that_is_replaced_on_an_instance(name: str, forward: Callable[[Tensor], Tensor]) -> None:
    module = built(KINDS[name]())
    net = Network(module)
    net.run(data())
    module[1].forward = forward
    said = r"^'1' is \w+, .* whose forward was replaced\. .* into scan, or into a module in front of it or behind it"
    for use in (lambda: net.run(data()), lambda: Network(module)):
        with pytest.raises(NetworkError, match=said):
            use()
    with pytest.raises(NetworkError, match=said):
        list(BPTT().updates(net, data(), torch.tensor([0, 1]), PerStep(nn.functional.cross_entropy)))
    del module[1].forward
    net.run(data())


@pytest.mark.parametrize("kind", [JointBatchNorm1d, PerStepBatchNorm1d, StepDropout])
def test_norms_and_dropout_run_a_forward_that_is_replaced(kind: type[nn.Module]) -> None:
    layer: nn.Module = kind(0.0) if kind is StepDropout else kind(6)
    module, x = built(layer), data()
    expected = Network(nn.Sequential(module[0], layer, Lambda(lambda m, x: 2 * x), *module[2:])).run(x)[0]
    old = layer.forward
    layer.forward = lambda x: 2 * old(x)
    assert torch.equal(Network(module).run(x)[0], expected)


def test_what_is_there_during_a_run_is_no_forward_of_one_s_own() -> None:
    """Sites are looked for inside a run, and by another thread; one answer stands in for another at a source."""
    found: list[object] = []

    def look(module: nn.Module, x: Tensor) -> Tensor:
        thread = threading.Thread(target=lambda: found.append(Network(whole)))
        thread.start()
        thread.join(WAIT)
        found.append(Network(whole))
        return x

    source = LIF()
    back = Feedback(nn.Linear(6, 6), source)
    whole = nn.Sequential(nn.Linear(4, 6), back, source, Memory(), SynapticDelay(6), Lambda(look), nn.Linear(6, 2))
    net = Network(whole)
    net.wiring(data())
    found.clear()
    net.run(data())
    assert len(found) == 2 * 3  # at every step


def test_what_is_taken_or_copied_during_a_run_stays_plain() -> None:
    """Parametrized modules copy their attributes in a way of their own."""
    copies: list[nn.Module] = []
    lif = LIF(learn_tau=True)
    parametrize.register_parametrization(lif, "leak_logit", nn.Identity())
    plain = LIF()
    module = nn.Sequential(nn.Linear(4, 6), lif, plain, Lambda(lambda m, x: take(x)), nn.Linear(6, 2))
    taken: list[Callable[..., object]] = []

    def take(x: Tensor) -> Tensor:
        copies.append(copy.deepcopy(lif))
        taken.append(plain.forward)
        return x

    net, x = Network(module), data()
    expected = net.run(x)[0]
    plain.forward = taken[-1]
    assert torch.equal(net.run(x)[0], expected)
    module[1] = copies[-1]
    assert torch.equal(Network(module).run(x)[0], expected)
