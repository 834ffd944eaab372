"""Gradients over rows behind outputs that are not: told, and claimed nothing of."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.reports.gradient_check import certify
from spikewright.rules import BPTT, OTTT, SLTT, Rule
from tests.core.support import CE, Lambda, promised
from tests.probing.mixing import of
from tests.probing.support import F, data

TARGETS = torch.tensor([0, 1, 2, 3, 0])


class LearnedStep(nn.Module):
    """Rounds to multiples of a step that is learned, whose gradient is divided by the number of entries."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: Tensor) -> Tensor:
        share = self.step / (15 * x.numel()) ** 0.5
        step = (self.step - share).detach() + share
        scaled = x / step
        return ((scaled.round() - scaled).detach() + scaled) * step


def with_penalty(x: Tensor) -> Tensor:
    penalty = (x.softmax(1).mean(0) ** 2).sum()
    return x + (penalty - penalty.detach())


class Frequent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, F, scale_grad_by_freq=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x).sum(1)


COUPLED: dict[str, Callable[[], nn.Module]] = {
    "learned step": LearnedStep,
    "penalty": lambda: of(with_penalty),
    "data": lambda: of(lambda x: x + (x.mean(0) - x.mean(0).data)),
    "factor": lambda: of(lambda x: x * 0.5 + (x * (0.5 + len(x)) - (x * (0.5 + len(x))).detach())),
}


def around(layer: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(F, F), layer, LIF(), nn.Linear(F, 4)).double()


@pytest.mark.parametrize("rule", [BPTT(), BPTT(chunk=2), OTTT(), SLTT()], ids=repr)
@pytest.mark.parametrize("name", COUPLED)
def test_told_and_not_claimed(name: str, rule: Rule) -> None:
    net = Network(around(COUPLED[name]()))
    with pytest.warns(UserWarning, match="come from one sample change with the samples beside it"):
        found = certify(net, rule, data(), TARGETS, CE)
    assert found.ok, found.table()
    assert ("1.step" if name == "learned step" else "0.weight") not in promised(found)


def test_hooks_of_parameters_do_not_see_it() -> None:
    module, seen = around(of(with_penalty)), []
    module[0].weight.register_hook(seen.append)  # type: ignore[index, union-attr]
    with pytest.warns(UserWarning, match="come from one sample"):
        Network(module).wiring(data())
    assert seen == []


def test_gradients_by_frequency() -> None:
    module = nn.Sequential(Frequent(), LIF(), nn.Linear(F, 4)).double()
    with pytest.warns(UserWarning, match="'0.table.weight' that come from one sample"):
        found = certify(Network(module), BPTT(chunk=2), data("integers"), TARGETS, CE)
    assert found.ok and "0.table.weight" not in promised(found)


SOUND: dict[str, Callable[[Tensor], Tensor]] = {
    "straight through": lambda x: x + (x.round() - x).detach(),
    "gate": lambda x: x * (x > 0).detach(),
    "rows": lambda x: x / (x.detach().norm(dim=1, keepdim=True) + 1),
    "data": lambda x: x + 0.0 * x.data,
}


@pytest.mark.parametrize("name", SOUND)
def test_what_is_cut_row_by_row(name: str) -> None:
    assert not Network(around(of(SOUND[name]))).wiring(data()).coupled


def test_neurons_in_a_loop() -> None:
    def forward(m: Lambda, x: Tensor) -> Tensor:
        return m.out(torch.stack([m.lif(m.fc(part)) for part in x.view(len(x), 3, 4).unbind(1)]).mean(0))

    def module() -> nn.Module:
        return Lambda(forward, fc=nn.Linear(4, 6), lif=LIF(), out=nn.Linear(6, 4)).double()

    with pytest.warns(UserWarning, match="'lif' is called several times in a step by one place"):
        Network(module())(data())
    Network(module(), known=["lif"])(data())
