"""Dependences that the weights of a model hide, or that only gradients show, are found; what is tied stays so."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop import convert
from spikewright.network import Network
from tests.interop.theirs import namespace

STEPS, BATCH, INPUTS, WIDTH = 10, 3, 6, 8


def torches(**options: Any) -> Any:
    return namespace("snnTorch")["Leaky"](0.9, **options)


class Loop(nn.Module):
    """A loop over time around neurons of snnTorch; subclasses say what happens at a step."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(INPUTS, WIDTH), torches()
        self.own()

    def own(self) -> None: ...

    def current(self, x: Tensor, t: int, last: Tensor) -> Tensor:
        return self.fc(x)

    def kept(self, potential: Tensor, t: int) -> Tensor:
        return potential

    def graph(self, t: int) -> bool:
        return torch.is_grad_enabled()

    def forward(self, x: Tensor) -> Tensor:
        potential, spikes, sent = self.lif.init_leaky(), x.new_zeros(x.shape[1], WIDTH), list[Tensor]()
        for t, step in enumerate(x):
            with torch.set_grad_enabled(self.graph(t)):
                spikes, potential = self.lif(self.current(step, t, spikes), self.kept(potential, t))
            sent.append(spikes)
        return torch.stack(sent)


class Feedback(Loop):
    def own(self) -> None:
        self.back = nn.Linear(WIDTH, WIDTH, bias=False)
        nn.init.zeros_(self.back.weight)

    def current(self, x: Tensor, t: int, last: Tensor) -> Tensor:
        return self.fc(x) + self.back(last)


class Gates(Loop):
    def own(self) -> None:
        self.gates = nn.Parameter(torch.ones(STEPS))

    def current(self, x: Tensor, t: int, last: Tensor) -> Tensor:
        return self.fc(x) * self.gates[t]


class Truncated(Loop):
    def kept(self, potential: Tensor, t: int) -> Tensor:
        return potential.detach() if t and t % 4 == 0 else potential


class WarmUp(Loop):
    def graph(self, t: int) -> bool:
        return torch.is_grad_enabled() and t >= 5


class Sequence(nn.Module):
    """Neurons of SpikingJelly that take sequences, and something across the steps between them."""

    def __init__(self, between: Callable[[Any, Tensor], Tensor], behind: Callable[[Any, Tensor], Tensor] | None = None):
        super().__init__()
        node = namespace("SpikingJelly")["LIFNode"]
        self.a, self.b = nn.Linear(INPUTS, WIDTH), nn.Linear(WIDTH, WIDTH)
        with torch.no_grad():
            self.b.weight.abs_().mul_(2)  # so that the second neurons fire
        self.first, self.second = node(step_mode="m", v_threshold=0.4), node(step_mode="m", v_threshold=0.4)
        self.gate, self.readout = nn.Parameter(torch.zeros(())), nn.Parameter(torch.full((STEPS,), 1 / STEPS))
        self.between, self.behind = between, behind

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.b(self.between(self, self.first(self.a(x)))))
        return y if self.behind is None else self.behind(self, y)


def norse() -> nn.Module:
    cell = namespace("Norse")["LIFBoxCell"]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.back, self.cell = (
                nn.Linear(INPUTS, WIDTH),
                nn.Linear(WIDTH, WIDTH, bias=False),
                cell(dt=0.005),
            )
            nn.init.zeros_(self.back.weight)

        def forward(self, x: Tensor) -> Tensor:
            state, spikes, sent = None, x.new_zeros(x.shape[1], WIDTH), list[Tensor]()
            for step in x:
                spikes, state = self.cell(5 * self.fc(step) + self.back(spikes), state)
                sent.append(spikes)
            return torch.stack(sent)

    return Net()


def before(y: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(y[:1]), y[:-1]])


