"""E-prop where a trace, a filter or an eligibility per neuron would be wrong, or nearly so."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import IncompatibleRule
from spikewright.network import Network
from spikewright.neurons import LIF, Neuron
from spikewright.reports.gradient_check import certify
from spikewright.rules import OTTT, EProp
from spikewright.rules._eligibility_plans import plans_for
from spikewright.surrogate import Sigmoid, Surrogate
from spikewright.temporal import SiteState
from tests.adaptive import Adaptive, Potential
from tests.nets import sample
from tests.oracles.compare import assert_agree
from tests.oracles.draw import draw
from tests.rules.support import CE, gradients, learn

HARD: Callable[[], Neuron] = partial(LIF, reset="zero", detach_reset=False)  # type: ignore[arg-type]
FRONT = {"front.weight", "front.bias"}
X, Y = sample("mlp", 0, steps=10)


class Net(nn.Module):
    """A layer, neurons, a readout, and what lies between them."""

    def __init__(
        self,
        neuron: Neuron,
        readout: Neuron | None = None,
        before: Callable[[Tensor, Tensor], Tensor] = lambda current, x: current,
        after: Callable[[Tensor], Tensor] = lambda current: current,
        beside: Callable[[Tensor, Tensor], Tensor | float] = lambda current, spikes: 0.0,
    ) -> None:
        super().__init__()
        self.front, self.neuron, self.out = nn.Linear(8, 10), neuron, nn.Linear(10, 4)
        self.readout = readout or nn.Identity()
        self.before, self.after, self.beside = before, after, beside
        self.load_state_dict(draw({"front": (10, 8), "out": (4, 10)}, 0), strict=False)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        current = self.before(self.front(x), x)
        spikes = self.neuron(current)
        return self.readout(self.after(self.out(spikes))) + self.beside(current, spikes)


def claims(module: nn.Module, rule: EProp | None = None, x: Tensor = X) -> set[str]:
    """The parameters that are claimed, and found, to be those of BPTT."""
    check = certify(Network(module), rule or EProp(), x, Y, CE)
    assert check.ok, check.table()
    return {row.site for row in check.rows if row.exact}


class Narrow(Surrogate):
    """A slope that is met only where inputs are made for it."""

    def slope(self, x: Tensor) -> Tensor:
        return (x.abs() < 1e-9).to(x)


@pytest.mark.parametrize("readout", [None, Potential()])
def test_a_slope_that_no_measurement_meets(readout: Neuron | None) -> None:
    neuron = Adaptive(decay=1.0, rho=0.0, jump=0.5)
    neuron.surrogate = Narrow()
    module, source = Net(neuron, readout), torch.Generator().manual_seed(1)
    with torch.no_grad():
        module.front.weight.copy_((torch.rand(10, 8, generator=source) * 4).round() / 4)
        module.front.bias.zero_()
    x = (torch.rand(40, 3, 8, generator=source, dtype=torch.float64) < 0.3).double()
    check = certify(Network(module), EProp(), x, Y, CE)
    rows = {row.site: row for row in check.rows}
    assert check.ok and rows["front.weight"].exact and not rows["front.weight"].vanishing, check.table()
    assert certify(Network(module), OTTT(), x, Y, CE).rows[0].relative_error > 1e-3


class OfLastPotential(Neuron):
    """Has a threshold that follows the potential of the last step, and not of this one."""

    def __init__(self) -> None:
        super().__init__(threshold=1.0, reset="subtract", detach_reset=True, surrogate=Sigmoid(4.0), inplace=False)

    @property
    def dynamics(self) -> Any:
        return Adaptive().dynamics

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        v, w = (state.get(name, torch.zeros_like(x[0])) for name in ("membrane", "adaptation"))
        sent = []
        for step in x:
            u = 0.7 * v + step
            s = self.surrogate(u - 1 - w)
            w = 0.9 * w + 0.2 * s + 0.3 * torch.tanh(v)
            v = u - s.detach()
            v, w = (v, w) if through_time else (v.detach(), w.detach())
            sent.append(s)
        return torch.stack(sent), {"membrane": v, "adaptation": w}


def test_parts_that_depend_on_the_potential_of_another_step() -> None:
    module = Net(OfLastPotential())
    assert claims(module) >= FRONT
    plan = plans_for("EProp", Network(module).wiring(X)).layers["front"]
    assert plan.taps is None and set(plan.kept["neuron"]) == {"membrane", "adaptation"}


def mask(current: Tensor, x: Tensor) -> Tensor:
    return current * (0.5 + x.sum(1, keepdim=True) / 8)


@pytest.mark.parametrize("readout", [None, Potential()])
@pytest.mark.parametrize("neuron", [Adaptive, HARD])
def test_factors_that_depend_on_data(neuron: Callable[[], Neuron], readout: Neuron | None) -> None:
    assert claims(Net(neuron(), readout, mask)) >= FRONT


@pytest.mark.parametrize("neuron", [Adaptive, HARD])
def test_a_current_that_reaches_the_output_too(neuron: Callable[[], Neuron]) -> None:
    module = Net(neuron(), beside=lambda current, spikes: current[:, :4])
    assert claims(module) >= FRONT


@pytest.mark.parametrize(
    "options",
    [
        {"beside": lambda current, spikes: spikes[:, :4]},
        {"after": torch.tanh},
        {"after": lambda current: current * current.detach()},
    ],
    ids=["to the output too", "a curve", "a factor of data"],
)
@pytest.mark.parametrize("neuron", [LIF, Adaptive, HARD])
def test_nothing_is_filtered_or_claimed_where_readouts_are_not_all(
    neuron: Callable[[], Neuron], options: dict[str, Any]
) -> None:
    module = Net(neuron(), Potential(), **options)
    assert not claims(module) & FRONT
    assert not plans_for("EProp", Network(module).wiring(X)).filters
    check = certify(Network(module), EProp(), X, Y, CE)
    assert check.rows[0].relative_error > 1e-3


def test_two_readouts_of_one_decay_are_one_and_of_two_are_none() -> None:
    class Two(nn.Module):
        def __init__(self, other: float) -> None:
            super().__init__()
            self.front, self.neuron = nn.Linear(8, 10), Adaptive()
            self.a, self.b = nn.Linear(10, 4), nn.Linear(10, 4)
            self.one, self.two = Potential(0.8), Potential(other)

        def forward(self, x: Tensor) -> Tensor:
            spikes = self.neuron(self.front(x))
            return self.one(self.a(spikes)) + self.two(self.b(spikes))

    torch.manual_seed(0)
    assert claims(Two(0.8).double()) >= FRONT
    assert not claims(Two(0.7).double()) & FRONT


def test_statistics_of_the_batch_are_refused() -> None:
    module = nn.Sequential(nn.Linear(8, 10), nn.BatchNorm1d(10), HARD(), nn.Linear(10, 4)).double()
    message = r"EProp keeps .* at '0', but what '2' \(LIF\) receives is not that layer's output entry by entry: pooling"
    with pytest.raises(IncompatibleRule, match=message):
        learn(EProp(), module, X, Y)
    learn(EProp(), nn.Sequential(module[0], module[1], LIF(), module[3]), X, Y)


class Lateral(Adaptive):
    """Neurons that share a part of their adaptation."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        sent, after = super().scan(x, state, through_time)
        return sent, {**after, "adaptation": 0.5 * (after["adaptation"] + after["adaptation"].mean(1, keepdim=True))}


