"""An error that the code of a network raises is shown as it is, with the name of the layer."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import spikewright as sw
from spikewright.errors import NetworkError, ShapeError
from spikewright.losses import OnRate, PerStep
from spikewright.rules import BPTT, DSR, OTTT
from spikewright.temporal import SiteState

X, Y = torch.rand(50, 2, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1])


class Mine(nn.Module):
    """Does what it is given."""

    def __init__(self, does: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.does = does

    def forward(self, x: Tensor) -> Any:
        return self.does(x)


def network(does: Callable[[Tensor], Any]) -> sw.Network:
    return sw.Network(nn.Sequential(nn.Linear(4, 4), Mine(does), sw.IF(), nn.Linear(4, 3)).float())


def fail(x: Tensor) -> Tensor:
    raise RuntimeError("mine")


def matched(x: Tensor) -> Tensor:
    return x + (torch.ones(3, 4) @ torch.ones(5, 6)).sum()


def viewed(x: Tensor) -> Tensor:
    return x + torch.ones(4).view(3, -1).sum()


def large(x: Tensor) -> Tensor:
    if x.detach().abs().max() > 1.25:
        raise RuntimeError("too large")
    return x


EARLY = {"said": (fail, "mine"), "shapes": (matched, "3x4 and 5x6"), "view": (viewed, r"shape '\[3, -1\]'")}


def notes(error: BaseException) -> str:
    return " ".join(getattr(error, "__notes__", []))


@pytest.mark.parametrize("name", EARLY)
def test_errors_of_a_forward(name: str) -> None:
    does, message = EARLY[name]
    with pytest.raises(RuntimeError, match=message) as caught:
        network(does).run(X)
    assert type(caught.value) is RuntimeError and "'1' (Mine) raised this" in notes(caught.value)
    assert "transpose" not in str(caught.value)


@pytest.mark.parametrize("name", EARLY)
@pytest.mark.parametrize("use", ["run", "BPTT", "OTTT", "DSR", "certify"])
def test_errors_that_come_later(name: str, use: str) -> None:
    """With more rows than the network was looked at with."""
    does, message = EARLY[name]
    net = network(lambda x: does(x) if len(x) > 40 else x)
    loss = OnRate(nn.CrossEntropyLoss()) if use == "DSR" else PerStep(nn.CrossEntropyLoss())
    uses: dict[str, Callable[[], object]] = {
        "run": lambda: net.run(X),
        "BPTT": lambda: list(BPTT().updates(net, X, Y, loss)),
        "OTTT": lambda: list(OTTT(chunk=None).updates(net, X, Y, loss)),
        "DSR": lambda: list(DSR().updates(net, X, Y, loss)),
        "certify": lambda: sw.certify(net, BPTT(), X, Y, loss),
    }
    with pytest.raises(RuntimeError, match=message) as caught:
        uses[use]()
    assert type(caught.value) is RuntimeError and notes(caught.value) == "'1' (Mine) raised this in a run."


def test_an_error_of_a_forward_at_rates() -> None:
    """Where gradients are on, and there is a row per sample."""
    net = network(lambda x: fail(x) if torch.is_grad_enabled() and len(x) == 2 else x)
    with pytest.raises(RuntimeError, match="mine") as caught:
        list(DSR().updates(net, X, Y, OnRate(nn.CrossEntropyLoss())))
    assert notes(caught.value) == "'1' (Mine) raised this in a run."


def test_an_error_about_values_is_not_one_about_rows() -> None:
    """The probe shows other samples, near the ends of the range of x, to the network."""
    module = nn.Sequential(Mine(large), sw.IF(), nn.Linear(4, 3)).float()
    x = torch.full((3, 2, 4), 0.5)
    x[..., 0] = 1.25
    with pytest.raises(RuntimeError, match="too large") as caught:
        sw.Network(module).run(x)
    assert "'0' (Mine) raised this" in notes(caught.value)

    def four(rows: Tensor) -> Tensor:
        assert len(rows) <= 4, "too many"
        return rows

    with pytest.raises(NetworkError, match=r"goes by the number of rows.*too many"):
        network(four).run(X)


def test_what_fails_for_the_shape_of_its_input_is_shown_as_it_is_beside_the_layout() -> None:
    for does, said in ((lambda x: x.view(-1, 5), "invalid for input"), (lambda x: x @ torch.ones(3, 3), "multiplied")):
        with pytest.raises(RuntimeError, match=said) as caught:
            network(does).run(X)
        assert not isinstance(caught.value, ShapeError)
        assert re.search(r"^'1' \(Mine\) raised this .* batch_first=True", notes(caught.value))


class Cell(sw.Neuron):
    """Neurons that do what they are given when they go on."""

    scan_uses = frozenset[str]()

    def __init__(self, does: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__(
            threshold=1.0, reset="subtract", detach_reset=True, surrogate=sw.surrogate.Sigmoid(4.0), inplace=False
        )
        self.does = does

    def scan(self, current: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        if state:
            self.does(current, state["v"])
        return (current > 1).to(current.dtype), {"v": current[-1]}


STATEFUL: dict[str, tuple[Callable[[Tensor, Tensor], Any], type[Exception]]] = {
    "said": (lambda x, v: fail(x), RuntimeError),
    "shapes": (lambda x, v: matched(x), ShapeError),
    "of both": (lambda x, v: x + v[:, :2], ShapeError),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_errors_of_neurons_that_go_on(name: str) -> None:
    """From a state that fits they are errors of the neurons; from another one they are of the state, unless said."""
    does, of_another = STATEFUL[name]
    net = sw.Network(nn.Sequential(nn.Linear(4, 4), Cell(does), nn.Linear(4, 3)).float())
    _, state = net.run(X)
    for given, kind in (state, RuntimeError), ({"1": {"v": torch.zeros(2, 3)}}, of_another):
        with pytest.raises(kind) as caught:
            net.run(X, given)
        assert type(caught.value) is kind
        assert kind is ShapeError or notes(caught.value) == "'1' (Cell) raised this in a run."