WRONG: dict[str, Callable[[], nn.Module]] = {
    "feedback of 0": Feedback,
    "gates of 1": Gates,
    "truncated": Truncated,
    "steps without a graph": WarmUp,
    "mean over time times 0": lambda: Sequence(lambda s, y: y + s.gate * y.mean(0, keepdim=True)),
    "last spikes times 0": lambda: Sequence(lambda s, y: y + s.gate * before(y)),
    "one step with a graph": lambda: Sequence(lambda s, y: torch.cat([y[:-1].detach(), y[-1:]])),
    "weights of steps": lambda: Sequence(lambda s, y: y, lambda s, y: (s.readout.view(-1, 1, 1) * y).sum(0)),
    "feedback of 0, Norse": norse,
}
RIGHT: dict[str, Callable[[], nn.Module]] = {
    "plain": Loop,
    "mean": lambda: Sequence(lambda s, y: y, lambda s, y: y.mean(0)),
    "last, silent": lambda: Sequence(lambda s, y: -y, lambda s, y: y[-1]),
    "sum": lambda: Sequence(lambda s, y: y, lambda s, y: y.sum(0)),
    "bias before a norm": lambda: nn.Sequential(
        nn.Linear(INPUTS, WIDTH), nn.BatchNorm1d(WIDTH, track_running_stats=False), torches(init_hidden=True)
    ),
    "frozen": lambda: nn.Sequential(nn.Linear(INPUTS, WIDTH), torches(init_hidden=True)).requires_grad_(False),
    "weight of 0": lambda: zeroed(nn.Sequential(nn.Linear(INPUTS, WIDTH), torches(init_hidden=True))),
}


def zeroed(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


def sequence() -> Tensor:
    return 3 * torch.rand(STEPS, BATCH, INPUTS, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", WRONG)
def test_what_weights_hide_is_found(name: str) -> None:
    torch.manual_seed(0)
    model = WRONG[name]()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ConversionError, match="moved"):
        convert(model, sequence(), double=False)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_proven(name: str) -> None:
    torch.manual_seed(0)
    found = convert(RIGHT[name](), sequence(), double=False)
    assert any("agree with its weights moved" in remark for remark in found.remarks)


@pytest.mark.parametrize("name", WRONG)
def test_nothing_else_finds_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikewright.interop._convert.whole_gradients", lambda *given: [])
    torch.manual_seed(0)
    assert convert(WRONG[name](), sequence(), double=False).proven


class Half(nn.Module):
    """A layer in half precision within the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.lif = nn.Linear(INPUTS, WIDTH), namespace("SpikingJelly")["LIFNode"](v_threshold=0.4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            y = self.fc(x)
        sent: Tensor = self.lif(y.to(x.dtype))
        return sent


def test_a_lower_precision_is_told() -> None:
    torch.manual_seed(0)
    found = convert(Half(), sequence(), double=False)
    assert any("computes in a lower precision, or a part is other" in remark for remark in found.remarks)


TIED: dict[str, tuple[Callable[[], Any], str]] = {
    "snnTorch": (lambda: torches(learn_beta=True, init_hidden=True), "beta"),
    "SpikingJelly": (lambda: namespace("SpikingJelly")["ParametricLIFNode"](2.7, decay_input=False), "w"),
    "sinabs": (lambda: namespace("sinabs")["LIF"](tau_mem=4.0), "tau_mem"),
}


@pytest.mark.parametrize("library", TIED)
def test_constants_that_are_one_parameter_stay_one(library: str) -> None:
    make, constant = TIED[library]
    torch.manual_seed(0)
    first, second = make(), make()
    setattr(second, constant, getattr(first, constant))
    model = nn.Sequential(nn.Linear(INPUTS, WIDTH), first, nn.Linear(WIDTH, WIDTH), second)
    with torch.no_grad():
        model[0].weight.mul_(4)
        model[2].weight.mul_(4)
    x = sequence().transpose(0, 1) if library == "sinabs" else sequence()
    found = convert(model, x if library != "sinabs" else sequence(), double=False)
    trained = [p for name, p in found.module.named_parameters() if "logit" in name]
    assert len(trained) == 1
    Network(found.module)(sequence()).square().sum().backward()
    with torch.no_grad():
        trained[0].add_(0.4)
    written = found.write_back()
    assert len(set(written.values())) == 1 and getattr(first, constant) is getattr(second, constant)
    assert not any(row.differing or row.free for row in convert(model, sequence(), double=False).rows)


def test_one_parameter_as_two_constants_is_refused() -> None:
    one = torches(learn_beta=True, threshold=0.9, learn_threshold=True, init_hidden=True)
    one.threshold = one.beta
    model = nn.Sequential(nn.Linear(INPUTS, WIDTH), one)
    with pytest.raises(ConversionError, match="one parameter, and here they would be two different functions"):
        convert(model, sequence())
