"""Recurrent layers of SpikingJelly and snnTorch: converted with their own weights, and wrong ones are found."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop import convert, reading
from spikewright.interop.mapping import Mapping
from spikewright.interop.recurrence import Scale
from spikewright.interop.table import RECURRENT, Line
from spikewright.layers import Recurrent
from spikewright.losses import PerStep
from spikewright.network import Network
from spikewright.rules import BPTT, OTTT
from tests.interop.theirs import namespace

STEPS, BATCH, WIDTH = 12, 3, 5


def torches(**options: Any) -> Any:
    return namespace("snnTorch")["RLeaky"](0.6, **({"linear_features": WIDTH} | options))


def jelly(name: str, *given: Any, **options: Any) -> Any:
    names = namespace("SpikingJelly")
    node = names["LIFNode"](2.7, decay_input=False, v_reset=None)
    return names[name](node, *given, **options)


LAYERS: dict[str, Callable[[], Any]] = {
    "linear": torches,
    "hard, at once": lambda: torches(reset_mechanism="zero", reset_delay=False),
    "one factor": lambda: torches(V=0.5, all_to_all=False, linear_features=None),
    "factors, trained": lambda: torches(
        V=torch.linspace(-0.5, 0.5, WIDTH),
        all_to_all=False,
        linear_features=None,
        learn_beta=True,
        learn_threshold=True,
    ),
    "constant weights": lambda: torches(learn_recurrent=False),
    "side by side": lambda: jelly("LinearRecurrentContainer", WIDTH, WIDTH),
    "side by side, no bias": lambda: jelly("LinearRecurrentContainer", WIDTH, WIDTH, bias=False),
    "sum": lambda: jelly("ElementWiseRecurrentContainer", lambda y, x: x + y),
}


class Net(nn.Module):
    """A recurrent layer between linear ones."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.fc, self.layer, self.out = nn.Linear(4, WIDTH), layer, nn.Linear(WIDTH, 3)
        with torch.no_grad():
            self.fc.weight.abs_().mul_(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(self.fc(x))
        return self.out(y[0] if isinstance(y, tuple) else y)


def sequence() -> Tensor:
    return torch.rand(STEPS, BATCH, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", LAYERS)
def test_weights_are_shared_and_gradients_are_theirs(name: str) -> None:
    torch.manual_seed(0)
    model, x = Net(LAYERS[name]()), sequence()
    found = convert(model, x)
    row = found.rows[0]
    assert row.proven and not row.differing and not row.free
    own = {n: p for n, p in model.named_parameters() if p.requires_grad and not n.endswith((".beta", ".threshold"))}
    ours = {id(p) for p in found.module.parameters()}
    assert all(id(p) in ours for p in own.values())
    gradients = []
    for run in (lambda x: torch.stack([model(step) for step in x]), Network(found.module)):
        run(x).square().mean().backward()
        gradients.append([p.grad.clone() for p in own.values() if p.grad is not None])
        for p in own.values():
            p.grad = None
    assert len(gradients[0]) == len(own)
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_convolution_comes_back() -> None:
    cell = torches(linear_features=None, conv2d_channels=4, kernel_size=3)
    front = nn.Conv2d(1, 4, 3)
    model = nn.Sequential(front, cell)
    with torch.no_grad():
        front.weight.abs_().mul_(2)
    x = torch.rand(STEPS, BATCH, 1, 6, 6)
    found = convert(model, x, step=lambda model, x: model(x)[0])  # without the potential
    assert found.proven and not any(row.differing or row.free for row in found.rows)
    transform = next(m for m in found.module.modules() if isinstance(m, Recurrent)).transform
    assert transform.weight is cell.recurrent.weight


@pytest.mark.parametrize("rule", [BPTT, OTTT])
@pytest.mark.parametrize("name", ["linear", "side by side", "one factor"])
def test_training_it_trains_theirs(name: str, rule: Any) -> None:
    torch.manual_seed(0)
    model, x = Net(LAYERS[name]()), sequence()
    net, before = Network(convert(model, x).module), [p.detach().clone() for p in model.layer.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for update in rule().updates(net, x, torch.tensor([0, 1, 2]), PerStep(nn.CrossEntropyLoss())):
        del update
        optimizer.step()
    assert any(not torch.equal(one, p) for one, p in zip(before, model.layer.parameters()))
    found = convert(model, x)
    assert not any(row.free for row in found.rows)


def with_weights(cell: Any) -> Any:
    with torch.no_grad():
        cell.input_weights.copy_(torch.eye(WIDTH))
    return cell


OF_LINES: dict[str, Callable[[], Any]] = {
    "snnTorch RLeaky(beta, threshold=V, linear_features=N)": torches,
    "snnTorch RLeaky(beta, threshold=V, V=0.5, all_to_all=False)": LAYERS["one factor"],
    "SpikingJelly LinearRecurrentContainer(LIFNode(tau), N, N)": LAYERS["side by side"],
    "SpikingJelly ElementWiseRecurrentContainer(LIFNode(tau), lambda y, x: y + x)": LAYERS["sum"],
    "sinabs LIFRecurrent(tau, rec_connect=f)": lambda: namespace("sinabs")["LIFRecurrent"](
        tau_mem=3.0, rec_connect=nn.Linear(WIDTH, WIDTH)
    ),
    "Norse LIFRecurrentCell(M, N, p)": lambda: with_weights(namespace("Norse")["LIFRecurrentCell"](WIDTH, WIDTH)),
    "Norse LSNNCell(p)": lambda: namespace("Norse")["LSNNCell"](),
}


@pytest.mark.parametrize("line", RECURRENT, ids=lambda line: f"{line.library} {line.theirs}")
def test_every_line_is_converted_and_proven(line: Line) -> None:
    torch.manual_seed(0)
    layer = OF_LINES[f"{line.library} {line.theirs}"]()
    model: nn.Module = Net(layer)
    if line.library == "Norse":
        model.fc.weight.data.mul_(10)
        model = import_module("norse.torch").SequentialState(*model.children())
    found = convert(model, sequence().transpose(0, 1) if line.library == "sinabs" else sequence())
    (row,) = found.rows
    assert row.proven and not row.differing and not row.free
    assert ("SynapticDelay" if "Delay" in line.ours else "Recurrent(") in row.ours


def transposed(mapping: Mapping) -> Mapping:
    layer: Any = mapping.layer
    weight = nn.Linear(WIDTH, WIDTH)
    weight.weight.data, weight.bias.data = layer.transform.weight.detach().T.clone(), layer.transform.bias.detach()
    return replace(mapping, layer=Recurrent(mapping.neuron, weight, first="bias"))


def around(**changes: Any) -> Callable[[Mapping], Mapping]:
    def change(mapping: Mapping) -> Mapping:
        layer: Any = mapping.layer
        options = {"transform": layer.transform, "first": layer.first} | changes
        return replace(mapping, layer=Recurrent(mapping.neuron, options["transform"], first=options["first"]))

    return change


def widths_swapped(mapping: Mapping) -> Mapping:
    layer: Any = mapping.layer
    wrong, weight = nn.Linear(2 * WIDTH, WIDTH), layer.layer.weight.detach()
    wrong.weight.data, wrong.bias.data = weight.roll(WIDTH, 1).clone(), layer.layer.bias.detach().clone()
    return replace(mapping, layer=type(layer)(mapping.neuron, wrong))


WRONG: dict[str, tuple[str, Callable[[Mapping], Mapping]]] = {
    "bias of the first step missing": ("linear", around(first="nothing")),
    "weights transposed": ("linear", transposed),
    "nothing comes back": ("linear", around(transform=nn.Identity())),
    "factor a tenth off": ("one factor", around(transform=Scale(torch.tensor(0.55)))),
    "factors in another order": ("factors, trained", around(transform=Scale(torch.linspace(0.5, -0.5, WIDTH)))),
    "input and spikes swapped": ("side by side", widths_swapped),
    "spikes come back with the other sign": ("sum", around(transform=Scale(torch.tensor(-1.0)))),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_recurrence_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    which, fault = WRONG[name]
    model, x = Net(LAYERS[which]()), sequence()
    model.layer.requires_grad_(False)  # or weights that are not shared are refused
    convert(model, x)
    read = reading.Found.read
    monkeypatch.setattr(reading.Found, "read", lambda self, module, dtype: fault(read(self, module, dtype)))
    with pytest.raises(ConversionError, match=r"'layer'.*((which|this) is not rounding|before any spike)"):
        convert(model, x)