class Pooled(Adaptive):
    """Neurons with a state that is one number per sample."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        sent, after = super().scan(x + 0.1 * state.get("sum", torch.zeros(x.shape[1], 1).to(x)), state, through_time)
        return sent, {**after, "sum": sent[-1].mean(1, keepdim=True)}


@pytest.mark.parametrize("neuron, part", [(Lateral, "adaptation"), (Pooled, "sum")])
def test_neurons_that_depend_on_their_neighbours_are_refused(neuron: type[Adaptive], part: str) -> None:
    message = rf"the part '{part}' of the state of 'neuron' \({neuron.__name__}\) depends on other neurons too"
    with pytest.raises(IncompatibleRule, match=message):
        learn(EProp(), Net(neuron()), X, Y)


def test_a_transposed_convolution_is_refused() -> None:
    layers = nn.ConvTranspose2d(2, 6, 3), HARD(), nn.Flatten(), nn.Linear(600, 4)
    with pytest.raises(IncompatibleRule, match=r"at '0', but that is a transposed convolution"):
        learn(EProp(), nn.Sequential(*layers).double(), *sample("conv", 0))


class Trained(Potential):
    """A leaky readout whose decay is trained."""

    def __init__(self) -> None:
        super().__init__(0.8)
        self.logit = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    @property
    def dynamics(self) -> Any:
        self.kappa = self.told = torch.sigmoid(self.logit)  # type: ignore[assignment]
        return super().dynamics

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        self.kappa = torch.sigmoid(self.logit)  # type: ignore[assignment]
        return super().scan(x, state, through_time)


@pytest.mark.parametrize("where", ["neuron", "readout"])
def test_decays_may_be_trained(where: str) -> None:
    neuron = LIF(4.0, learn_tau=True) if where == "neuron" else LIF(4.0)
    module = Net(neuron, Trained() if where == "readout" else None)
    rule, net = EProp(), Network(module)
    list(rule.updates(net, X, Y, CE))
    parameter = module.get_parameter("readout.logit" if where == "readout" else "neuron.leak_logit")
    with torch.no_grad():
        parameter.sub_(1.5)
    assert FRONT <= {row.site for row in certify(net, rule, X, Y, CE).rows if row.exact and row.relative_error < 1e-12}
    module.zero_grad()
    list(rule.updates(net, X, Y, CE))
    assert_agree(
        {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None},
        gradients(EProp(), module, X, Y),
    )
