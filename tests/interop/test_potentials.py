"""Potentials that a model returns or uses: which one it is, its gradient, and that a wrong one is found."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop import convert, reading
from spikewright.interop.mapping import Mapping
from spikewright.interop.table import LINES, Line
from spikewright.network import Network
from spikewright.neurons import LI
from tests.interop.theirs import VALUES, imported, line, their_neuron

STEPS, BATCH = 10, 3
SNN = [each for each in LINES if each.library == "snnTorch"]
LATE, KEPT, BOTH, READOUT, SYNAPTIC = (line("snnTorch", i) for i in (0, 3, 7, 8, 11))


class Told(nn.Module):
    """A layer whose neurons return their potential last, and what a model makes of it."""

    def __init__(self, which: Line, use: Callable[[Any], Any]) -> None:
        super().__init__()
        self.fc, self.lif, self.use = nn.Linear(4, 5), their_neuron(which, VALUES["any"]), use
        with torch.no_grad():
            self.fc.weight.abs_().mul_(3)

    def forward(self, x: Tensor) -> Any:
        return self.use(self.lif(self.fc(x)))


def sequence() -> Tensor:
    return torch.rand(STEPS, BATCH, 4, generator=torch.Generator().manual_seed(1))


def theirs(model: Any, x: Tensor) -> Tensor:
    for name, buffer in list(model.lif._buffers.items()):
        if name in ("mem", "syn", "spk"):
            model.lif._buffers[name] = torch.zeros(0) if buffer is not None else None
    return torch.stack([model(step) for step in x])


@pytest.mark.parametrize("which", SNN, ids=lambda each: each.theirs)
def test_potentials_and_their_gradients_are_theirs(which: Line) -> None:
    model, x = Told(which, lambda y: 2 * y[-1]), sequence()
    found = convert(model, x)
    silent = "none" in which.theirs
    assert found.rows[0].ours.startswith("LI(") if silent else "potential=" in found.rows[0].ours
    gradients = []
    for run in (lambda x: theirs(model, x), Network(found.module)):
        given = x.clone().requires_grad_()
        y = run(given)
        y.square().mean().backward()
        gradients.append((y.detach(), given.grad, model.fc.weight.grad))
        model.fc.weight.grad = None
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_spikes_and_potentials_are_returned_together() -> None:
    model, x = Told(LATE, lambda y: (3 * y[0], 2 * y[1])), sequence()
    spikes, potentials = Network(convert(model, x).module)(x)
    model.use = lambda y: torch.cat((3 * y[0], 2 * y[1]), -1)
    torch.testing.assert_close(torch.cat((spikes, potentials), -1), theirs(model, x))


@pytest.mark.parametrize("place", [0, 1, 2], ids=["spikes", "potential", "both"])
def test_what_a_step_returns_is_what_is_wanted(place: int) -> None:
    model, x = Told(LATE, lambda y: y), sequence()
    used: Any = (lambda m, x: m(x)[0], lambda m, x: m(x)[1], lambda m, x: m(x))[place]
    found = convert(model, x, step=used)
    assert ("potential=" in found.rows[0].ours) == (place > 0)
    y = Network(found.module)(x)
    assert isinstance(y, tuple) == (place == 2)


FORMS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "returned": (lambda y: y, None),
    "by a step": (lambda y: y, lambda model, x: model(x)),
    "in a dictionary": (lambda y: {"spikes": y[0], "potential": y[1]}, None),
    "in a list": (lambda y: [y[0], y[1]], None),
    "computed with": (lambda y: (y[0], y[1] * 1.0), None),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_potential_that_is_returned_is_kept_however_it_is_given(form: str) -> None:
    use, step = FORMS[form]
    model, x = Told(LATE, use), sequence()
    found = convert(model, x, step=step)
    assert "potential=" in found.rows[0].ours and not any("not returned here" in each for each in found.remarks)
    y = Network(found.module)(x)
    spikes, potential = y.values() if isinstance(y, dict) else y
    model.use = lambda y: torch.cat((y[0], y[1]), -1)
    torch.testing.assert_close(torch.cat((spikes, potential), -1), theirs(model, x))


@pytest.mark.parametrize("step", [None, lambda model, x: model(x)], ids=["plain", "by a step"])
def test_a_state_that_cannot_be_returned_is_told(step: Any) -> None:
    model, x = Told(SYNAPTIC, lambda y: y), sequence()
    found = convert(model, x, step=step)
    assert "states of 'lif' that the model returns are not returned here: a run holds them" in found.remarks
    spikes, potential = Network(found.module)(x)
    model.use = lambda y: torch.cat((y[0], y[2]), -1)
    torch.testing.assert_close(torch.cat((spikes, potential), -1), theirs(model, x))


def test_the_state_of_a_cell_of_norse_is_told() -> None:
    imported("Norse")
    import norse.torch as library

    model = library.SequentialState(nn.Linear(4, 5), library.LIFBoxCell(dt=0.005))
    found = convert(model, 20 * sequence())
    assert "states of '1' that the model returns are not returned here: a run holds them" in found.remarks
    assert isinstance(Network(found.module)(sequence()), Tensor)


def test_a_current_that_is_used_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"uses the synaptic current of 'lif'.*step=lambda model, x"):
        convert(Told(SYNAPTIC, lambda y: y[0] + y[1]), sequence())


def test_spikes_without_a_reset_that_are_used_are_refused() -> None:
    with pytest.raises(ConversionError, match=r"uses the spikes of 'lif', which never resets its potential"):
        convert(Told(READOUT, lambda y: y[0] + y[1]), sequence())
    found = convert(Told(READOUT, lambda y: y), sequence())
    assert "its spikes are not" in found.rows[0].reason and found.rows[0].ours.startswith("LI(")


WRONG: dict[str, tuple[Line, Callable[[Mapping], None]]] = {
    "that after the reset for that before": (LATE, lambda m: setattr(m.neuron, "potential", "after reset")),
    "that before the reset for that after": (KEPT, lambda m: setattr(m.neuron, "potential", "before reset")),
    "that of a trained neuron": (BOTH, lambda m: setattr(m.neuron, "potential", "after reset")),
    "that of a neuron with a current": (SYNAPTIC, lambda m: setattr(m.neuron, "potential", "after reset")),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_potential_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    which, fault = WRONG[name]
    read = reading.Found.read

    def planted(self: Any, module: nn.Module, dtype: torch.dtype) -> Mapping:
        mapping = read(self, module, dtype)
        if self.potential:
            fault(mapping)
        return mapping

    model = Told(which, lambda y: 2 * y[-1])
    convert(model, sequence())
    monkeypatch.setattr(reading.Found, "read", planted)
    with pytest.raises(ConversionError, match=r"layer 'lif', .* was taken for .* theirs has the potential .*"):
        convert(model, sequence())


@pytest.mark.parametrize("decode", [None, "mean-mem", "last_mem"])
@pytest.mark.parametrize("stacked", [False, True])
def test_readouts_of_spikingjelly(decode: str | None, stacked: bool) -> None:
    imported("SpikingJelly")
    from spikingjelly.activation_based import layer, neuron

    class Net(nn.Sequential):
        def forward(self, input: Tensor) -> Any:
            y = super().forward(input)
            return torch.stack(y) if stacked and decode is None else y

    net = Net(
        layer.Linear(4, 5, step_mode="m"), neuron.IFNode(step_mode="m"), layer.Linear(5, 3, step_mode="m"),
        neuron.NonSpikingLIFNode(3.0, decode=decode),
    )  # fmt: skip
    found = convert(net, sequence())
    assert found.rows[1].ours == "LI(tau=3, gain=0.333333)" and found.rows[1].proven
    net.get_submodule("1").reset()  # type: ignore[operator]
    expected, y = net(sequence()), Network(found.module)(sequence())
    whole = {None: lambda y: y, "mean-mem": lambda y: y.mean(0), "last_mem": lambda y: y[-1]}[decode](y)
    torch.testing.assert_close(whole, torch.stack(expected) if isinstance(expected, list) else expected)
    assert any(isinstance(m, LI) for m in found.module.modules())
