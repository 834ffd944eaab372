"""A potential that bends somewhere is told from one that is linear, whatever is declared of it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from spikewright.neurons import Dynamics, Neuron
from spikewright.surrogate import Rectangle
from spikewright.temporal import SiteState
from spikewright.testing import assert_neuron
from spikewright.testing._cell import Cell
from spikewright.testing._potential import decay, linear, soft
from tests.testing.planted_neurons import Loop


class Own(Loop):
    """Leaky neurons whose current, leak, potential, threshold and rest can be bent; nothing is wrong with them."""

    def __init__(self) -> None:
        super().__init__()
        self.surrogate = Rectangle(1.0)  # without a slope far from the threshold

    @property
    def dynamics(self) -> Dynamics:
        return Dynamics(decay=0.5, linear=True, binary=True, soft_reset=True, detached_reset=True)

    def enters(self, current: Tensor) -> Tensor:
        return current

    def leaks(self, v: Tensor) -> Tensor:
        return 0.5 * v

    def bent(self, u: Tensor) -> Tensor:
        return u

    def level(self, v: Tensor) -> Tensor:
        return torch.ones_like(v)

    def left(self, v: Tensor) -> Tensor:
        return v

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        v, sent = state.get("v", torch.zeros_like(x[0])), []
        for step in x:
            u, level = self.bent(self.leaks(v) + self.enters(step)), self.level(v)
            sent.append(self.surrogate(u - level))
            v = self.left(u - sent[-1].detach())
            v = v if through_time else v.detach()
        return torch.stack(sent), {"v": v}


class FloorBefore(Own):
    def bent(self, u: Tensor) -> Tensor:
        return u.clamp(min=-0.1)


class FloorAfter(Own):
    def left(self, v: Tensor) -> Tensor:
        return v.clamp(min=-0.1)


class FloorAtRest(Own):
    def left(self, v: Tensor) -> Tensor:
        return v.clamp(min=0)


class DeepFloor(Own):
    def left(self, v: Tensor) -> Tensor:
        return v.clamp(min=-300)


class Soft(Own):
    def left(self, v: Tensor) -> Tensor:
        return torch.where(v < 0, 4 * torch.tanh(v / 4), v)


class StraightThrough(Own):
    """A floor that the gradient does not see."""

    def left(self, v: Tensor) -> Tensor:
        return v + (v.clamp(min=-2) - v).detach()


class Squashed(Own):
    def bent(self, u: Tensor) -> Tensor:
        return 8 * torch.tanh(u / 8)


class SquashedCurrent(Own):
    def enters(self, current: Tensor) -> Tensor:
        return torch.where(current < 0, 3 * torch.tanh(current / 3), current)


class LeakOfPotential(Own):
    def leaks(self, v: Tensor) -> Tensor:
        return torch.where(v < -1, 0.4, 0.5) * v


class Quadratic(Own):
    def leaks(self, v: Tensor) -> Tensor:
        return 0.5 * v + 1e-3 * v.clamp(-1, 1).square()


class CoupledThreshold(Own):
    def level(self, v: Tensor) -> Tensor:
        return 1 + 0.2 * v.abs().clamp(max=10)


class Ceiling(Own):
    """Clipped above the threshold only."""

    def bent(self, u: Tensor) -> Tensor:
        return u.clamp(max=1.5)


class CeilingAfter(Own):
    def left(self, v: Tensor) -> Tensor:
        return v.clamp(max=6)


class ShareOff(Own):
    """A spike takes off more of a high potential."""

    def left(self, v: Tensor) -> Tensor:
        return torch.where(v >= 0.25, 0.75 * v + 0.0625, v)


class NoSingleDecay(FloorAfter):
    """Declares no decay, nor anything of its reset."""

    @property
    def dynamics(self) -> Dynamics:
        return Dynamics(linear=True)


BENT: dict[str, type[Own]] = {
    kind.__name__: kind
    for kind in (
        *(FloorBefore, FloorAfter, FloorAtRest, DeepFloor, Soft, StraightThrough, Squashed, SquashedCurrent),
        *(LeakOfPotential, Quadratic, CoupledThreshold, NoSingleDecay),
    )
}
RESET: dict[str, type[Own]] = {kind.__name__: kind for kind in (Ceiling, CeilingAfter, ShareOff)}


@pytest.mark.parametrize("name", BENT)
def test_a_potential_that_is_not_linear(name: str) -> None:
    said = rf"^{name}\(.* breaks the contract 'linear' on .*moves the current at which it fires next by"
    with pytest.raises(AssertionError, match=said):
        assert_neuron(BENT[name])


@pytest.mark.parametrize("name", RESET)
def test_a_reset_that_takes_off_no_constant(name: str) -> None:
    with pytest.raises(AssertionError, match=rf"^{name}\(.* breaks the contract '(linear|soft reset)' on"):
        assert_neuron(RESET[name])


@pytest.mark.parametrize("name", ["FloorAfter", "CoupledThreshold", "Ceiling"])
def test_nothing_is_asked_of_what_is_not_declared(name: str) -> None:
    kind = {**BENT, **RESET}[name]
    assert_neuron(type("Undeclared", (kind,), {"dynamics": Dynamics()}))


class Delayed(Own):
    """Fires by the potential of the step before."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        v, sent = state.get("v", torch.zeros_like(x[0])), []
        for step in x:
            sent.append(self.surrogate(v - 1))
            v = 0.5 * (v - sent[-1].detach()) + step
            v = v if through_time else v.detach()
        return torch.stack(sent), {"v": v}


class Adaptive(Own):
    """Its spikes raise the threshold, in a trace of their own."""

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        v, a = (state.get(key, torch.zeros_like(x[0])) for key in ("v", "a"))
        sent = []
        for step in x:
            u = 0.5 * v + step
            sent.append(self.surrogate(u - 1 - a))
            a = 0.9 * a + 0.3 * sent[-1].detach()
            v = u - sent[-1].detach()
            v = v if through_time else v.detach()
        return torch.stack(sent), {"v": v, "a": a}


class Slow(Loop):
    kept = told = 1 - 1 / 40


@pytest.mark.parametrize("make", [Own, Delayed, Adaptive, Slow])
def test_what_is_linear_passes(make: Callable[[], Neuron]) -> None:
    """The scans differ: in when they fire, in what else they carry, in how long they remember."""
    cell = Cell(make, 2)
    for contract in (linear, soft, decay):
        contract(cell)


def test_a_neuron_that_no_current_moves_is_told_to_leave_it_out() -> None:
    class Bounded(Own):
        """Fires when a sum of many currents is high; no single current is enough."""

        def enters(self, current: Tensor) -> Tensor:
            return current.clamp(max=0.7)

    with pytest.raises(AssertionError, match=r"'linear' on .*no current makes it fire .*Leave linear out"):
        assert_neuron(Bounded)
